"""What the plots show, as numbers: Swoosh, Whiten, Balancer, Eden and ScaledAdam on small examples.

Every number of docs/zipformer.md that is our own is printed by this script or by docs/shapes.py.

    python -m docs.demonstrations
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from zipasr.nn.activations import swoosh_l, swoosh_r
from zipasr.nn.balancer import Balancer
from zipasr.nn.bias_norm import BiasNorm
from zipasr.nn.whiten import Whiten, spread
from zipasr.optim.config import EdenConfig
from zipasr.optim.schedules import eden_factor

SEED = 2024

Activation = Callable[[Tensor], Tensor]
Layer = Callable[[Tensor], Tensor]


# Activations ---------------------------------------------------------------------------------


def swish(x: Tensor) -> Tensor:
    """Return ``x * sigmoid(x)``."""
    return x * torch.sigmoid(x)


ACTIVATIONS: dict[str, Activation] = {"SwooshL": swoosh_l, "SwooshR": swoosh_r, "Swish": swish}


class Curve(NamedTuple):
    """An activation and its derivative on a grid, (K,) each."""

    x: Tensor
    y: Tensor
    slope: Tensor

    def lowest(self) -> tuple[float, float]:
        """Return the lowest point."""
        index = int(self.y.argmin())
        return float(self.x[index]), float(self.y[index])

    def zeros(self) -> list[float]:
        """Return where the curve crosses 0, by linear interpolation on the grid."""
        left, right = self.y[:-1], self.y[1:]
        found = ((left * right < 0) | (left == 0)).nonzero().flatten()
        step = self.x[1:] - self.x[:-1]
        return [float(self.x[i] - left[i] * step[i] / (right[i] - left[i])) for i in found]


def curve(
    activation: Activation, low: float = -8.0, high: float = 8.0, points: int = 1601
) -> Curve:
    """Evaluate an activation; the derivative comes from its own backward pass."""
    x = torch.linspace(low, high, points, dtype=torch.float64, requires_grad=True)
    y = activation(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    return Curve(x.detach(), y.detach(), slope)


# Whiten --------------------------------------------------------------------------------------


def normal(*shape: int) -> Tensor:
    """Draw normal numbers, the same ones at each call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)


def one_strong_direction(num_frames: int = 1000, num_channels: int = 64) -> Tensor:
    """Draw frames with standard deviation 8 along one direction and 1 along all others."""
    x = normal(num_frames, num_channels)
    # An arbitrary direction: the channels take part more or less, some with the other sign.
    direction = torch.linspace(-2.6, 2.0, num_channels, dtype=torch.float64).cos()
    direction /= direction.norm()
    return x + 7.0 * (x @ direction)[:, None] * direction


def ellipse(num_frames: int = 1000) -> Tensor:
    """Draw frames of two channels with the covariance [[2, 1.2], [1.2, 1]]."""
    covariance = torch.tensor([[2.0, 1.2], [1.2, 1.0]], dtype=torch.float64)
    frames: Tensor = normal(num_frames, 2) @ torch.linalg.cholesky(covariance).T
    return frames


def always_whiten(limit: float) -> Whiten:
    """Return a Whiten that acts at every call; in a model it acts on a share of them."""
    return Whiten(num_groups=1, whitening_limit=limit, prob=1.0, grad_scale=0.01)


def metric(x: Tensor) -> float:
    """Return the whitening metric of ``x`` (n, C): 1 is white, C is a single direction."""
    return float(spread(x, num_groups=1).metric)


def covariance(x: Tensor) -> Tensor:
    """Return (C, C), the covariance of ``x`` (n, C)."""
    return torch.cov(x.T, correction=0)


def added_gradient(layer: Layer, x: Tensor, grad: Tensor) -> Tensor:
    """Return by how much ``layer``, an identity, changes the gradient ``grad`` on its way back."""
    x = x.detach().requires_grad_()
    (changed,) = torch.autograd.grad(layer(x), x, grad)
    return changed - grad


def forward_change(layer: Layer, x: Tensor) -> float:
    """Return the largest absolute difference between input and output of ``layer``."""
    return float((layer(x.detach().requires_grad_()) - x).detach().abs().max())


