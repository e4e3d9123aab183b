"""The text of --print-diagnostics: one line per tensor, axis and statistic, sorted by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from zipasr.training.diagnostics import AxisSums, Observed, percentiles

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
