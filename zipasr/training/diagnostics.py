"""Statistics of activations and gradients in some batches (--print-diagnostics)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from zipasr.data.dataset import Batch
from zipasr.training.loop import apply_gradients, begin_update
from zipasr.training.session import Session
from zipasr.training.update import compute_gradients

logger = logging.getLogger(__name__)

LARGEST_MATRIX = 512  # positions of an axis of which the second moments are kept
NUM_PERCENTILES = 11
NUM_BINS = 20
SAMPLES = 100_000  # of the values that an activation gets in one call

# Modules that map each value by itself; SwooshL and the like are among them by their beginning.
ACTIVATIONS = ("Sigmoid", "Tanh", "ReLU", "SiLU", "TanSwish", "Swish", "DoubleSwish", "Swoosh")
# Modules that begin with an activation which is no module of its own.
FUSED_ACTIVATIONS = ("ActivationDropoutAndLinear",)


@dataclass(slots=True)
class AxisSums:
    """Sums over all axes but one, for each position of that one, over all calls.

    An axis whose length changes from call to call, such as time, counts by position from its
    beginning; its second moments are not kept.

    Attributes:
        count: (n,) float64, values added per position; so are the other vectors.
        moments: (n, n) float64, sum of the products of two positions; ``None`` if not kept.
        rows: products in each entry of ``moments``.
        percentiles: (11,) float64, sum over the calls of the percentiles of the rms that is taken
            over this axis, one rms for each position of the others.
        calls: how many.
    """

    count: Tensor
    value: Tensor
    abs: Tensor
    square: Tensor
    positive: Tensor
    max: Tensor
    min: Tensor
    moments: Tensor | None
    rows: int
    percentiles: Tensor
    calls: int = 1

    @classmethod
    def of(cls, x: Tensor, axis: int) -> AxisSums:
        """Return the sums of one tensor of at least one axis."""
        rows = x.detach().float().movedim(axis, -1).reshape(-1, x.size(axis))
        squares = rows.square()
        moments = (rows.T @ rows).double().cpu() if rows.size(1) <= LARGEST_MATRIX else None
        return cls(
            count=torch.full((rows.size(1),), float(rows.size(0)), dtype=torch.float64),
            value=rows.sum(0, dtype=torch.float64).cpu(),
            abs=rows.abs().sum(0, dtype=torch.float64).cpu(),
            square=squares.sum(0, dtype=torch.float64).cpu(),
            positive=(rows > 0).sum(0, dtype=torch.float64).cpu(),
            max=rows.amax(0).double().cpu(),
            min=rows.amin(0).double().cpu(),
            moments=moments,
            rows=rows.size(0),
            percentiles=percentiles(squares.mean(1).sqrt().double().cpu()),
        )

    def add(self, other: AxisSums) -> None:
        """Add the sums of another call."""
        same = len(self.count) == len(other.count)
        for name in ("count", "value", "abs", "square", "positive"):
            setattr(self, name, _merged(getattr(self, name), getattr(other, name), torch.add))
        self.max = _merged(self.max, other.max, torch.maximum)
        self.min = _merged(self.min, other.min, torch.minimum)
        both = self.moments is not None and other.moments is not None and same
        self.moments = self.moments + other.moments if both else None  # type: ignore[operator]
        self.rows += other.rows
        self.percentiles = self.percentiles + other.percentiles
        self.calls += other.calls

    def statistics(self) -> dict[str, Tensor]:
        """Return name -> one value per position, or (11,) and eigenvalues where it says so."""
        mean, mean_square = self.value / self.count, self.square / self.count
        found = {
            "abs": self.abs / self.count,
            "max": self.max,
            "min": self.min,
            "positive": self.positive / self.count,
            "value": mean,
            "rms": mean_square.sqrt(),
            "stddev": (mean_square - mean.square()).clamp(min=0).sqrt(),
            "percentiles of rms over this axis": self.percentiles / self.calls,
        }
        if self.moments is not None and bool(self.moments.isfinite().all()):
            eigenvalues = torch.linalg.eigvalsh(self.moments / self.rows)
            found["roots of eigenvalues"] = eigenvalues.clamp(min=0).sqrt()
        return found


@dataclass(slots=True)
class SortedCurve:
    """Gradients as a function of the value that an activation gets.

    Attributes:
        values: samples of what went in.
        gradients: of the loss, at the same places.
    """

    values: list[Tensor] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)

    def bins(self) -> list[tuple[float, float, float, float]]:
        """Return lowest value, highest value, mean gradient, mean size of it, in 20 equal parts."""
        values, order = torch.cat(self.values).sort()
        gradients = torch.cat(self.gradients)[order]
        found = []
        for x, g in zip(
            values.tensor_split(NUM_BINS), gradients.tensor_split(NUM_BINS), strict=True
        ):
            if len(x):
                found.append((float(x[0]), float(x[-1]), float(g.mean()), float(g.abs().mean())))
        return found


@dataclass(slots=True)
class Observed:
    """Statistics of all tensors of a model.

    Attributes:
        tensors: name -> the sums of each of its axes.
        curves: name of an activation -> its curve.
    """

    tensors: dict[str, list[AxisSums]] = field(default_factory=dict)
    curves: dict[str, SortedCurve] = field(default_factory=dict)

    def note(self, name: str, x: Tensor | None) -> None:
        """Add a tensor to what is known under ``name``; one of another number of axes is new."""
        # Outputs without a use have no gradient where a function gives none instead of zeros.
        if x is None or not x.is_floating_point() or x.numel() == 0:
            return
        x = x.detach().reshape(1) if x.dim() == 0 else x.detach()
        sums = [AxisSums.of(x, axis) for axis in range(x.dim())]
        known = self.tensors.setdefault(name, sums)
        if known is not sums and len(known) == len(sums):
            for before, now in zip(known, sums, strict=True):
                before.add(now)

    def note_curve(self, name: str, values: Tensor, gradients: Tensor) -> None:
        """Add places at which value and gradient are known."""
        curve = self.curves.setdefault(name, SortedCurve())
        value, gradient = values.detach().reshape(-1), gradients.detach().reshape(-1)
        if len(value) > SAMPLES:
            generator = torch.Generator().manual_seed(len(value))
            chosen = torch.randint(len(value), (SAMPLES,), generator=generator).to(value.device)
            value, gradient = value[chosen], gradient[chosen]
        curve.values.append(value.float().cpu())
        curve.gradients.append(gradient.float().cpu())


def percentiles(values: Tensor) -> Tensor:
    """Return (11,) float64: the 0th, 10th, ... 100th percentile, each one of the values."""
    ordered = values.sort().values
    last = len(ordered) - 1
    return ordered[[last * tenth // (NUM_PERCENTILES - 1) for tenth in range(NUM_PERCENTILES)]]


def observe(model: nn.Module) -> tuple[Observed, list[RemovableHandle]]:
    """Watch all modules and parameters of ``model`` from now on.

    Returns:
        What is seen, filled by every forward and backward pass, and the handles that end it.
    """
    seen = Observed()
    handles: list[RemovableHandle] = []
    for path, module in model.named_modules():
        handles.append(module.register_forward_hook(partial(_after_forward, seen, path)))
    for path, parameter in model.named_parameters():
        hook = partial(_after_gradient, seen, path, parameter)
        handles.append(parameter.register_hook(hook))  # type: ignore[no-untyped-call]
    return seen, handles


def _after_forward(
    seen: Observed, path: str, module: nn.Module, inputs: tuple[Any, ...], outputs: Any
) -> None:
    kind = type(module).__name__
    for suffix, x in _tensors(outputs):
        seen.note(f"{path}.output{suffix} ({kind})", x)
        _on_gradient(x, partial(seen.note, f"{path}.output_grad{suffix} ({kind})"))
    if not inputs or not isinstance(inputs[0], Tensor):
        return
    value = inputs[0]
    if kind.startswith(ACTIVATIONS) and isinstance(outputs, Tensor):
        _on_gradient(outputs, partial(seen.note_curve, f"{path} ({kind}), output", value.detach()))
    elif kind in FUSED_ACTIVATIONS:
        _on_gradient(value, partial(seen.note_curve, f"{path} ({kind}), input", value.detach()))


def _after_gradient(seen: Observed, path: str, parameter: Tensor, gradient: Tensor) -> None:
    seen.note(f"{path}.param_value", parameter)
    seen.note(f"{path}.param_grad", gradient)


def _on_gradient(x: Tensor, note: Callable[[Tensor], None]) -> None:
    if x.requires_grad:
        x.register_hook(note)  # type: ignore[no-untyped-call]


def _tensors(values: Any, suffix: str = "", depth: int = 2) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of an output and of two levels of tuples in it, with their places."""
    if isinstance(values, Tensor):
        yield suffix, values
    elif isinstance(values, (list, tuple)) and depth:
        for index, value in enumerate(values):
            yield from _tensors(value, f"{suffix}[{index}]", depth - 1)


