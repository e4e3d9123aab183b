"""Draw the pictures of the documents; the same command gives the same pictures.

Curves and clouds come from docs/demonstrations.py, shapes and schedules from a real model.

    python -m docs.plots --out docs/images
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

try:
    import matplotlib
except ImportError:
    sys.exit("docs.plots needs matplotlib. Fix: pip install -r tests/requirements.txt")

matplotlib.use("Agg")
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image

from docs import demonstrations as demo
from docs.data_flow import draw_data_flow
from docs.diagrams import draw_layer, draw_stacks, draw_zapformer
from docs.shapes import layer_order
from zipasr.encoder.zapformer.config import ZapformerConfig
from zipasr.encoder.zipformer.attention import compact_positions
from zipasr.encoder.zipformer.config import PRESETS
from zipasr.encoder.zipformer.model import Zipformer2
from zipasr.nn.schedule import ScheduledFloat

#: Colours that stay apart for colour-blind readers (Okabe and Ito); lines also differ in style.
BLUE, RED, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
STYLES = ((BLUE, "-"), (RED, "--"), (GREEN, "-."), (ORANGE, ":"))

SETTINGS: dict[Any, Any] = {
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "font.size": 10.5,
    "axes.grid": True,
    "axes.titlesize": 11.5,
    "grid.alpha": 0.3,
    "lines.linewidth": 2.0,
    "legend.framealpha": 0.9,
}

#: From first to last batch of training, for schedules; 600 seconds of audio each.
SCHEDULE_SPAN = 24_000


def swoosh() -> Figure:
    """SwooshL, SwooshR and Swish, and their derivatives."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2))
    for (name, activation), (colour, style) in zip(demo.ACTIVATIONS.items(), STYLES, strict=False):
        curve = demo.curve(activation)
        left.plot(curve.x, curve.y, style, color=colour, label=name)
        right.plot(curve.x, curve.slope, style, color=colour, label=name)
        left.plot(*curve.lowest(), "o", color=colour, markersize=7)
        zeros = curve.zeros()
        left.plot(zeros, [0.0] * len(zeros), "D", color=colour, markersize=5, markerfacecolor="w")
    left.set(title="value (dot: minimum, diamond: zero)", ylim=(-0.5, 2.0), ylabel="f(x)")
    right.set(title="gradient", ylabel="df/dx", ylim=(-0.2, 1.2))
    right.axhline(-0.08, color="0.5", linewidth=1)
    right.text(8.0, -0.095, "-0.08", color="0.3", fontsize=9, ha="right", va="top")
    for axes in (left, right):
        axes.axhline(0.0, color="0.2", linewidth=0.8)
        axes.set_xlabel("x")
        axes.legend(loc="upper left")
    return figure


def whiten_heatmap() -> Figure:
    """A covariance of 64 channels before and after steps along what Whiten adds."""
    limit = 5.0
    done = demo.descend(demo.one_strong_direction(), limit)
    pictures = [demo.covariance(x) for x in (done.before, done.after)]
    bound = float(pictures[0].abs().max())
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.9), width_ratios=(1, 1, 1.1))
    names = ("before", f"after {len(done.metrics) - 1} steps")
    for plot, picture, name, value in zip(
        axes, pictures, names, (done.metrics[0], done.metrics[-1]), strict=False
    ):
        image = plot.imshow(picture.numpy(), cmap="PuOr", vmin=-bound, vmax=bound)
        plot.set(title=f"covariance {name}\nmetric {value:.1f}", xlabel="channel", ylabel="channel")
        plot.grid(visible=False)
    figure.colorbar(image, ax=list(axes[:2]), label="covariance", shrink=0.85, pad=0.02)
    axes[2].plot(done.metrics, color=BLUE)
    axes[2].axhline(limit, color=RED, linestyle="--", label=f"limit {limit:g}")
    axes[2].axhline(1.0, color="0.4", linestyle=":", label="white: 1")
    axes[2].set(title="whitening metric", xlabel="step", ylabel="metric", ylim=(0, None))
    axes[2].legend()
    return figure


