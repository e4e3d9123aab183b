"""Whiten: keep the covariance of channels close to a multiple of the identity."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from zipasr.base.errors import CheckpointError
from zipasr.kernels import elementwise
from zipasr.kernels.elementwise import has_kernels
from zipasr.nn.gradients import TensorFunction
from zipasr.nn.numerics import OnItsWay, at_least_float32, no_autocast
from zipasr.nn.schedule import FloatLike

logger = logging.getLogger(__name__)

EPS = 1e-20


class Spread(NamedTuple):
    """Second-order statistics of activations in G groups of K channels.

    The scatter matrices are sums over frames, not means; every use divides the number out.
    """

    centred: Tensor  # (G, n, K), channel means removed
    scatter: Tensor  # (G, K, K)
    diagonal: float | Tensor  # mean of all diagonal entries
    square: float | Tensor  # sum of all squared entries, per channel

    @property
    def metric(self) -> float | Tensor:
        """At least 1, and 1 if the covariance is white."""
        return self.square / (self.diagonal**2 + EPS)

    def metric_gradient(self) -> Tensor:
        """Return the derivative of the metric, up to a positive factor, (G, n, K)."""
        matrix = self.scatter / (self.diagonal + EPS)
        matrix.diagonal(dim1=1, dim2=2).sub_(self.metric)
        return self.centred @ matrix


def spread(x: Tensor, num_groups: int) -> Spread:
    """Measure ``x`` (..., C); the channels of a group are neighbours.

    Numbers of a GPU stay there, as scalars: the host goes on.
    """
    centred, scatter, diagonal = _scatter(x, num_groups)
    square = scatter.square().sum() / x.shape[-1]
    if x.is_cuda:
        return Spread(centred, scatter, diagonal, square)
    return Spread(centred, scatter, float(diagonal), float(square))


def _scatter(x: Tensor, num_groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the first three of a ``Spread``."""
    x = at_least_float32(x).flatten(0, -2)
    centred = (x - x.mean(0)).view(len(x), num_groups, -1).transpose(0, 1)
    scatter = centred.transpose(1, 2) @ centred
    return centred, scatter, scatter.diagonal(dim1=1, dim2=2).mean()


def whitened_gradient(
    x: Tensor, grad: Tensor, now: Spread, grad_scale: float, is_white: bool | Tensor
) -> Tensor:
    """Return ``grad`` plus ``grad_scale`` times its norm in the direction of a worse metric.

    Where ``is_white``, it stays as it is.
    """
    if not isinstance(is_white, Tensor) and is_white:
        return grad
    worse = now.metric_gradient().transpose(0, 1).reshape(x.shape)
    wide = at_least_float32(grad)
    norm = torch.linalg.vector_norm
    factor = norm(wide) * grad_scale / (norm(worse) + EPS)
    if isinstance(is_white, Tensor):
        factor = factor.masked_fill(is_white, 0.0)
    return torch.addcmul(wide, worse, factor).to(grad.dtype)


