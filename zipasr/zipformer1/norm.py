"""BasicNorm: divide by the RMS, with one learned constant for all channels."""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor, nn

from zipasr.nn.precision import at_least_float32

EPS_LIMIT = 3.0


class BasicNorm(nn.Module):
    """``x / sqrt(mean(x^2) + exp(eps))`` over the last dimension; no mean is subtracted.

    Key: ``eps`` (), the logarithm of the constant.

    Args:
        initial: of the constant itself.
    """

    def __init__(self, initial: float = 0.25) -> None:
        super().__init__()
        self.eps = nn.Parameter(torch.tensor(math.log(initial)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised ``x``, (..., C)."""
        eps: Tensor = self.eps
        if self.training and random.random() < 0.25:
            eps = eps.clamp(-EPS_LIMIT, EPS_LIMIT)
        wide = at_least_float32(x)
        power = wide.square().mean(dim=-1, keepdim=True) + eps.exp()
        return (wide * power.rsqrt()).to(x.dtype)