def whiten_scatter() -> Figure:
    """Two channels: what Whiten's gradient does, and what classical whitening would do."""
    limit = 1.1
    done = demo.descend(demo.ellipse(), limit)
    classical = demo.classically_whitened(done.before)
    clouds = (
        (done.before, "before", BLUE),
        (
            done.after,
            f"after {len(done.metrics) - 1} steps along\nWhiten's gradient, limit 1.1",
            RED,
        ),
        (classical, "classical whitening:\nnot what Whiten does", "0.45"),
    )
    figure, axes = plt.subplots(1, 3, figsize=(12, 5.0), sharex=True, sharey=True)
    for plot, (cloud, name, colour) in zip(axes, clouds, strict=True):
        plot.scatter(*cloud.T, s=7, color=colour, alpha=0.45, linewidths=0)
        plot.plot(*_ellipse(cloud), color="black", linewidth=1.5)
        plot.set(
            title=f"{name}\nmetric {demo.metric(cloud):.2f}", xlabel="channel 0", aspect="equal"
        )
    axes[0].set(ylabel="channel 1", xlim=(-5.2, 5.2), ylim=(-5.2, 5.2))
    return figure


def _ellipse(cloud: torch.Tensor) -> torch.Tensor:
    """Return (2, K), the curve at two standard deviations around ``cloud`` (n, 2)."""
    angle = torch.linspace(0.0, 2.0 * torch.pi, 200, dtype=cloud.dtype)
    circle = torch.stack([angle.cos(), angle.sin()])
    root = torch.linalg.cholesky(demo.covariance(cloud))
    curve: torch.Tensor = cloud.mean(0)[:, None] + 2.0 * root @ circle
    return curve


def balancer() -> Figure:
    """What Balancer adds to a gradient, and where following it leads."""
    figure, (push, share, size) = plt.subplots(1, 3, figsize=(12, 4.0))
    frames, added = demo.balancer_push()
    done = demo.balance()
    for index, (channel, (colour, style)) in enumerate(zip(demo.CHANNELS, STYLES, strict=False)):
        order = frames[:, index].argsort()
        kwargs: dict[str, Any] = {"color": colour, "linestyle": style, "label": channel.name}
        push.plot(frames[order, index], -added[order, index], **kwargs)
        share.plot(100.0 * done.positives[:, index], **kwargs)
        size.plot(done.mean_abs[:, index], **kwargs)
    push.set(
        title="direction of the step it causes\n(minus what is added to a gradient of 1)",
        xlabel="x",
        ylabel="change of the step",
        xlim=(-12, 12),
        ylim=(-0.2, 0.2),
    )
    share.set(title="share of positive values", xlabel="step", ylabel="%", ylim=(0, 100))
    share.axhspan(100.0 * demo.MIN_POSITIVE, 70.0, color="0.5", alpha=0.15, label="limits")
    size.set(title="mean of |x|", xlabel="step", ylabel="mean of |x|", ylim=(0, None))
    size.axhspan(0.2, demo.MAX_ABS, color="0.5", alpha=0.15, label="limits")
    push.axhline(0.0, color="0.2", linewidth=0.8)
    for axes, place in ((push, "lower right"), (share, "upper right"), (size, "upper right")):
        axes.legend(fontsize=9, loc=place)
    return figure