class _WhitenFunction(TensorFunction):
    """Identity with ``whitened_gradient`` behind it; decides how often its module acts."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, module: Whiten) -> Tensor:
        ctx.save_for_backward(x)
        ctx.module = module
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        try:
            with no_autocast(x):
                grad = ctx.module.whiten_gradient(x, grad)
        except torch.cuda.OutOfMemoryError:
            # Whitening is a help, not part of the loss: better to go without it once than to stop.
            logger.warning("out of memory in a Whiten; its gradient passes unchanged")
        return grad, None


class Whiten(nn.Module):
    """The identity; with some probability, its gradient makes the channels less correlated.

    It acts whenever the input requires a gradient, in evaluation mode as well. No keys: its
    one piece of state, ``prob``, is not a weight; see ``whiten_state``.

    Args:
        num_groups: G, a divisor of the number of channels.
        whitening_limit: of the metric, at least 1; below it the gradient is unchanged.
        prob: probability that a call acts: (lowest, highest), where the lowest holds after a
            call that found the metric below its limit; or one number for both.
        grad_scale: norm of the change relative to the norm of the gradient.

    Source: Yao et al., "Zipformer", ICLR 2024.
    """

    def __init__(
        self,
        num_groups: int,
        whitening_limit: FloatLike,
        prob: float | tuple[float, float],
        grad_scale: FloatLike,
    ) -> None:
        super().__init__()
        self.num_groups = num_groups
        self.whitening_limit = whitening_limit
        self.min_prob, self.max_prob = prob if isinstance(prob, tuple) else (prob, prob)
        self._prob = self.max_prob
        self._measured: OnItsWay | None = None
        self.grad_scale = grad_scale

    @property
    def prob(self) -> float:
        """Probability that the next call acts, by what the last one measured."""
        if self._measured is not None:
            self.act_less(bool(self._measured.arrived()))
        return self._prob

    @prob.setter
    def prob(self, value: float) -> None:
        self._prob, self._measured = value, None

    def act_less(self, is_white: bool | Tensor) -> None:
        """Set ``prob`` to the lowest where ``is_white``, else to the highest.

        Args:
            is_white: on a GPU a scalar, which is read when ``prob`` is needed.
        """
        if isinstance(is_white, Tensor):
            self._measured = OnItsWay(is_white)
        else:
            self.prob = self.min_prob if is_white else self.max_prob

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy needs; numbers on their way are waited for."""
        self.prob = self.prob
        return self.__dict__

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` (..., C)."""
        if not x.requires_grad or random.random() > self.prob or float(self.grad_scale) == 0.0:
            return x
        return _WhitenFunction.call(x, self)

    def whiten_gradient(self, x: Tensor, grad: Tensor) -> Tensor:
        """Return the gradient that takes the place of ``grad``, and set ``prob`` for later calls.

        Args:
            x: (..., C), the activations.
            grad: (..., C), the incoming gradient.
        """
        if has_kernels(x):
            return self._whiten_on_device(x, grad)
        now = spread(x, self.num_groups)
        is_white = now.metric < float(self.whitening_limit)
        self.act_less(is_white)
        return whitened_gradient(x, grad, now, float(self.grad_scale), is_white)

    def _whiten_on_device(self, x: Tensor, grad: Tensor) -> Tensor:
        """Do as ``whiten_gradient`` by half as many launches."""
        centred, scatter, diagonal = _scatter(x, self.num_groups)
        norm = torch.linalg.vector_norm
        count, size = float(x.size(-1)), norm(scatter)
        limit = float(self.whitening_limit)
        (is_white,) = elementwise.IS_WHITE(diagonal, size, count=count, limit=limit)
        self.act_less(is_white)
        (worse,) = elementwise.WORSE(centred @ scatter, centred, diagonal, size, count=count)
        worse = worse.transpose(0, 1).reshape(x.shape)
        norms = norm(grad, dtype=torch.float32), norm(worse)
        (changed,) = elementwise.WHITENED(
            grad, worse, *norms, is_white, scale=float(self.grad_scale)
        )
        return changed.to(grad.dtype)


def _named_whiteners(model: nn.Module) -> Iterator[tuple[str, Whiten]]:
    return ((name, m) for name, m in model.named_modules() if isinstance(m, Whiten))


def whiten_state(model: nn.Module) -> dict[str, float]:
    """Return the present probability of every Whiten of ``model`` by name, for a checkpoint."""
    return {name: module.prob for name, module in _named_whiteners(model)}


def load_whiten_state(model: nn.Module, state: Mapping[str, float]) -> None:
    """Restore what ``whiten_state`` returned.

    Raises:
        CheckpointError: the names are not those of ``model``.
    """
    whiteners = dict(_named_whiteners(model))
    if strange := sorted(whiteners.keys() ^ state.keys()):
        raise CheckpointError(
            f"the state of the Whiten modules does not fit the model, first at {strange[0]!r}.",
            "build the model with the flags of the run that wrote the checkpoint.",
        )
    for name, module in whiteners.items():
        module.prob = float(state[name])