def _merged(one: Tensor, other: Tensor, join: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Join two vectors position by position; the tail of the longer one stays."""
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    joined = longer.clone()
    joined[: len(shorter)] = join(longer[: len(shorter)], shorter)
    return joined


MOST_VALUES = 10  # of an axis that are all shown; of a longer one, percentiles
ALSO_WHOLE = 31  # the kernel of a convolution


def report(seen: Observed) -> str:
    """Return all that was seen, as lines."""
    lines = [line for name in sorted(seen.tensors) for line in tensor_lines(name, seen)]
    for name in sorted(seen.curves):
        lines += curve_lines(name, seen)
    return "\n".join(lines) + "\n"


def tensor_lines(name: str, seen: Observed) -> Iterator[str]:
    """Yield the lines of a tensor."""
    axes = seen.tensors[name]
    for axis, sums in enumerate(axes):
        for statistic, values in sums.statistics().items():
            yield f"{name}, axis {axis} of {len(axes)}, {_size(sums)}, {_line(statistic, values)}"


def curve_lines(name: str, seen: Observed) -> Iterator[str]:
    """Yield the lines of an activation: in each of 20 equal parts of the values, the gradient."""
    yield f"{name} gradient by value: from, to, mean, mean of the absolute"
    for low, high, mean, size in seen.curves[name].bins():
        yield f"{name} gradient by value: {low:10.3g} {high:10.3g} {mean:10.3g} {size:10.3g}"


def _line(statistic: str, values: Tensor) -> str:
    if len(values) > MOST_VALUES and len(values) != ALSO_WHOLE:
        what = "" if statistic.startswith("percentiles") else " percentiles"
        shown = f"{statistic}{what}: {_numbers(percentiles(values).tolist())}"
    else:
        shown = f"{statistic}: {_numbers(values.tolist())}"
    norm, mean = float(values.norm()), float(values.mean())
    rms = float(values.square().mean().sqrt())
    return f"{shown}; norm {norm:.3g}, mean {mean:.3g}, rms {rms:.3g}"


def _size(sums: AxisSums) -> str:
    varies = "" if float(sums.count.min()) == float(sums.count.max()) else "up to "
    return f"size {varies}{len(sums.count)}"


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3g}" for value in values)


NUM_BATCHES = 6


def diagnose(session: Session, batches: Iterable[Batch]) -> str:
    """Train on six batches, with updates as always, and say what flowed through the model."""
    seen, handles = observe(session.model)
    try:
        for done, batch in enumerate(islice(batches, NUM_BATCHES), start=1):
            begin_update(session, [batch])
            gradients = compute_gradients(session, [batch])
            apply_gradients(session, gradients, [batch])
            logger.info("diagnostics, batch %d of %d: %s", done, NUM_BATCHES, gradients.metrics)
    finally:
        for handle in handles:
            handle.remove()
    return report(seen)
