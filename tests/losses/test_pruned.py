import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.losses.oracle import TYPES, Batch, Golden, band_loss
from zipasr.base.errors import DataError
from zipasr.losses import (
    do_rnnt_pruning,
    get_rnnt_prune_ranges,
    rnnt_loss_pruned,
    rnnt_loss_simple,
)

SIZES = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 5))


def random_band(batch: Batch, width: int, rnnt_type: str) -> torch.Tensor:
    """Ranges of a random but feasible band."""
    regular = rnnt_type == "regular"
    px_grad = batch.randn(batch.n, batch.s, batch.t + 1 if regular else batch.t).abs()
    py_grad = batch.randn(batch.n, batch.s + 1, batch.t).abs()
    return get_rnnt_prune_ranges(px_grad, py_grad, batch.boundary, width)


@pytest.mark.parametrize("name", ["pruned_ragged", "hat", "brute_pruned"])
def test_golden(name: str) -> None:
    golden = Golden(name)
    for i, run in enumerate(golden.info["runs"]):
        logits = golden.of_run(i, "logits").requires_grad_()
        loss = rnnt_loss_pruned(
            logits,
            golden.of_run(i, "symbols"),
            golden.of_run(i, "ranges"),
            run.get("blank", golden.info.get("blank")),
            golden.boundary(),
            run["rnnt_type"],
            run.get("delay_penalty", 0.0),
            "none",
            use_hat_loss=name == "hat",
        )
        loss.sum().backward()
        close = {"rtol": 0.0, "atol": 1e-7 if run.get("delay_penalty") else 1e-9}
        torch.testing.assert_close(loss, golden.of_run(i, "loss"), **close)
        torch.testing.assert_close(logits.grad, golden.of_run(i, "logits_grad"), **close)
        if run.get("infinite"):
            assert not logits.grad.any()


def test_golden_empty_labels_and_single_frame() -> None:
    golden = Golden("empty_label")
    logits = golden["pruned_logits"].requires_grad_()
    loss = rnnt_loss_pruned(
        logits, golden["symbols"], golden["ranges"], 0, golden["boundary"], reduction="none"
    )
    loss.sum().backward()
    torch.testing.assert_close(loss, golden["pruned_loss"], rtol=0, atol=1e-9)
    torch.testing.assert_close(logits.grad, golden["pruned_logits_grad"], rtol=0, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    t=st.integers(1, 4),
    s=st.integers(1, 3),
    width=st.integers(1, 3),
    rnnt_type=st.sampled_from(TYPES),
    data=st.data(),
)
def test_equals_enumeration_on_any_rising_band(
    seed: int, t: int, s: int, width: int, rnnt_type: str, data: st.DataObject
) -> None:
    if rnnt_type != "regular":
        s = min(s, t)
    width = min(width, s + 1)
    positions = st.integers(0, s + 1 - width)
    starts = sorted(data.draw(st.lists(positions, min_size=t, max_size=t)))
    batch = Batch(seed)
    logits = batch.randn(1, t, width, 4).requires_grad_()
    symbols = torch.randint(1, 4, (1, s), generator=batch.generator)
    ranges = torch.tensor(starts)[None, :, None] + torch.arange(width)
    loss = rnnt_loss_pruned(logits, symbols, ranges, 0, None, rnnt_type, 0.1, "sum")
    expected = band_loss(logits[0], symbols[0], starts, 0, rnnt_type, delay_penalty=0.1)
    torch.testing.assert_close(loss, expected.double())
    grad = torch.autograd.grad(loss, logits)[0]
    if expected.isinf():
        assert not grad.any()
    else:
        torch.testing.assert_close(grad, torch.autograd.grad(expected, logits)[0])


@pytest.mark.parametrize("use_hat_loss", [False, True])
@pytest.mark.parametrize("rnnt_type", TYPES)
def test_gradient(rnnt_type: str, use_hat_loss: bool) -> None:
    batch = Batch(32, (2, 4, 3), rnnt_type=rnnt_type)
    ranges = random_band(batch, 2, rnnt_type)
    logits = batch.randn(*ranges.shape, 4).requires_grad_()
    inputs = (batch.symbols % 4, ranges, 0, batch.boundary, rnnt_type, 0.1, "none", use_hat_loss)
    torch.autograd.gradcheck(lambda z: rnnt_loss_pruned(z, *inputs), (logits,))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), sizes=SIZES, rnnt_type=st.sampled_from(TYPES))
