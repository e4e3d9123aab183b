import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.losses.oracle import TYPES, Batch, Golden, enumerated_loss
from zipasr.base.errors import DataError
from zipasr.losses import rnnt_loss_simple, rnnt_loss_smoothed

SIZES = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(0, 4))
GOLDEN_FILES = ["simple_small", "simple_ragged", "simple_blank_last"]
GOLDEN_FILES += ["smoothed_ragged", "smoothed_blank_last"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", GOLDEN_FILES)
def test_golden(name: str, dtype: torch.dtype) -> None:
    golden, exact = Golden(name, dtype), Golden(name)
    for i, run in enumerate(golden.info["runs"]):
        am, lm = golden["am"].requires_grad_(), golden["lm"].requires_grad_()
        loss, occupations = rnnt_loss_smoothed(
            lm,
            am,
            golden["symbols"],
            golden.info["blank"],
            lm_only_scale=run["lm_only_scale"] or 0.0,
            am_only_scale=run["am_only_scale"] or 0.0,
            boundary=golden.boundary(),
            rnnt_type=run["rnnt_type"],
            delay_penalty=run["delay_penalty"],
            reduction="none",
            return_grad=True,
        )
        loss.sum().backward()
        atol = 1e-9 if run["delay_penalty"] == 0 else 1e-7
        rtol = 0.0
        if dtype == torch.float32:
            atol, rtol = 1e-4, 1e-5
        close = {"rtol": rtol, "atol": atol}
        torch.testing.assert_close(loss.double(), exact[f"{i}.loss"], **close)
        torch.testing.assert_close(am.grad.double(), exact[f"{i}.am_grad"], **close)
        torch.testing.assert_close(lm.grad.double(), exact[f"{i}.lm_grad"], **close)
        if f"{i}.px_grad" in exact:
            torch.testing.assert_close(occupations[0].double(), exact[f"{i}.px_grad"], **close)
            torch.testing.assert_close(occupations[1].double(), exact[f"{i}.py_grad"], **close)


def test_golden_empty_labels_and_single_frame() -> None:
    golden = Golden("empty_label")
    am, lm = golden["am"].requires_grad_(), golden["lm"].requires_grad_()
    loss, (px_grad, py_grad) = rnnt_loss_smoothed(
        lm,
        am,
        golden["symbols"],
        0,
        0.25,
        0.0,
        golden["boundary"],
        reduction="none",
        return_grad=True,
    )
    loss.sum().backward()
    for value, key in (
        (loss, "loss"),
        (px_grad, "px_grad"),
        (py_grad, "py_grad"),
        (am.grad, "am_grad"),
        (lm.grad, "lm_grad"),
    ):
        torch.testing.assert_close(value, golden[key], rtol=0, atol=1e-9)


@pytest.mark.parametrize("rnnt_type", TYPES)
@pytest.mark.parametrize("scales", [(0.0, 0.0), (0.25, 0.0), (0.2, 0.3)])
def test_equals_enumeration(rnnt_type: str, scales: tuple[float, float]) -> None:
    batch = Batch(11, (2, 4, 3), rnnt_type=rnnt_type)
    joint = (batch.am[:, :, None] + batch.lm[:, None]).log_softmax(3)
    lm_only = batch.lm.log_softmax(2)
    unigram = batch.lm.softmax(2).mean((0, 1)).log()
    am_only = (batch.am + unigram).log_softmax(2)
    expected = []
    for n, (s_end, t_end) in enumerate(batch.boundary[:, 2:].tolist()):

        def log_prob(s: int, t: int, v: int, n: int = n) -> torch.Tensor:
            parts = joint[n, t, s, v], lm_only[n, s, v], am_only[n, t, v]
            return (1 - sum(scales)) * parts[0] + scales[0] * parts[1] + scales[1] * parts[2]

        symbols = batch.symbols[n, :s_end].tolist()
        expected.append(enumerated_loss(log_prob, symbols, t_end, 0, rnnt_type, 0.1))
    inputs = (batch.lm, batch.am, batch.symbols, 0, *scales, batch.boundary)
    losses = rnnt_loss_smoothed(*inputs, rnnt_type, 0.1, reduction="none")
    torch.testing.assert_close(losses, torch.stack(expected))


@pytest.mark.parametrize("rnnt_type", TYPES)
@pytest.mark.parametrize("scales", [(0.0, 0.0), (0.2, 0.3)])
def test_gradient(rnnt_type: str, scales: tuple[float, float]) -> None:
    batch = Batch(12, (2, 3, 2), vocab=3, rnnt_type=rnnt_type)
    torch.autograd.gradcheck(
        lambda lm, am: rnnt_loss_smoothed(
            lm, am, batch.symbols, 0, *scales, batch.boundary, rnnt_type, 0.1, "none"
        ),
        (batch.lm.requires_grad_(), batch.am.requires_grad_()),
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), sizes=SIZES, rnnt_type=st.sampled_from(TYPES))
def test_batch_is_the_sum_of_its_utterances_without_their_padding(
    seed: int, sizes: tuple[int, int, int], rnnt_type: str
) -> None:
    batch = Batch(seed, sizes, rnnt_type=rnnt_type)
    am, lm = batch.am.requires_grad_(), batch.lm.requires_grad_()
    inputs = (batch.symbols, 0, 0.25, 0.0, batch.boundary, rnnt_type)
    total = rnnt_loss_smoothed(lm, am, *inputs, reduction="sum")
    grads = torch.autograd.grad(total, (am, lm))
    alone = []
    for n, (s, t) in enumerate(batch.boundary[:, 2:].tolist()):
        parts = lm[n : n + 1, : s + 1], am[n : n + 1, :t], batch.symbols[n : n + 1, :s]
        alone.append(rnnt_loss_smoothed(*parts, 0, 0.25, 0.0, None, rnnt_type, reduction="sum"))
    torch.testing.assert_close(total, torch.stack(alone).sum())
    expected = torch.autograd.grad(torch.stack(alone).sum(), (am, lm))
    torch.testing.assert_close(grads, expected)