def eden() -> Figure:
    """The learning rate over an imagined run, and its beginning."""
    batches_per_epoch, num_epochs = 2500, 30
    batches = range(1, batches_per_epoch * num_epochs, 25)
    figure, (whole, start) = plt.subplots(1, 2, figsize=(10, 4.0), width_ratios=(2, 1))
    rate = [demo.learning_rate(b, b // batches_per_epoch) for b in batches]
    by_batch = [demo.learning_rate(b, 0) for b in batches]
    lines = ((by_batch, "decay by batches alone", STYLES[1]), (rate, "Eden", STYLES[0]))
    for plot, last in ((whole, len(batches)), (start, 60)):
        for values, label, (colour, style) in lines:
            plot.plot(batches[:last], values[:last], style, color=colour, label=label)
        plot.set(xlabel="batch", ylabel="learning rate", ylim=(0, 0.048))
    whole.set_title(f"{num_epochs} epochs of {batches_per_epoch} batches, default flags")
    start.set_title("warm-up: 500 batches, from a tenth")
    top = whole.secondary_xaxis(
        -0.2, functions=(lambda b: b / batches_per_epoch, lambda e: e * batches_per_epoch)
    )
    top.set_xlabel("epoch")
    whole.legend()
    return figure


def schedules() -> Figure:
    """Some values of the medium model that change while it trains, read from the model."""
    model = Zipformer2(PRESETS["medium"]).train()
    found = {n: m for n, m in model.named_modules() if isinstance(m, ScheduledFloat)}
    figure, (rates, skips) = plt.subplots(1, 2, figsize=(11, 4.2))
    layer = "encoders.0.layers.0."
    shown = {
        "dropout in feed-forward": layer + "feed_forward1.out_proj.dropout_p",
        "attention is skipped": layer + "attention_skip_rate",
        "feed-forward 2 is skipped": layer + "ff2_skip_rate",
        "attention ignores positions": layer + "self_attn_weights.pos_emb_skip_rate",
        "Balancer acts": layer + "balancer1.prob",
    }
    counts = list(range(0, SCHEDULE_SPAN, 50))
    styles = (*STYLES, ("black", (0, (5, 1, 1, 1, 1, 1))))
    for (label, name), (colour, style) in zip(shown.items(), styles, strict=True):
        values = [found[name].schedule(float(c)) for c in counts]
        rates.plot(counts, values, color=colour, linestyle=style, label=label)
    rates.set(title="rates of the first layer", ylabel="probability", ylim=(0, None))
    rates.legend(fontsize=9)
    bypasses = [n for n in found if n.endswith("bypass.skip_rate")]
    colours = plt.get_cmap("viridis")
    for index, name in enumerate(bypasses):
        values = [found[name].schedule(float(c)) for c in counts[:101]]
        skips.plot(counts[:101], values, color=colours(0.9 * index / len(bypasses)), linewidth=1.4)
    skips.set(
        title=f"each of the {len(bypasses)} layers is skipped", ylabel="probability", ylim=(0, None)
    )
    skips.annotate("first layer", (700, 0.3), (1300, 0.36), arrowprops={"arrowstyle": "->"})
    skips.annotate("last layer", (3880, 0.3), (4100, 0.42), arrowprops={"arrowstyle": "->"})
    for axes in (rates, skips):
        axes.set_xlabel("adjusted batch count (600 s of audio each)")
    return figure


def positions() -> Figure:
    """The table of relative positions: rows are offsets, source minus target."""
    num_frames, num_channels = 61, 48
    table = compact_positions(num_frames, num_channels)
    offsets = range(1 - num_frames, num_frames)
    figure, (heat, lines) = plt.subplots(1, 2, figsize=(11, 4.2))
    image = heat.imshow(
        table.T.numpy(),
        aspect="auto",
        cmap="PuOr",
        vmin=-1.0,
        vmax=1.0,
        interpolation="nearest",
        extent=(offsets[0] - 0.5, offsets[-1] + 0.5, num_channels - 0.5, -0.5),
    )
    heat.set(xlabel="offset: source frame minus target frame", ylabel="channel of the encoding")
    heat.set_title("exact nearby, coarse far away")
    heat.grid(visible=False)
    figure.colorbar(image, ax=heat)
    for channel, (colour, style) in zip((0, 1, 6, 7), STYLES, strict=True):
        kind = f"{'sin' if channel % 2 else 'cos'}, harmonic {channel // 2 + 1}"
        lines.plot(offsets, table[:, channel], style, color=colour, label=f"{channel}: {kind}")
    lines.set(xlabel="offset: source frame minus target frame", ylabel="value", ylim=(-1.1, 1.9))
    lines.set_title("four of the channels")
    lines.legend(title="channel", fontsize=9, ncols=2, loc="upper center")
    return figure


def stacks() -> Figure:
    """Frame rates and widths of the medium model."""
    return draw_stacks(PRESETS["medium"])


def layer() -> Figure:
    """The blocks of a layer in the order in which a real layer calls them."""
    return draw_layer(layer_order())


def zapformer() -> Figure:
    """The published Zapformer: its stream, and what each stack replaces of it."""
    return draw_zapformer(ZapformerConfig())


def data_flow() -> Figure:
    """What each command reads, computes and writes."""
    return draw_data_flow()


FIGURES: dict[str, Callable[[], Figure]] = {
    f.__name__: f
    for f in (
        stacks,
        layer,
        positions,
        swoosh,
        balancer,
        whiten_heatmap,
        whiten_scatter,
        schedules,
        eden,
        zapformer,
        data_flow,
    )
}


def save(figure: Figure, path: Path) -> None:
    """Write a picture and close the figure; a drawing without shades gets a palette, for size."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    has_shades = bool(figure.findobj(AxesImage))
    plt.close(figure)
    with Image.open(drawn) as picture:
        plain = picture.convert("RGB")
    if not has_shades:
        plain = plain.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    plain.save(path, optimize=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the flags and write the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="folder")
    parser.add_argument("--only", choices=sorted(FIGURES), help="one picture; by default all")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(SETTINGS):
        for name in [args.only] if args.only else FIGURES:
            save(FIGURES[name](), args.out / f"{name}.png")


if __name__ == "__main__":
    main()
