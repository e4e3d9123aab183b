"""From logits to arc weights: a log-softmax of which a lattice needs two entries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ArcsForward = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor, Tensor]]
ArcsBackward = Callable[[Tensor, Tensor, Tensor, int, Tensor, Tensor, bool], Tensor]


def loss_dtype(x: Tensor) -> torch.dtype:
    """Precision in which the losses of ``x`` are computed: float64 stays, all else is float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def softmax_arcs(logits: Tensor, targets: Tensor, blank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return log-normalisers and log-probabilities of the target and of blank.

    Args:
        logits: (N, T, R, V).
        targets: (N, T, R); negative where no path comes, there both probabilities are 0.
        blank: the id of blank.

    Returns:
        lse, px and py, each (N, T, R).
    """
    x = logits.to(loss_dtype(logits))
    lse = x.logsumexp(3)
    px = x.gather(3, targets.clamp(min=0)[..., None])[..., 0] - lse
    closed = targets < 0
    py = (x[..., blank] - lse).masked_fill(closed, float("-inf"))
    return lse, px.masked_fill_(closed, float("-inf")), py


def softmax_arcs_grad(
    logits: Tensor,
    lse: Tensor,
    targets: Tensor,
    blank: int,
    px_grad: Tensor,
    py_grad: Tensor,
    in_place: bool,
) -> Tensor:
    """Return the gradient of the logits, in their type; in their memory if ``in_place``."""
    total = (px_grad + py_grad)[..., None]
    grad = (logits.to(lse.dtype) - lse[..., None]).exp_().mul_(-total)
    grad.masked_fill_(total == 0, 0.0)  # also where the logits are junk
    grad.scatter_add_(3, targets.clamp(min=0)[..., None], px_grad[..., None])
    grad[..., blank] += py_grad
    return logits.copy_(grad) if in_place else grad.to(logits.dtype)


class Arcs(torch.autograd.Function):
    """Log-softmax and both picks as one node: it keeps the logits, and no second such tensor."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        targets: Tensor,
        blank: int,
        forward: ArcsForward,
        backward: ArcsBackward,
        in_place: bool,
    ) -> tuple[Tensor, Tensor]:
        """Return px and py, computed by ``forward``; the gradient by ``backward``."""
        lse, px, py = forward(logits, targets, blank)
        ctx.save_for_backward(logits, lse, targets)
        ctx.blank, ctx.compute_grad, ctx.in_place = blank, backward, in_place
        return px, py

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, px_grad: Tensor, py_grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of the logits."""
        logits, lse, targets = ctx.saved_tensors
        if ctx.in_place:
            # Whoever still needs the logits, a second backward pass for one, is told by autograd.
            torch.autograd.graph.increment_version(logits)
        grad = ctx.compute_grad(
            logits.detach(), lse, targets, ctx.blank, px_grad, py_grad, ctx.in_place
        )
        return grad, None, None, None, None, None
