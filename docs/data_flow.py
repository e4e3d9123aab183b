"""Picture of the data flow: what each command reads, computes and writes, with its packages."""

from __future__ import annotations

from typing import NamedTuple

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

WIDTH, HEIGHT = 2.12, 0.8
#: From box to box, and from row to row.
STRIDE, RISE = 2.62, 1.72

#: Fill of a box: files, and what is computed.
FILE, WORK = "#f4efe2", "#dbe9f6"


class Stage(NamedTuple):
    """A box: where it stands, what it is, and the package or folder it belongs to."""

    column: float
    row: int
    text: str
    place: str
    fill: str


ROWS = {0: "./prepare.sh", 1: "./train.py", 2: "./decode.py\n./transcribe.py", 3: "./export.py"}
STAGES = {
    "sound": Stage(0, 0, "sound files,\ntranscripts", "yours, or a corpus", FILE),
    "manifests": Stage(1, 0, "manifests", "corpora", WORK),
    "features": Stage(2, 0, "cuts with features:\n80 bins, 100 Hz", "data", WORK),
    "tokenizer": Stage(3, 0, "tokenizer:\n500 pieces", "text", WORK),
    "batches": Stage(0, 1, "batches of\n200 s or more", "data", WORK),
    "encoder": Stage(1, 1, "Zipformer:\nframes at 25 Hz", "encoder, nn", WORK),
    "losses": Stage(2, 1, "transducer and\nCTC losses", "model, losses, kernels", WORK),
    "update": Stage(3, 1, "ScaledAdam, Eden", "training, optim", WORK),
    "checkpoints": Stage(4, 1, "epoch-N.pt", "checkpoint", FILE),
    "average": Stage(0, 2, "average of epochs", "checkpoint", WORK),
    "frames": Stage(1, 2, "Zipformer", "recognition", WORK),
    "search": Stage(2, 2, "greedy, beam, CTC,\nlattices, LMs", "search, lm", WORK),
    "words": Stage(3, 2, "words with times", "text", FILE),
    "report": Stage(4, 2, "WER, report.html", "scoring", FILE),
    "exported": Stage(1, 3, "ONNX, TorchScript,\npretrained.pt", "exporting", FILE),
    "compared": Stage(2, 3, "compared with\nthe model", "exporting", WORK),
    "client": Stage(3, 3, "sherpa-onnx", "C++, phone, server", FILE),
}
ARROWS = (
    ("sound", "manifests"),
    ("manifests", "features"),
    ("features", "tokenizer"),
    ("batches", "encoder"),
    ("encoder", "losses"),
    ("losses", "update"),
    ("update", "checkpoints"),
    ("average", "frames"),
    ("frames", "search"),
    ("search", "words"),
    ("words", "report"),
    ("exported", "compared"),
    ("compared", "client"),
)
#: From the end of a row to the beginning of the next: source, column where it goes down, target.
DESCENTS = (("tokenizer", 0, "batches"), ("checkpoints", 0, "average"))


def draw_data_flow() -> Figure:
    """Draw the commands as rows, and what flows through them from left to right."""
    figure, axes = plt.subplots(figsize=(12, 6.1))
    for row, command in ROWS.items():
        y = -row * RISE
        axes.text(-1.3, y, command, ha="right", va="center", fontsize=11, family="monospace")
    for stage in STAGES.values():
        _draw_stage(axes, stage)
    for source, target in ARROWS:
        (left, y), (right, _) = _centre(source), _centre(target)
        _lead(axes, [(left + WIDTH / 2, y), (right - WIDTH / 2, y)])
    for source, column, target in DESCENTS:
        (x0, y0), (_, y1) = _centre(source), _centre(target)
        middle = (y0 + y1) / 2 + 0.08
        down = [(x0, y0 - HEIGHT / 2 - 0.2), (x0, middle), (column * STRIDE, middle)]
        _lead(axes, [*down, (column * STRIDE, y1 + HEIGHT / 2)])
    (x, y), (to, below) = _centre("average"), _centre("exported")
    _lead(axes, [(x, y - HEIGHT / 2 - 0.2), (x, below), (to - WIDTH / 2, below)])
    axes.set(xlim=(-3.3, 4 * STRIDE + 1.15), ylim=(-3 * RISE - 0.75, 0.5))
    axes.axis("off")
    return figure


def _centre(name: str) -> tuple[float, float]:
    return STAGES[name].column * STRIDE, -STAGES[name].row * RISE


def _draw_stage(axes: Axes, stage: Stage) -> None:
    x, y = stage.column * STRIDE, -stage.row * RISE
    style = "round,pad=0,rounding_size=0.08"
    corner = (x - WIDTH / 2, y - HEIGHT / 2)
    axes.add_patch(
        FancyBboxPatch(corner, WIDTH, HEIGHT, boxstyle=style, fc=stage.fill, ec="#3b5b82", lw=1.1)
    )
    axes.text(x, y, stage.text, ha="center", va="center", fontsize=10.5)
    axes.text(
        x + 0.04,
        y - HEIGHT / 2 - 0.07,
        stage.place,
        va="top",
        ha="center",
        fontsize=8.5,
        color="#50607a",
        bbox={"fc": "white", "ec": "none", "pad": 0.6},
        zorder=4,
    )


def _lead(axes: Axes, points: list[tuple[float, float]]) -> None:
    """Draw a line through points, with the head of an arrow at the last."""
    *line, end = points
    axes.plot(*zip(*line, strict=True), color="black", linewidth=1.2, zorder=1)
    arrow = {"arrowstyle": "-|>", "color": "black", "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, line[-1], arrowprops=arrow, zorder=2)