class Descent(NamedTuple):
    """Frames before and after some steps along an added gradient alone."""

    before: Tensor
    after: Tensor
    metrics: list[float]


def descend(x: Tensor, limit: float, steps: int = 250, step_size: float = 0.5) -> Descent:
    """Move frames against what Whiten adds to a random gradient, and nothing else."""
    whiten, grad = always_whiten(limit), normal(*x.shape)
    before, metrics = x, [metric(x)]
    for _ in range(steps):
        x = x - step_size * added_gradient(whiten, x, grad)
        metrics.append(metric(x))
    return Descent(before, x, metrics)


def classically_whitened(x: Tensor) -> Tensor:
    """Multiply frames by the inverse root of their covariance, which Whiten never does."""
    values, vectors = torch.linalg.eigh(covariance(x))
    white: Tensor = (x - x.mean(0)) @ vectors @ torch.diag(values.rsqrt()) @ vectors.T
    return white


# Balancer ------------------------------------------------------------------------------------


class Channel(NamedTuple):
    """A channel of the demonstration, normally distributed before the first step."""

    name: str
    mean: float
    std: float


CHANNELS = (
    Channel("too few positives", mean=-1.5, std=1.0),
    Channel("too large", mean=0.0, std=10.0),
    Channel("within limits", mean=0.3, std=1.5),
)
MIN_POSITIVE, MAX_ABS = 0.3, 5.0


def always_balance() -> Balancer:
    """Return a Balancer that acts at every call; in a model it acts on a share of them."""
    return Balancer(
        len(CHANNELS),
        channel_dim=-1,
        min_positive=MIN_POSITIVE,
        max_positive=0.7,
        min_abs=0.2,
        max_abs=MAX_ABS,
        prob=1.0,
    )


def channels(num_frames: int = 2000) -> Tensor:
    """Draw (n, C) with the statistics of ``CHANNELS``."""
    means = torch.tensor([c.mean for c in CHANNELS], dtype=torch.float64)
    stds = torch.tensor([c.std for c in CHANNELS], dtype=torch.float64)
    return normal(num_frames, len(CHANNELS)) * stds + means


def share_of_positives(x: Tensor) -> Tensor:
    """Return (C,), 0 to 1."""
    return (x > 0).double().mean(0)


class Balanced(NamedTuple):
    """Statistics of each channel before the first step and after each one, (steps + 1, C)."""

    positives: Tensor
    mean_abs: Tensor


def balance(steps: int = 400, step_size: float = 0.5) -> Balanced:
    """Move frames against what Balancer adds to a gradient of plus and minus one, nothing else."""
    x, balancer = channels(), always_balance()
    grad = normal(*x.shape).sign()
    states = [x]
    for _ in range(steps):
        states.append(states[-1] - step_size * added_gradient(balancer, states[-1], grad))
    return Balanced(
        torch.stack([share_of_positives(x) for x in states]),
        torch.stack([x.abs().mean(0) for x in states]),
    )


def balancer_push() -> tuple[Tensor, Tensor]:
    """Return frames (n, C), and what Balancer adds to a gradient of ones there."""
    x = channels()
    return x, added_gradient(always_balance(), x, torch.ones_like(x))


# BiasNorm and Eden ---------------------------------------------------------------------------


def length_ratio(layer: Layer, num_channels: int = 64) -> float:
    """Return how much longer ``layer`` makes a vector of twice the length of another."""
    x = normal(1, num_channels)
    with torch.no_grad():
        return float(layer(2.0 * x).norm() / layer(x).norm())


def bias_norm_with_one_large_bias(num_channels: int = 64, bias: float = 8.0) -> BiasNorm:
    """Return a BiasNorm that has learned a bias in its first channel."""
    norm = BiasNorm(num_channels).eval()
    with torch.no_grad():
        norm.bias.zero_()
        norm.bias[0] = bias
    return norm


def learning_rate(batch: float, epoch: float, config: EdenConfig | None = None) -> float:
    """Return the learning rate of Eden as training sets it, by default with default flags."""
    config = config or EdenConfig()
    return config.base_lr * eden_factor(
        batch,
        epoch,
        lr_batches=config.lr_batches,
        lr_epochs=config.lr_epochs,
        warmup_batches=config.warmup_batches,
        warmup_start=config.warmup_start,
    )