def test_full_band_of_an_additive_joiner_gives_the_simple_loss(
    seed: int, sizes: tuple[int, int, int], rnnt_type: str
) -> None:
    batch = Batch(seed, sizes, rnnt_type=rnnt_type)
    am, lm = batch.am.requires_grad_(), batch.lm.requires_grad_()
    options = {"boundary": batch.boundary, "rnnt_type": rnnt_type, "delay_penalty": 0.1}
    simple, occupations = rnnt_loss_simple(
        lm, am, batch.symbols, 0, reduction="none", return_grad=True, **options
    )
    ranges = get_rnnt_prune_ranges(*occupations, batch.boundary, 100)
    am_pruned, lm_pruned = do_rnnt_pruning(am, lm, ranges)
    pruned = rnnt_loss_pruned(
        am_pruned + lm_pruned, batch.symbols, ranges, 0, reduction="none", **options
    )
    torch.testing.assert_close(pruned, simple)
    grads = [torch.autograd.grad(loss.sum(), (am, lm)) for loss in (pruned, simple)]
    torch.testing.assert_close(grads[0], grads[1])


@pytest.mark.parametrize("rnnt_type", TYPES)
def test_wider_bands_lose_less(rnnt_type: str) -> None:
    batch = Batch(33, (3, 12, 6), rnnt_type=rnnt_type)
    options = {"boundary": batch.boundary, "rnnt_type": rnnt_type, "reduction": "none"}
    simple, occupations = rnnt_loss_simple(
        batch.lm, batch.am, batch.symbols, 0, return_grad=True, **options
    )
    losses = []
    for width in (2, 3, 4, 7):
        ranges = get_rnnt_prune_ranges(*occupations, batch.boundary, width)
        logits = sum(do_rnnt_pruning(batch.am, batch.lm, ranges))
        losses.append(rnnt_loss_pruned(logits, batch.symbols, ranges, 0, **options))
    assert all(loss.isfinite().all() for loss in losses)
    assert all((loss >= simple - 1e-9).all() for loss in losses)
    torch.testing.assert_close(losses[-1], simple)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), sizes=SIZES, rnnt_type=st.sampled_from(TYPES))
def test_padding_and_batch_mates_do_not_matter(
    seed: int, sizes: tuple[int, int, int], rnnt_type: str
) -> None:
    batch = Batch(seed, sizes, rnnt_type=rnnt_type)
    ranges = random_band(batch, 3, rnnt_type)
    logits = batch.randn(*ranges.shape, 5).requires_grad_()
    losses = rnnt_loss_pruned(
        logits, batch.symbols, ranges, 0, batch.boundary, rnnt_type, reduction="none"
    )
    grad = torch.autograd.grad(losses.sum(), logits)[0]
    for n, (_, t) in enumerate(batch.boundary[:, 2:].tolist()):
        one = slice(n, n + 1)
        alone = rnnt_loss_pruned(
            logits[one, :t], batch.symbols[one], ranges[one, :t], 0,
            torch.tensor([[0, 0, int(batch.boundary[n, 2]), t]]), rnnt_type, reduction="none",
        )  # fmt: skip
        torch.testing.assert_close(alone[0], losses[n])
        expected = torch.autograd.grad(alone.sum(), logits)[0]
        torch.testing.assert_close(grad[n], expected[n])
        assert not grad[n, t:].any()


@pytest.mark.parametrize("rnnt_type", TYPES)
def test_junk_in_the_padding_changes_no_bit(rnnt_type: str) -> None:
    batch = Batch(34, rnnt_type=rnnt_type)
    ranges = random_band(batch, 3, rnnt_type)
    logits = batch.randn(*ranges.shape, 5)
    s_lens, t_lens = batch.boundary[:, 2], batch.boundary[:, 3]
    is_padding = (torch.arange(batch.t) >= t_lens[:, None])[:, :, None]
    is_padding = is_padding | (ranges > s_lens[:, None, None])
    is_junk_symbol = torch.arange(batch.s) >= s_lens[:, None]
    results = []
    for junk in (None, 5.0):
        z, symbols = logits.clone(), batch.symbols
        if junk is not None:
            z[is_padding] = junk
            symbols = symbols.masked_fill(is_junk_symbol, -1)
        z.requires_grad_()
        loss = rnnt_loss_pruned(z, symbols, ranges, 0, batch.boundary, rnnt_type, reduction="none")
        results.append([loss, *torch.autograd.grad(loss.sum(), z)])
    assert all(torch.equal(x, y) for x, y in zip(*results, strict=True))


