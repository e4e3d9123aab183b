"""Boxes and arrows: stacks at their frame rates, and the blocks of a layer as they are called."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from zipasr.encoder.zapformer.config import ZapformerConfig
from zipasr.encoder.zipformer.config import ZipformerConfig

#: Fill of a box by the kind of its block; the text in the box says the kind as well.
FILLS = {
    "feed_forward": "#cfe5f2",
    "self_attn": "#f7d9c4",
    "nonlin_attention": "#f7d9c4",
    "self_attn_weights": "#f2c1a0",
    "conv_module": "#cdebdf",
    "bypass": "#ffffff",
    "norm": "#e6e6e6",
}
WORDS = {
    "self_attn_weights": "attention weights W",
    "feed_forward": "feed-\nforward",
    "nonlin_attention": "non-linear\nattention",
    "self_attn": "self-\nattention",
    "conv_module": "convo-\nlution",
    "bypass_mid": "bypass",
    "bypass": "bypass",
    "norm": "Bias-\nNorm",
}
#: Hz.
RATE_OF_FEATURES = 100.0
#: From block to block, and the width of the box of the attention weights.
STRIDE, WIDTH_OF_WEIGHTS = 1.16, 7.2


def draw_stacks(config: ZipformerConfig) -> Figure:
    """Draw the front end, every stack at its frame rate, and the output."""
    figure, axes = plt.subplots(figsize=(12, 6.2))
    factors = config.downsampling_factor
    rates = sorted({RATE_OF_FEATURES, *(RATE_OF_FEATURES / 2 / f for f in factors)}, reverse=True)
    height = {rate: -float(index) for index, rate in enumerate(rates)}
    trunk, end = height[RATE_OF_FEATURES / 2], float(len(factors))
    for rate, y in height.items():
        axes.axhline(y, color="0.85", linewidth=1, zorder=0)
        axes.text(-1.6, y, f"{rate:g} Hz\n{1000 / rate:g} ms", ha="right", va="center", fontsize=10)
    _box(axes, (-1.0, height[RATE_OF_FEATURES]), "features\n80 mel bins", "#ffffff", (0.92, 0.5))
    _arrow(axes, (-1.0, height[RATE_OF_FEATURES] - 0.25), (-1.0, trunk + 0.32))
    embed = f"front end\n4-D inside\n{config.encoder_dim[0]} channels"
    _box(axes, (-1.0, trunk), embed, "#e6e6e6", (0.92, 0.62))
    _arrow(axes, (-0.53, trunk), (end - 0.02, trunk), linewidth=2.2)
    for index, factor in enumerate(factors):
        y = height[RATE_OF_FEATURES / 2 / factor]
        if factor > 1:
            _hang(axes, index, trunk, y, factor)
        _box(axes, (index, y), _stack_text(config, index), "#cfe5f2", (0.86, 0.74))
    _draw_end(axes, config, (end + 0.45, trunk), height[RATE_OF_FEATURES / 4])
    legend = (
        "÷n: weighted mean of n frames\n×n: every frame n times\nb: bypass, mixes with the input"
    )
    axes.text(-1.45, min(height.values()) + 0.5, legend, fontsize=10, va="center", linespacing=1.6)
    axes.set(xlim=(-2.1, end + 1.0), ylim=(min(height.values()) - 0.45, 0.35))
    axes.axis("off")
    return figure


def _stack_text(config: ZipformerConfig, index: int) -> str:
    layers, dim, num_heads = (
        config.per_stack(name)[index] for name in ("num_encoder_layers", "encoder_dim", "num_heads")
    )
    return f"stack {index}\n{layers} layers\n{dim} channels\n{num_heads} heads"


def _hang(axes: Axes, x: float, trunk: float, y: float, factor: int) -> None:
    """Draw the way from the trunk down to a stack and back."""
    left, right = x - 0.2, x + 0.2
    _arrow(axes, (left, trunk), (left, y + 0.38))
    _arrow(axes, (right, y + 0.38), (right, trunk - 0.1))
    axes.plot(
        [right], [trunk], "o", color="white", markeredgecolor="black", markersize=13, zorder=3
    )
    axes.text(right, trunk - 0.01, "b", ha="center", va="center", fontsize=9, zorder=4)
    axes.text(left - 0.05, trunk - 0.35, f"÷{factor}", ha="right", va="center", fontsize=11)
    axes.text(right + 0.05, trunk - 0.35, f"×{factor}", ha="left", va="center", fontsize=11)


def _draw_end(
    axes: Axes, config: ZipformerConfig, place: tuple[float, float], output: float
) -> None:
    """Draw how the outputs of the stacks are joined, and the last halving of the rate."""
    x, y = place
    _box(axes, place, "each channel\nfrom the latest\nstack that has it", "#ffffff", (0.9, 0.62))
    _arrow(axes, (x, y - 0.31), (x, output + 0.25))
    axes.text(x + 0.05, (y + output) / 2 - 0.02, "÷2", fontsize=11, va="center")
    _box(axes, (x, output), f"output\n{config.output_dim} channels", "#e6e6e6", (0.9, 0.5))


def draw_zapformer(config: ZapformerConfig) -> Figure:
    """Draw the stream of a Zapformer, and its stacks, which read a part of it and replace it."""
    figure, axes = plt.subplots(figsize=(12, 4.9))
    end = float(config.num_stacks)
    front = f"front end\n{config.embed_dim} channels\n50 Hz"
    _box(axes, (-1.0, 0.0), front, "#e6e6e6", (0.92, 0.74))
    _arrow(axes, (-0.53, 0.0), (end - 0.02, 0.0), linewidth=2.2)
    for index, factor in enumerate(config.downsampling_factor):
        layers = config.per_stack("num_encoder_layers")[index]
        rate = RATE_OF_FEATURES / 2 / factor
        text = f"stack {index}, {rate:g} Hz\n{layers} layers\n{config.encoder_dims[index]} channels"
        _box(axes, (index, -1.75), text, "#cfe5f2", (0.86, 0.74))
        left, right = index - 0.22, index + 0.22
        _arrow(axes, (left, 0.0), (left, -1.37))
        _arrow(axes, (right, -1.37), (right, -0.1))
        axes.plot(
            [right], [0.0], "o", color="white", markeredgecolor="black", markersize=12, zorder=3
        )
        axes.plot([right], [0.0], "+", color="black", markersize=8, zorder=4)
        if factor > 1:
            beside = f"{factor} side\nby side"
            axes.text(left - 0.05, -0.62, beside, ha="right", va="center", fontsize=9)
        axes.text(left - 0.05, -1.1, "W", ha="right", va="center", fontsize=11)
        axes.text(right + 0.05, -1.1, "W'", ha="left", va="center", fontsize=11)
    output = f"2 side by side\nRmsNorm\n{config.output_dim} channels, 25 Hz"
    _box(axes, (end + 0.45, 0.0), output, "#e6e6e6", (0.98, 0.74))
    legend = (
        "W: nearly orthogonal projection to the width of the stack; W': its transpose\n"
        "a stack returns the weighted sum of its layers' outputs, minus what it read"
    )
    axes.text((end - 1.0) / 2, 0.75, legend, ha="center", va="center", fontsize=10)
    axes.set(xlim=(-1.6, end + 1.05), ylim=(-2.3, 1.15))
    axes.axis("off")
    return figure


def draw_layer(order: Sequence[str]) -> Figure:
    """Draw the blocks of a layer.

    Args:
        order: names of the blocks as they are called; the attention weights come first.
    """
    figure, axes = plt.subplots(figsize=(12.5, 4.5))
    first, *blocks = order
    place = {name: STRIDE * index for index, name in enumerate(blocks)}
    users = [name for name in blocks if _kind(name) in ("nonlin_attention", "self_attn")]
    middle = (place[users[0]] + place[users[-1]]) / 2
    _box(axes, (middle, 1.75), WORDS[first], FILLS[first], (WIDTH_OF_WEIGHTS, 0.42))
    for name in users:
        _arrow(axes, (place[name], 1.53), (place[name], 0.5))
        text = "head 0" if _kind(name) == "nonlin_attention" else "all heads"
        axes.text(place[name] + 0.06, 1.0, text, fontsize=10, va="center")
    end = place[blocks[-1]] + 1.0
    _arrow(axes, (-1.0, 0.0), (end, 0.0), linewidth=2.2)
    for name, x in place.items():
        _draw_block(axes, name, x)
    axes.text(-1.05, 0.0, "input", ha="right", va="center", fontsize=11)
    axes.text(end + 0.05, 0.0, "output", va="center", fontsize=11)
    _draw_input(axes, [x for name, x in place.items() if _kind(name) == "bypass"], middle)
    axes.set(xlim=(-1.65, end + 0.75), ylim=(-1.45, 2.1))
    axes.axis("off")
    return figure


def _draw_block(axes: Axes, name: str, x: float) -> None:
    """Draw a block on the trunk; a plus behind it where its result is added to what goes in."""
    number = name[len(name.rstrip("0123456789")) :]
    text = f"{WORDS.get(name) or WORDS[_kind(name)]}\n{number}".strip()
    replaces = _kind(name) in ("bypass", "norm")
    _box(axes, (x, 0.0), text, FILLS[_kind(name)], (0.88, 0.52 if replaces else 0.92))
    if not replaces:
        plus = x + STRIDE / 2
        axes.plot(
            [plus], [0.0], "o", color="white", markeredgecolor="black", markersize=11, zorder=3
        )
        axes.plot([plus], [0.0], "+", color="black", markersize=8, zorder=4)


def _draw_input(axes: Axes, bypasses: Sequence[float], middle: float) -> None:
    """Lead the input to the attention weights and to both bypasses."""
    corner = -0.8
    axes.plot([corner, corner], [-0.95, 1.75], color="black", linewidth=1.2)
    _arrow(axes, (corner, 1.75), (middle - WIDTH_OF_WEIGHTS / 2 - 0.02, 1.75))
    axes.plot([corner, bypasses[-1]], [-0.95, -0.95], color="black", linewidth=1.2)
    for x in bypasses:
        _arrow(axes, (x, -0.95), (x, -0.28))
    text = "both bypasses mix with the input of the layer: input + (new − input) · scale"
    axes.text(middle, -1.2, text, ha="center", va="center", fontsize=11)


def _kind(name: str) -> str:
    base = name.rstrip("0123456789")
    return "bypass" if base == "bypass_mid" else base


def _box(
    axes: Axes, centre: tuple[float, float], text: str, fill: str, size: tuple[float, float]
) -> None:
    (x, y), (width, height) = centre, size
    corner = (x - width / 2, y - height / 2)
    style = "round,pad=0,rounding_size=0.06"
    axes.add_patch(
        FancyBboxPatch(corner, width, height, boxstyle=style, fc=fill, ec="black", lw=1.1, zorder=3)
    )
    axes.text(x, y, text, ha="center", va="center", fontsize=9.5, zorder=4)


def _arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], linewidth: float = 1.2
) -> None:
    arrow = {
        "arrowstyle": "-|>",
        "color": "black",
        "linewidth": linewidth,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    axes.annotate("", end, start, arrowprops=arrow, zorder=2)