# The table -----------------------------------------------------------------------------------

Fact = tuple[str, float]


def activation_facts() -> Iterator[Fact]:
    """Minima, zeros, and slopes far left."""
    for name, activation in ACTIVATIONS.items():
        found = curve(activation)
        x, y = found.lowest()
        yield f"{name}: lowest value", y
        yield f"{name}: where it is lowest", x
        for zero in found.zeros():
            yield f"{name}: crosses 0 at", zero
        yield f"{name}: slope at -8", float(found.slope[0])


def whiten_facts() -> Iterator[Fact]:
    """Metrics before and after, and that the forward value stays."""
    for name, x, limit in (("64", one_strong_direction(), 5.0), ("2", ellipse(), 1.1)):
        done = descend(x, limit)
        yield f"Whiten, {name} channels, limit {limit}: metric before", done.metrics[0]
        yield f"Whiten, {name} channels, limit {limit}: metric after 250 steps", done.metrics[-1]
    x = one_strong_direction()
    yield "Whiten: largest change of a forward value", forward_change(always_whiten(5.0), x)
    grad = normal(*x.shape)
    for name, limit in (("above", 5.0), ("below", 20.0)):
        added = added_gradient(always_whiten(limit), x, grad)
        share = float(added.norm() / grad.norm())
        yield f"Whiten, metric {name} the limit: norm added / norm of gradient", share


def balancer_facts() -> Iterator[Fact]:
    """Shares and sizes before and after, and the sign of one step."""
    done = balance()
    yield "Balancer, too few positives: share before", float(done.positives[0, 0])
    yield "Balancer, too few positives: share after 1 step", float(done.positives[1, 0])
    yield "Balancer, too few positives: share after 400 steps", float(done.positives[-1, 0])
    yield "Balancer, too large: mean absolute value before", float(done.mean_abs[0, 1])
    yield "Balancer, too large: mean absolute value after 400 steps", float(done.mean_abs[-1, 1])
    x, push = balancer_push()
    yield "Balancer, too few positives: rms of the push", float(push[:, 0].square().mean().sqrt())
    yield "Balancer, too large: rms of the push", float(push[:, 1].square().mean().sqrt())
    yield "Balancer, within limits: largest push", float(push[:, 2].abs().max())
    yield "Balancer: largest change of a forward value", forward_change(always_balance(), x)


def norm_facts() -> Iterator[Fact]:
    """How much of the length of a vector a norm lets through."""
    plain = torch.nn.LayerNorm(64, dtype=torch.float64)
    yield "LayerNorm: output of a vector twice as long, by length", length_ratio(plain)
    norm = bias_norm_with_one_large_bias()
    yield "BiasNorm, bias 8 in one of 64 channels: the same", length_ratio(norm)
    fresh = BiasNorm(64).eval()(torch.ones(64)).detach()
    yield "BiasNorm, fresh: rms of its output", float(fresh.square().mean().sqrt())


def eden_facts() -> Iterator[Fact]:
    """Learning rates with default flags."""
    for batch, epoch in ((1, 0), (500, 0), (7500, 0), (100_000, 0), (7500, 10), (100_000, 29)):
        yield f"Eden: learning rate at batch {batch}, epoch {epoch}", learning_rate(batch, epoch)


def facts() -> list[Fact]:
    """Return all numbers with their names."""
    groups = (activation_facts, norm_facts, whiten_facts, balancer_facts, eden_facts)
    return [fact for group in groups for fact in group()]


def as_markdown(rows: list[Fact]) -> str:
    """Return a table of names and rounded numbers."""
    lines = [f"| {'what':<62} | value   |", f"|{'-' * 64}|{'-' * 9}|"]
    return "\n".join([*lines, *(f"| {name:<62} | {_rounded(value):>7} |" for name, value in rows)])


def _rounded(value: float) -> str:
    return f"{value:.3g}" if abs(value) >= 1e-6 else "0"


def main() -> None:
    """Print the table."""
    sys.stdout.write(as_markdown(facts()) + "\n")


if __name__ == "__main__":
    main()