@pytest.mark.parametrize("rnnt_type", TYPES)
def test_junk_in_the_padding_changes_no_bit(rnnt_type: str) -> None:
    batch = Batch(13, rnnt_type=rnnt_type)
    s_lens, t_lens = batch.boundary[:, 2], batch.boundary[:, 3]

    def loss_and_grads(
        lm: torch.Tensor, am: torch.Tensor, symbols: torch.Tensor
    ) -> list[torch.Tensor]:
        lm, am = lm.clone().requires_grad_(), am.clone().requires_grad_()
        inputs = (symbols, 0, 0.25, 0.0, batch.boundary, rnnt_type, 0.1)
        loss = rnnt_loss_smoothed(lm, am, *inputs, reduction="none")
        return [loss, *torch.autograd.grad(loss.sum(), (lm, am))]

    expected = loss_and_grads(batch.lm, batch.am, batch.symbols)
    lm = batch.lm.masked_fill((torch.arange(batch.s + 1) > s_lens[:, None])[..., None], 3.0)
    am = batch.am.masked_fill((torch.arange(batch.t) >= t_lens[:, None])[..., None], -7.0)
    symbols = batch.symbols.masked_fill(torch.arange(batch.s) >= s_lens[:, None], -1)
    for value, reference in zip(loss_and_grads(lm, am, symbols), expected, strict=True):
        assert torch.equal(value, reference)


@pytest.mark.parametrize("rnnt_type", TYPES)
def test_more_padding_changes_only_the_rounding_of_the_matrix_product(rnnt_type: str) -> None:
    batch = Batch(19, rnnt_type=rnnt_type)
    results = []
    for frames, labels in ((0, 0), (3, 0), (0, 2), (4, 5)):
        am, lm = batch.am.clone().requires_grad_(), batch.lm.clone().requires_grad_()
        loss = rnnt_loss_smoothed(
            torch.nn.functional.pad(lm, (0, 0, 0, labels), value=1.0),
            torch.nn.functional.pad(am, (0, 0, 0, frames), value=2.0),
            torch.nn.functional.pad(batch.symbols, (0, labels)),
            0,
            0.25,
            0.0,
            batch.boundary,
            rnnt_type,
            reduction="none",
        )
        results.append([loss, *torch.autograd.grad(loss.sum(), (am, lm))])
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-12, atol=1e-12)


def test_simple_is_smoothed_with_scales_zero() -> None:
    batch = Batch(14)
    inputs = (batch.lm, batch.am, batch.symbols, 0)
    simple = rnnt_loss_simple(*inputs, boundary=batch.boundary)
    smoothed = rnnt_loss_smoothed(*inputs, 0.0, 0.0, boundary=batch.boundary)
    assert torch.equal(simple, smoothed)
    loss, occupations = rnnt_loss_simple(*inputs, boundary=batch.boundary, return_grad=True)
    assert torch.equal(loss, simple)
    assert [tuple(x.shape) for x in occupations] == [(3, 4, 7), (3, 5, 6)]


def test_scales_that_add_up_to_one_give_a_finite_loss() -> None:
    batch = Batch(15)
    loss = rnnt_loss_smoothed(batch.lm, batch.am, batch.symbols, 0, 0.5, 0.5, batch.boundary)
    assert loss.isfinite()


def test_large_logits() -> None:
    batch = Batch(16, (4, 20, 8), vocab=20)
    am, lm = (25 * batch.am).float(), (25 * batch.lm).float()
    am.requires_grad_()
    lm.requires_grad_()
    loss = rnnt_loss_simple(lm, am, batch.symbols, 0, batch.boundary, reduction="sum")
    loss.backward()
    assert loss.isfinite()
    assert am.grad.isfinite().all()
    assert lm.grad.isfinite().all()


def test_autocast_and_half_precision_input_are_computed_in_float32() -> None:
    batch = Batch(17)
    lm, am = batch.lm.bfloat16(), batch.am.bfloat16()
    expected = rnnt_loss_simple(lm.float(), am.float(), batch.symbols, 0, batch.boundary)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = rnnt_loss_simple(lm, am, batch.symbols, 0, batch.boundary)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)


def test_refuses_what_does_not_fit() -> None:
    batch = Batch(18, (2, 3, 5))
    with pytest.raises(ValueError, match="do not fit"):
        rnnt_loss_simple(batch.lm[:, :-1], batch.am, batch.symbols, 0)
    with pytest.raises(DataError, match="5 tokens but only 3 frames"):
        rnnt_loss_simple(batch.lm, batch.am, batch.symbols, 0, rnnt_type="modified")
    with pytest.raises(ValueError, match="reduction"):
        rnnt_loss_simple(batch.lm, batch.am, batch.symbols, 0, reduction="avg")
