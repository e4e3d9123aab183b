"""Walk one batch through the model and print the shape that every part really gives.

The shapes are caught by hooks on the model itself. Weights are random, and not needed for this.

    python -m docs.shapes --preset medium --frames 150
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zipasr.encoder.protocol import Geometry
from zipasr.encoder.zipformer.config import PRESETS
from zipasr.encoder.zipformer.layer import Zipformer2EncoderLayer
from zipasr.encoder.zipformer.model import Zipformer2
from zipasr.model.build import build_model
from zipasr.model.config import ModelConfig, TransducerConfig
from zipasr.model.transducer import AsrModel
from zipasr.nn.balancer import Balancer
from zipasr.nn.schedule import ScheduledFloat
from zipasr.nn.whiten import Whiten

VOCAB_SIZE = 500
FEATURE_DIM = Geometry().mel_bins
MIN_FRAMES = Geometry().min_frames

Shape = tuple[int, ...]


class Call(NamedTuple):
    """Shapes of the tensors that went into a module, and of the first that came out."""

    inputs: tuple[Shape, ...]
    output: Shape


class Row(NamedTuple):
    """One line of a table."""

    part: str
    axes: str
    shape: Shape


class Title(NamedTuple):
    """The heading of a table."""

    text: str


Walk = list[Row | Title]


def _first(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else value[0]


@contextmanager
def recorded(model: nn.Module) -> Iterator[dict[str, Call]]:
    """Yield a dictionary that collects the last call of every submodule of ``model``, by name."""
    calls: dict[str, Call] = {}

    def record(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            del module
            shapes = tuple(tuple(a.shape) for a in args if isinstance(a, Tensor))
            calls[name] = Call(shapes, tuple(_first(output).shape))

        return hook

    handles = [
        module.register_forward_hook(record(name)) for name, module in model.named_modules() if name
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def run(model: AsrModel, num_utterances: int, num_frames: int, num_tokens: int) -> dict[str, Call]:
    """Compute the losses of random features and labels; return what the parts gave."""
    features = torch.randn(num_utterances, num_frames, FEATURE_DIM)
    lens = torch.full((num_utterances,), num_frames)
    tokens = [list(range(1, num_tokens + 1))] * num_utterances
    model.eval()
    with torch.no_grad(), recorded(model) as calls:
        model(features, lens, tokens, TransducerConfig())
    return calls


def front_end(calls: dict[str, Call]) -> Walk:
    """From the 3-D batch to the 4-D picture and back."""
    embed = "encoder_embed."
    picture = calls[embed + "convnext"].output
    rows: Walk = [
        Title("Front end: 3-D, then 4-D, then 3-D"),
        Row("features", "N, T, mel", calls["encoder_embed"].inputs[0]),
        Row("channel axis added", "N, C, T, mel", calls[embed + "conv.0"].inputs[0]),
    ]
    for name, kind in (("conv.0", "Conv2d"), ("conv.4", "Conv2d"), ("conv.7", "Conv2d")):
        rows.append(Row(f"`{embed}{name}` {kind}", "N, C, T, F", calls[embed + name].output))
    flat = (picture[0], picture[2], picture[1] * picture[3])
    return [
        *rows,
        Row(f"`{embed}convnext`", "N, C, T1, F", picture),
        Row("channels and bins, one axis", "N, T1, C·F", flat),
        Row(f"`{embed}out` Linear", "N, T1, C", calls[embed + "out_whiten"].output),
        Row(f"`{embed}out_norm`", "N, T1, C", calls[embed + "out_norm"].output),
        Row("time first", "T1, N, C", calls["encoder"].inputs[0]),
    ]


def stacks(encoder: Zipformer2, calls: dict[str, Call]) -> Walk:
    """What every stack is given, what its layers see, and what it returns."""
    rows: Walk = [Title("Stacks: 3-D, time first")]
    for index, factor in enumerate(encoder.factors):
        name = f"encoder.encoders.{index}"
        layers = f"{name}.layers" if factor == 1 else f"{name}.encoder.layers"
        weights = calls[f"{layers}.0.self_attn_weights"]
        rows.append(Row(f"`{name}` is given", "T1, N, C", calls[name].inputs[0]))
        if factor > 1:
            rows.append(
                Row(f"… `downsample` by {factor}", "T', N, C", calls[f"{name}.downsample"].output)
            )
        rows.append(Row("… attention weights", "N, H, T', T'", weights.output))
        rows.append(Row("… returns", "T1, N, C", calls[name].output))
    end = calls["encoder.downsample_output"]
    return [
        *rows,
        Row("widest output of all stacks", "T1, N, C", end.inputs[0]),
        Row("`encoder.downsample_output`", "T', N, C", end.output),
        Row("result of `encode`", "N, T', C", calls["joiner.encoder_proj"].inputs[0]),
    ]


def one_layer(calls: dict[str, Call]) -> Walk:
    """The blocks of the first layer of the first stack."""
    layer = next(name for name in calls if name.endswith("layers.0"))
    weights = calls[f"{layer}.self_attn_weights"]
    rows: Walk = [
        Title("One layer: the first of the first stack"),
        Row("input", "T', N, C", calls[layer].inputs[0]),
        Row("relative positions", "1, 2T'-1, pos", weights.inputs[1]),
        Row("`self_attn_weights`", "N, H, T', T'", weights.output),
    ]
    blocks = ("feed_forward1", "nonlin_attention", "self_attn1", "conv_module1", "norm")
    return rows + [
        Row(f"`{block}`", "T', N, C", calls[f"{layer}.{block}"].output) for block in blocks
    ]


def heads(calls: dict[str, Call]) -> Walk:
    """Encoder frames and labels to scores."""
    joiner, kept = calls["joiner"], calls["joiner.output_linear"].inputs[0]
    return [
        Title("Heads: 3-D, the joiner 4-D"),
        Row("`ctc_output`, CTC", "N, T', V", calls["ctc_output.2"].output),
        Row("`simple_am_proj`, encoder scores", "N, T', V", calls["simple_am_proj"].output),
        Row("labels after a blank", "N, U+1", calls["decoder"].inputs[0]),
        Row("`decoder`", "N, U+1, C", calls["decoder"].output),
        Row("`simple_lm_proj`, decoder scores", "N, U+1, V", calls["simple_lm_proj"].output),
        Row("`joiner.encoder_proj`", "N, T', C", calls["joiner.encoder_proj"].output),
        Row("`joiner.output_linear` is given", "N, T', range, C", kept),
        Row("`joiner`", "N, T', range, V", joiner.output),
    ]


def walk(preset: str, num_frames: int, num_utterances: int = 1, num_tokens: int = 6) -> Walk:
    """Build the model of ``preset`` and list the shapes of one batch, from features to scores.

    Args:
        preset: key of ``zipasr.encoder.zipformer.model.PRESETS``.
        num_frames: T, feature frames of 10 ms.
        num_utterances: N.
        num_tokens: U, labels of each utterance.
    """
    model = build_model(PRESETS[preset], ModelConfig(use_ctc=True), VOCAB_SIZE)
    calls = run(model, num_utterances, num_frames, num_tokens)
    encoder = model.encoder
    assert isinstance(encoder, Zipformer2)
    return [*front_end(calls), *stacks(encoder, calls), *one_layer(calls), *heads(calls)]


def layer_order(preset: str = "small") -> list[str]:
    """Return the blocks of the first layer in the order in which the layer calls them.

    Balancers and Whiten, which do nothing to the values, are left out.
    """
    encoder = Zipformer2(PRESETS[preset]).eval()
    layer = next(m for m in encoder.modules() if isinstance(m, Zipformer2EncoderLayer))
    order: list[str] = []
    for name, child in layer.named_children():
        if not isinstance(child, Balancer | Whiten | ScheduledFloat):
            child.register_forward_pre_hook(lambda *_, name=name: order.append(name))
    with torch.no_grad():
        encoder.encoders[0](torch.randn(5, 1, encoder.encoder_dims[0]))
    return order


def as_markdown(lines: Iterable[Row | Title]) -> str:
    """Return one table a title, to be read in a terminal and on a page."""
    text = []
    for line in lines:
        if isinstance(line, Title):
            text += ["", f"**{line.text}**", "", *_table_row("part", "axes", "shape")]
            text.append(f"|{'-' * 39}|{'-' * 18}|{'-' * 20}|")
        else:
            text += _table_row(line.part, line.axes, ", ".join(map(str, line.shape)))
    return "\n".join(text).strip() + "\n"


def _table_row(part: str, axes: str, shape: str) -> list[str]:
    return [f"| {part:<37} | {axes:<16} | {shape:<18} |"]


def main(argv: Sequence[str] | None = None) -> None:
    """Read the flags and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--preset", choices=sorted(PRESETS), default="small")
    parser.add_argument("--frames", type=int, default=150, help="feature frames of 10 ms")
    parser.add_argument("--utterances", type=int, default=1, help="size of the batch")
    args = parser.parse_args(argv)
    if args.frames < MIN_FRAMES or args.utterances < 1:
        parser.error(f"--frames must be at least {MIN_FRAMES}, and --utterances at least 1")
    sys.stdout.write(as_markdown(walk(args.preset, args.frames, args.utterances)))


if __name__ == "__main__":
    main()