@pytest.mark.parametrize("rnnt_type", TYPES)
def test_impossible_band_has_no_gradient_and_leaves_the_others_alone(rnnt_type: str) -> None:
    batch = Batch(35, (3, 6, 4), rnnt_type=rnnt_type)
    batch.boundary[:] = torch.tensor([0, 0, 4, 6])
    ranges = random_band(batch, 2, rnnt_type)
    logits = batch.randn(*ranges.shape, 5).requires_grad_()
    options = {"boundary": batch.boundary, "rnnt_type": rnnt_type, "reduction": "none"}
    expected = rnnt_loss_pruned(logits, batch.symbols, ranges, 0, **options)
    expected_grad = torch.autograd.grad(expected.sum(), logits)[0]
    for broken in (torch.zeros(6), torch.ones(6), torch.tensor([0, 0, 0, 0, 0, 3])):
        bad = ranges.clone()
        bad[1] = broken.long()[:, None] + torch.arange(2)
        losses = rnnt_loss_pruned(logits, batch.symbols, bad, 0, **options)
        grad = torch.autograd.grad(losses.sum(), logits)[0]
        assert losses[1] == torch.inf
        assert not grad[1].any()
        assert torch.equal(losses[[0, 2]], expected[[0, 2]])
        assert torch.equal(grad[[0, 2]], expected_grad[[0, 2]])


def test_shift_of_all_logits_of_a_row_changes_nothing() -> None:
    batch = Batch(36)
    ranges = random_band(batch, 3, "regular")
    logits = batch.randn(*ranges.shape, 5)
    shifted = logits + 50 * batch.randn(*ranges.shape, 1)
    losses = [
        rnnt_loss_pruned(z, batch.symbols, ranges, 0, batch.boundary) for z in (logits, shifted)
    ]
    torch.testing.assert_close(losses[0], losses[1])


def test_half_precision_logits_are_computed_in_float32() -> None:
    batch = Batch(37)
    ranges = random_band(batch, 3, "regular")
    half = batch.randn(*ranges.shape, 5).bfloat16().requires_grad_()
    single = half.detach().float().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = rnnt_loss_pruned(half, batch.symbols, ranges, 0, batch.boundary)
    loss.backward()
    expected = rnnt_loss_pruned(single, batch.symbols, ranges, 0, batch.boundary)
    expected.backward()
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)
    assert torch.equal(half.grad, single.grad.bfloat16())


def test_large_logits_in_float32() -> None:
    batch = Batch(38, (3, 20, 8), vocab=10)
    ranges = random_band(batch, 4, "regular")
    exact = (25 * batch.randn(*ranges.shape, 10)).requires_grad_()
    rounded = exact.detach().float().requires_grad_()
    for z in (exact, rounded):
        rnnt_loss_pruned(z, batch.symbols, ranges, 0, batch.boundary, reduction="sum").backward()
    torch.testing.assert_close(rounded.grad.double(), exact.grad, rtol=0, atol=1e-3)


def test_refuses_what_does_not_fit() -> None:
    batch = Batch(39, (2, 3, 5))
    ranges = torch.arange(6).expand(2, 3, 6)
    logits = batch.randn(2, 3, 6, 5)
    with pytest.raises(ValueError, match="do not fit"):
        rnnt_loss_pruned(logits[:, :, :-1], batch.symbols, ranges, 0)
    with pytest.raises(DataError, match="5 tokens but only 3 frames"):
        rnnt_loss_pruned(logits, batch.symbols, ranges, 0, rnnt_type="constrained")
    with pytest.raises(ValueError, match="blank to be id 0"):
        rnnt_loss_pruned(logits, batch.symbols, ranges, 1, use_hat_loss=True)
    falling = torch.tensor([[1, 0, 0], [0, 0, 0]])[:, :, None] + torch.arange(5)
    with pytest.raises(ValueError, match="ranges fall"):
        rnnt_loss_pruned(logits[:, :, :5], batch.symbols, falling, 0)
    with pytest.raises(ValueError, match="columns 0 and 1"):
        rnnt_loss_pruned(logits, batch.symbols, ranges, 0, torch.tensor([[1, 0, 5, 3]] * 2))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("rnnt_type", TYPES)
def test_the_three_steps_on_cuda_equal_cpu(rnnt_type: str) -> None:
    batch = Batch(40, (3, 9, 5), rnnt_type=rnnt_type)
    results = []
    for device in ("cpu", "cuda"):
        am = batch.am.to(device).requires_grad_()
        lm = batch.lm.to(device).requires_grad_()
        symbols, boundary = batch.symbols.to(device), batch.boundary.to(device)
        options = {"boundary": boundary, "rnnt_type": rnnt_type, "reduction": "sum"}
        simple, occupations = rnnt_loss_simple(lm, am, symbols, 0, return_grad=True, **options)
        ranges = get_rnnt_prune_ranges(*occupations, boundary, 3)
        logits = torch.tanh(sum(do_rnnt_pruning(am, lm, ranges)))
        pruned = rnnt_loss_pruned(logits, symbols, ranges, 0, **options)
        (simple + pruned).backward()
        results.append([x.detach().cpu() for x in (simple, ranges, pruned, am.grad, lm.grad)])
    for cpu, gpu in zip(*results, strict=True):
        torch.testing.assert_close(gpu, cpu)
