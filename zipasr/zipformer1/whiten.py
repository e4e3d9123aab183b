"""Whiten as the first Zipformer has it: how often it acts is settled in the forward pass."""

from __future__ import annotations

import random

from torch import Tensor

from zipasr.nn.precision import no_autocast
from zipasr.nn.whiten import Whiten, spread, whitened_gradient

#: Share of the calls that act which also look whether the next ones need to.
LOOK_PROB = 0.25


class EarlyWhiten(Whiten):
    """A ``Whiten`` with a fixed limit; arguments and gradients are those of ``Whiten``."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` (..., C)."""
        y = super().forward(x)
        acts = y is not x
        if acts and self.min_prob < self.max_prob and random.random() < LOOK_PROB:
            with no_autocast(x):
                metric = spread(x.detach(), self.num_groups).metric
            is_white = metric <= float(self.whitening_limit)
            self.prob = self.min_prob if is_white else self.max_prob
        return y

    def whiten_gradient(self, x: Tensor, grad: Tensor) -> Tensor:
        """Return the gradient that takes the place of ``grad``; both are (..., C)."""
        now = spread(x, self.num_groups)
        if now.metric <= float(self.whitening_limit):
            return grad
        return whitened_gradient(x, grad, now, float(self.grad_scale))
