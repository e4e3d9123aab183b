"""ScaledAdam written one formula after another, one parameter at a time.

Slow on purpose: it is what ``zipasr.optim`` is measured against, and an oracle of its tests. It
knows one group and no state to save.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

BETA1, BETA2, EPS = 0.9, 0.98, 1e-8
SCALAR_LR, MIN_RMS, MAX_RMS, SCALAR_MAX, PERIOD = 0.1, 1e-5, 3.0, 10.0, 4


def rms(x: Tensor) -> Tensor:
    """Return (), the root of the mean square."""
    return x.square().mean().sqrt()


@dataclass
class Moments:
    """State of one parameter."""

    v: Tensor
    m: Tensor
    r: Tensor
    s: Tensor
    w: Tensor


@dataclass
class PlainScaledAdam:
    """One group of parameters with the default options.

    Attributes:
        norms: of all updates, before clipping.
        threshold: of clipping; None in the first ten updates.
    """

    params: Sequence[Tensor]
    lr: float
    clipping_scale: float | None = None
    clipping_update_period: int = 100
    t: int = 0
    norms: list[float] = field(default_factory=list)
    threshold: float | None = None

    def __post_init__(self) -> None:
        self.state = [
            Moments(
                torch.zeros_like(p),
                torch.zeros_like(p),
                rms(p.detach()),
                p.new_zeros(PERIOD),
                p.new_zeros(()),
            )
            for p in self.params
        ]

    @torch.no_grad()
    def step(self) -> None:
        """Make one update; a missing gradient is a gradient of zeros."""
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.params]
        factor = self._clip(grads)
        for param, grad, state in zip(self.params, grads, self.state, strict=True):
            clipped = factor * grad if factor else torch.zeros_like(grad)
            change = self._change(param, clipped, state)
            state.m.mul_(BETA1).add_((1 - BETA1) * change)
            param.add_(state.m)
            if param.numel() == 1:
                param.clamp_(-SCALAR_MAX, SCALAR_MAX)
        self.t += 1

    def _clip(self, grads: Sequence[Tensor]) -> float:
        if self.clipping_scale is None:
            return 1.0
        squares = [
            (g * (SCALAR_LR if g.numel() == 1 else state.r)).double().square().sum()
            for g, state in zip(grads, self.state, strict=True)
        ]
        norm = float(torch.stack(squares).sum().sqrt())
        if self.t:
            self.norms.append(norm)
            self._look_back(self.t)
        return 1.0 if self.threshold is None else min(1.0, self.threshold / (norm + 1e-20))

    def _look_back(self, t: int) -> None:
        period = self.clipping_update_period
        early = t in (10, 20, 40) and t < period
        if early or t % period == 0:
            recent = sorted(self.norms[-t:] if early else self.norms[-period:])
            median = recent[min(len(recent) - 1, len(recent) // 4 * 2)]
            assert self.clipping_scale is not None
            self.threshold = self.clipping_scale * median * (2 if early else 1)

    def _change(self, param: Tensor, grad: Tensor, state: Moments) -> Tensor:
        state.v.mul_(BETA2).add_((1 - BETA2) * grad * grad)
        corrected = 1 - BETA2 ** (self.t + 1)
        v = state.v / corrected if corrected < 0.99 else state.v
        step = -self.lr * grad / (v.sqrt() + EPS)
        if param.numel() == 1:
            return SCALAR_LR * step
        state.s[self.t % PERIOD] = (param * grad).sum()
        if self.t % PERIOD != PERIOD - 1:
            return step * state.r.clamp(min=MIN_RMS)
        state.r = rms(param)
        return step * state.r.clamp(min=MIN_RMS) + self._scale_step(state) * param

    def _scale_step(self, state: Moments) -> Tensor:
        beta = BETA2**PERIOD
        state.w.mul_(beta).add_((1 - beta) * state.s.square().mean())
        rate = SCALAR_LR * self.lr * math.sqrt(1 - beta ** ((self.t + 1) // PERIOD))
        step = -rate * state.s.sum() / (state.w.sqrt() + EPS)
        step = step.new_zeros(()) if state.r < MIN_RMS else step.clamp(-0.1, 0.1)
        return torch.minimum(step, (MAX_RMS - state.r) / state.r)
