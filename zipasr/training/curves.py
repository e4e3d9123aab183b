"""The curves of a run: as a picture, and as a few characters of text."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zipasr.base.files import atomic_path
from zipasr.training.scalars import METRICS_FILE, series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVES_FILE = "curves.png"
BARS = "▁▂▃▄▅▆▇█"
BLUE, RED, GREY = "#0072B2", "#D55E00", "#777777"
FEW = 40  # points of a curve that are marked one by one, epochs that get a line


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a picture: which numbers, and how they look."""

    name: str
    split: str
    label: str
    colour: str = BLUE


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture of several: its title, its curves, and whether its axis is logarithmic."""

    title: str
    curves: tuple[Curve, ...]
    is_log: bool = False


PANELS = (
    Panel(
        "loss per frame",
        (Curve("tot_loss", "train", "training"), Curve("loss", "valid", "validation", RED)),
        is_log=True,
    ),
    Panel("word error rate on dev, %", (Curve("wer", "valid", "greedy search", RED),)),
    Panel("learning rate", (Curve("learning_rate", "train", ""),)),
    Panel("gradient norm", (Curve("grad_norm", "train", ""),), is_log=True),
)


def draw_curves(exp_dir: Path) -> None:
    """Draw the numbers of ``metrics.jsonl`` to ``curves.png``; a failure is logged, no more."""
    try:
        _draw(exp_dir / METRICS_FILE, exp_dir / CURVES_FILE)
    except Exception as problem:
        logging.warning("%s is not drawn: %s", exp_dir / CURVES_FILE, problem)


def sparkline(values: Sequence[float], width: int = 30) -> str:
    """Return the last ``width`` values as bars between the lowest and the highest of them."""
    shown = values[-width:]
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    steps = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((value - low) * steps)] for value in shown)


def _draw(metrics: Path, picture: Path) -> None:
    # Imported here: it takes a second, and drawing is not what training is for.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    epochs = series(metrics, "epoch")[0]
    for panel, axes in zip(PANELS, figure.subplots(2, 2).flat, strict=True):
        _draw_panel(panel, axes, metrics, epochs)
    with atomic_path(picture) as temporary:
        figure.savefig(temporary, format="png")


def _draw_panel(panel: Panel, axes: Axes, metrics: Path, epochs: Sequence[int]) -> None:
    axes.set_title(panel.title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=GREY, labelsize=9)
    for step in epochs[1:] if len(epochs) <= FEW else ():
        axes.axvline(step, color="#e6e6e6", linewidth=0.8, zorder=0)
    is_empty = True
    for curve in panel.curves:
        steps, values = series(metrics, curve.name, curve.split)
        if not steps:
            continue
        is_empty = False
        marker = "o" if len(steps) <= FEW else ""
        label = f"{curve.label} {values[-1]:.3g}".strip()
        axes.plot(
            steps, values, color=curve.colour, lw=1.6, marker=marker, markersize=3.5, label=label
        )
    if is_empty:
        axes.text(0.5, 0.5, "nothing yet", ha="center", color=GREY, transform=axes.transAxes)
        return
    if panel.is_log:
        _plain_log_scale(axes)
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel("updates; vertical lines: epochs", fontsize=9, color=GREY)
    axes.set_xlim(left=0)
    axes.legend(frameon=False, fontsize=9)


def _plain_log_scale(axes: Axes) -> None:
    """Make the axis logarithmic, with ticks at 1, 2, 5, 10 and so on, written as numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
