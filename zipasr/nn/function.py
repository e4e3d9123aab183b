"""The one place where torch's untyped custom functions get a typed call."""

from typing import cast

import torch
from torch import Tensor


class _NoContext:
    """Takes what a forward pass wants to remember, and forgets it."""

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep nothing: there will be no backward pass."""


class TensorFunction(torch.autograd.Function):
    """An autograd function with one output: subclasses define ``forward`` and ``backward``."""

    @classmethod
    def call(cls, *args: object) -> Tensor:
        """Run the forward pass and record the backward pass; arguments as for ``forward``."""
        if not torch.is_grad_enabled():
            # Plain operations, so that tracing and export see what is inside.
            return cast(Tensor, cls.forward(_NoContext(), *args))
        return cast(Tensor, cls.apply(*args))  # type: ignore[no-untyped-call]
