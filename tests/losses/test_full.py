import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.losses.oracle import TYPES, Batch, Golden, band_loss
from tests.peers import needed
from zipasr.losses import mutual_information_recursion, rnnt_loss


@pytest.mark.parametrize("name", ["full", "brute_full"])
def test_golden(name: str) -> None:
    golden = Golden(name)
    for i, run in enumerate(golden.info["runs"]):
        logits = golden.of_run(i, "logits").requires_grad_()
        loss = rnnt_loss(
            logits,
            golden.of_run(i, "symbols"),
            run.get("blank", golden.info.get("blank")),
            golden.boundary(),
            run["rnnt_type"],
            run["delay_penalty"],
            "none",
        )
        loss.sum().backward()
        has_rough_penalty = run["delay_penalty"] != 0 and name == "full"
        close = {"rtol": 0.0, "atol": 1e-7 if has_rough_penalty else 1e-9}
        torch.testing.assert_close(loss, golden.of_run(i, "loss"), **close)
        torch.testing.assert_close(logits.grad, golden.of_run(i, "logits_grad"), **close)


@pytest.mark.parametrize("rnnt_type", TYPES)
@pytest.mark.parametrize(("s", "t"), [(0, 1), (0, 3), (1, 1), (1, 3), (2, 4), (3, 3)])
def test_equals_enumeration(s: int, t: int, rnnt_type: str) -> None:
    batch = Batch(41, (1, t, s))
    logits = batch.randn(1, t, s + 1, 5).requires_grad_()
    loss = rnnt_loss(logits, batch.symbols, 4, None, rnnt_type, 0.1, "sum")
    expected = band_loss(logits[0], batch.symbols[0], [0] * t, 4, rnnt_type, delay_penalty=0.1)
    torch.testing.assert_close(loss, expected)
    grads = [torch.autograd.grad(x, logits)[0] for x in (loss, expected)]
    torch.testing.assert_close(grads[0], grads[1])


@pytest.mark.filterwarnings("ignore")  # torchaudio announces the end of its loss
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 6)),
)
def test_equals_torchaudio(seed: int, sizes: tuple[int, int, int]) -> None:
    batch = Batch(seed, sizes)
    logits = batch.randn(batch.n, batch.t, batch.s + 1, 5).float().requires_grad_()
    lens = batch.boundary.int()
    expected = needed("torchaudio.functional").rnnt_loss(
        logits,
        batch.symbols.int(),
        lens[:, 3].contiguous(),
        lens[:, 2].contiguous(),
        blank=0,
        reduction="none",
    )
    loss = rnnt_loss(logits, batch.symbols, 0, batch.boundary, reduction="none")
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    grads = [torch.autograd.grad(x.sum(), logits)[0] for x in (loss, expected)]
    torch.testing.assert_close(grads[0], grads[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("rnnt_type", TYPES)
def test_equals_the_recursion_on_log_probabilities(rnnt_type: str) -> None:
    batch = Batch(42, rnnt_type=rnnt_type)
    logits = batch.randn(3, 6, 5, 5).requires_grad_()
    log_probs = logits.log_softmax(3).transpose(1, 2)  # (N, S + 1, T, V)
    labels = batch.symbols[:, :, None, None].expand(-1, -1, 6, 1)
    px, py = log_probs[:, :-1].gather(3, labels)[..., 0], log_probs[..., 0]
    if rnnt_type == "regular":
        px = torch.nn.functional.pad(px, (0, 1), value=-torch.inf)
        is_end = torch.arange(7) == batch.boundary[:, 3, None, None]
        px = px.masked_fill(is_end, -torch.inf)
    if rnnt_type == "constrained":
        px = px + py[:, 1:]
    expected = -mutual_information_recursion(px, py, batch.boundary)
    loss = rnnt_loss(logits, batch.symbols, 0, batch.boundary, rnnt_type, reduction="none")
    torch.testing.assert_close(loss, expected)
    grads = [torch.autograd.grad(x.sum(), logits)[0] for x in (loss, expected)]
    torch.testing.assert_close(grads[0], grads[1])


@pytest.mark.parametrize("rnnt_type", TYPES)
def test_gradient(rnnt_type: str) -> None:
    batch = Batch(43, (2, 3, 2), rnnt_type=rnnt_type)
    logits = batch.randn(2, 3, 3, 5).requires_grad_()
    inputs = (batch.symbols, 0, batch.boundary, rnnt_type, 0.1, "none")
    torch.autograd.gradcheck(lambda z: rnnt_loss(z, *inputs), (logits,))


def test_refuses_a_wrong_number_of_label_positions() -> None:
    with pytest.raises(ValueError, match="S \\+ 1"):
        rnnt_loss(torch.zeros(1, 3, 2, 4), torch.ones(1, 2, dtype=torch.int64), 0)
