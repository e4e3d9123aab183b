"""The Triton kernel of CTC on the CPU, by Triton's interpreter; run by test_ctc.py in a process.

The interpreter takes a millisecond per frame: the cases are few and small.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zipasr.losses import ctc

pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered")  # -inf - -inf, masked


def check(logits: torch.Tensor, lens: list[int], targets: list[list[int]]) -> torch.Tensor:
    """Compare losses and gradients with PyTorch's in float64; return the gradient."""
    leaf = logits.float().requires_grad_()
    losses = ctc._by_kernel(leaf.log_softmax(2), torch.tensor(lens), targets)
    exact = logits.double().requires_grad_()
    expected = ctc._by_torch(exact.log_softmax(2), torch.tensor(lens), targets)
    torch.testing.assert_close(losses.double(), expected, rtol=1e-6, atol=1e-5)
    weights = torch.arange(1.0, len(lens) + 1)
    (grad,) = torch.autograd.grad((weights * losses).sum(), leaf)
    (wanted,) = torch.autograd.grad((weights * expected).sum(), exact)
    torch.testing.assert_close(grad.double(), wanted, rtol=0, atol=1e-5)
    return grad


@given(st.data())
@settings(max_examples=20, deadline=None)
def test_losses_and_gradients_are_those_of_pytorch(data: st.DataObject) -> None:
    """Few tokens, which repeat, and utterances that are too short for theirs."""
    size = data.draw(st.integers(1, 3))
    lens = data.draw(st.lists(st.integers(1, 9), min_size=size, max_size=size))
    tokens = st.lists(st.integers(1, 3), max_size=6)
    targets = data.draw(st.lists(tokens, min_size=size, max_size=size))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    grad = check(3 * torch.randn(size, max(lens), 4, generator=generator), lens, targets)
    for row, num_frames in zip(grad, lens, strict=True):
        assert not row[num_frames:].any()


def test_long_utterances_stay_accurate() -> None:
    torch.manual_seed(0)
    targets = [torch.randint(1, 20, (40,)).tolist(), [1] * 33]
    check(5 * torch.randn(2, 200, 20), [200, 120], targets)


def test_a_token_that_cannot_be_and_a_nan_that_stays_visible() -> None:
    log_probs = torch.randn(3, 4, 3).log_softmax(2)
    log_probs[0, :, 2] = -torch.inf
    log_probs[1, 2, 1] = torch.nan
    leaf = log_probs.requires_grad_()
    losses = ctc._by_kernel(leaf, torch.tensor([4, 4, 4]), [[1, 2], [1], [2]])
    assert losses[0] == torch.inf
    assert losses.isnan().tolist() == [False, True, False]
    (grad,) = torch.autograd.grad(losses[[0, 2]].sum(), leaf)
    assert not grad[0].any()
    assert bool(grad[2].isfinite().all())
