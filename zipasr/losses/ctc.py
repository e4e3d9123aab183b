"""CTC loss, and the consistency loss between two augmented views of an utterance."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from zipasr.kernels.launch import CheckedKernels, differences, launch
from zipasr.losses.recursion import loss_dtype
from zipasr.losses.triton_backend import MAX_LANES, program_size
from zipasr.nn.masks import make_pad_mask
from zipasr.nn.numerics import to_device


def ctc_loss(log_probs: Tensor, lens: Tensor, targets: list[list[int]]) -> Tensor:
    """CTC loss, summed over the batch.

    Args:
        log_probs: (N, T', V) log-probabilities, blank at 0; computed in float32 (or float64).
        lens: (N,) integers, number of valid frames.
        targets: token ids of each utterance, without blanks.

    Returns:
        A scalar in nats. An utterance with too few frames for its tokens makes it +inf and
        contributes a gradient of 0, as in the transducer losses.

    Source: Graves et al., "Connectionist temporal classification", ICML 2006.
    """
    log_probs = log_probs.to(loss_dtype(log_probs))
    fits = max(map(len, targets), default=0) < MAX_LANES and log_probs.dtype == torch.float32
    if fits and KERNELS.work_on(log_probs.device):
        return _by_kernel(log_probs, lens, targets).sum()
    return _by_torch(log_probs, lens, targets).sum()


def _by_torch(log_probs: Tensor, lens: Tensor, targets: list[list[int]]) -> Tensor:
    """Losses (N,) by PyTorch, which waits for a GPU seven times: four forward, three backward."""
    joined = torch.tensor([t for tokens in targets for t in tokens], dtype=torch.int64)
    losses = torch.nn.functional.ctc_loss(
        log_probs.transpose(0, 1),
        to_device(joined, log_probs.device),
        # Wherever the labels are, their numbers are read on the host.
        lens.to("cpu", torch.int64),
        torch.tensor([len(tokens) for tokens in targets]),
        reduction="none",
        zero_infinity=True,
    )
    needed = torch.tensor([least_frames(tokens) for tokens in targets])
    too_short = to_device(needed > lens.cpu(), log_probs.device)
    return losses.masked_fill(too_short, float("inf"))


def least_frames(tokens: Sequence[int]) -> int:
    """Return how many frames CTC needs: one for each token, and a blank between equal ones."""
    return len(tokens) + sum(a == b for a, b in pairwise(tokens))


def _by_kernel(log_probs: Tensor, lens: Tensor, targets: list[list[int]]) -> Tensor:
    """Losses (N,) by the Triton kernel; with ``lens`` on the host nothing waits for the device."""
    width = max(map(len, targets), default=0)
    rows = [
        [*tokens, *[0] * (width + 1 - len(tokens)), len(tokens), num_frames]
        for tokens, num_frames in zip(targets, lens.tolist(), strict=True)
    ]
    table = to_device(torch.tensor(rows, dtype=torch.int64), log_probs.device)
    columns = table[:, None, : width + 1].expand(-1, log_probs.size(1), -1)
    losses: Tensor = _CtcScore.apply(log_probs.gather(2, columns), table)  # type: ignore[no-untyped-call]
    return -losses


class _CtcScore(torch.autograd.Function):
    """The kernel as one node of the graph: occupations are the derivative of the score."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, table: Tensor) -> Tensor:
        """Return (N,); arguments as those of ``kernels.triton.ctc.ctc_kernel``."""
        batch, num_frames, width = scores.shape
        lanes, num_warps = program_size(width)
        score, grad = scores.new_empty(batch), torch.zeros_like(scores)
        shares = scores.new_empty(batch, num_frames, 3, lanes)
        tensors = (scores, table, score, grad, shares, scores.new_empty(batch, 4, lanes))
        sizes = (num_frames, width - 1)
        launch(KERNELS.module.ctc_kernel, (batch,), num_warps, (*tensors, *sizes), lanes=lanes)
        ctx.save_for_backward(grad)
        return score

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, score_grad: Tensor) -> tuple[Tensor, None]:
        (grad,) = ctx.saved_tensors
        return score_grad[:, None, None] * grad, None


def _errors(device: torch.device) -> list[float]:
    """Differences of losses and gradients from PyTorch's; tokens exceed a warp, some repeat."""
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 90, 6, generator=g).to(device)
    targets = [torch.randint(1, 6, (size,), generator=g).tolist() for size in (40, 5, 0)]
    found = []
    for losses in (_by_kernel, _by_torch):
        leaf = logits.clone().requires_grad_()
        values = losses(leaf.log_softmax(2), torch.tensor([90, 70, 40]), targets)
        values.sum().backward()  # type: ignore[no-untyped-call]
        assert leaf.grad is not None
        found.append((values.detach(), leaf.grad))
    return differences(*found)


KERNELS = CheckedKernels("ctc", _errors, "PyTorch computes CTC, and waits for the GPU seven times.")


def consistency_loss(log_probs: Tensor, lens: Tensor) -> Tensor:
    """Divergence between the CTC distributions of two views, in both directions, summed.

    Each view is drawn towards the other: sum over frames and V of ``q (log q - log p)``, with p
    the distribution of this view and q that of the other one, which gets no gradient from it.

    Args:
        log_probs: (2N, T', V) log-probabilities; rows n and N + n are views of one utterance.
            Computed in float32 (or float64).
        lens: (2N,) integers, number of valid frames; frames beyond count nothing.

    Returns:
        A scalar in nats, at least 0.

    Raises:
        ValueError: the number of rows is odd.

    Source: Yao et al., "CR-CTC: consistency regularization on CTC for improved speech
    recognition", 2024.
    """
    if log_probs.size(0) % 2:
        raise ValueError(f"views come in pairs, got {log_probs.size(0)} rows")
    own = log_probs.to(loss_dtype(log_probs))
    other = own.detach().roll(own.size(0) // 2, dims=0)
    padding = make_pad_mask(lens, own.size(1), own.device)
    with torch.autocast(own.device.type, enabled=False):
        by_token = torch.nn.functional.kl_div(own, other, reduction="none", log_target=True)
        return by_token.masked_fill(padding[:, :, None], 0.0).sum()
