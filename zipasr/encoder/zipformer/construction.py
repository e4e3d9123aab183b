"""The Zipformer built from its settings; names, metadata and states of its exported files.

Names, order and keys are those of published exports: sherpa-onnx makes the first states of a
stream from the sizes, and finds inputs and outputs by their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import gcd
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zipasr.base.config import flag_name, shown
from zipasr.encoder.chunk_masks import subsampled_lens
from zipasr.encoder.chunks import chunked_layout
from zipasr.encoder.inference import WeightShapes
from zipasr.encoder.protocol import ExportLayout, Flags
from zipasr.encoder.zipformer.config import HEAD_FLAGS, PRESETS, ZipformerConfig, preset_name
from zipasr.encoder.zipformer.front_end import Conv2dSubsampling
from zipasr.encoder.zipformer.model import Zipformer2, dropout_rate
from zipasr.encoder.zipformer.prepared import PreparedZipformer
from zipasr.encoder.zipformer.streaming import Zipformer2Chunks
from zipasr.nn.masks import make_pad_mask


@dataclass(frozen=True, slots=True)
class ZipformerEncoder:
    """An ``Encoder``: front end and Zipformer, which publish their weights side by side."""

    embed: Conv2dSubsampling
    encoder: Zipformer2

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """See ``Encoder``."""
        return {"encoder_embed": self.embed, "encoder": self.encoder}

    @property
    def chunks(self) -> Zipformer2Chunks:
        """See ``Encoder``."""
        return Zipformer2Chunks(self.embed, self.encoder)

    def __call__(
        self, features: Tensor, feature_lens: Tensor, lens: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """See ``Encoder``; a batch without padding is encoded without a mask."""
        x, x_lens = self.embed(features, feature_lens)
        if lens is None:
            mask: Tensor | None = make_pad_mask(x_lens, x.size(1))
            frames, num = self.encoder(x.transpose(0, 1), x_lens, mask)
            return frames.transpose(0, 1), num
        is_padded = min(subsampled_lens(num_frames) for num_frames in lens) < x.size(1)
        mask = make_pad_mask(x_lens, x.size(1)) if is_padded else None
        frames, num = self.encoder(x.transpose(0, 1).contiguous(), x_lens, mask)
        return frames.transpose(0, 1).contiguous(), num

    def prepared(self, dtype: torch.dtype) -> PreparedZipformer:
        """See ``Preparable``."""
        return PreparedZipformer(self.embed, self.encoder, dtype)

    def rank_state(self) -> dict[str, Any]:
        """See ``Encoder``: there is none."""
        return {}

    def load_rank_state(self, state: Mapping[str, Any]) -> None:
        """See ``Encoder``."""


def build(config: ZipformerConfig) -> ZipformerEncoder:
    """Build front end and encoder with fresh weights, in this order."""
    layer1, layer2, layer3 = config.embed_channels
    embed = Conv2dSubsampling(
        config.geometry.mel_bins,
        config.encoder_dim[0],
        layer1_channels=layer1,
        layer2_channels=layer2,
        layer3_channels=layer3,
        dropout=dropout_rate(config),
    )
    return ZipformerEncoder(embed, Zipformer2(config))


#: Channels of a query, of a value and of a position query in every published model, per head.
PUBLISHED_HEAD = (32, 12, 4)


class _Stack(NamedTuple):
    """Sizes of one stack."""

    factor: int
    num_layers: int
    dim: int
    feedforward: int
    kernel: int
    attention: HeadChannels


def infer(shapes: WeightShapes, hints: Flags) -> tuple[ZipformerConfig, list[str]]:
    """Read the sizes off the weights; see ``EncoderConfig.infer``."""
    causal = any(".causal_conv." in name for name in shapes.shapes)
    stacks = [_stack(shapes, i, causal) for i in range(shapes.count("encoder.encoders."))]
    heads, guesses = divide_among_heads([s.attention for s in stacks], hints)
    first = f"{shapes.layers_of(0)}0.self_attn_weights.linear_pos.weight"
    dims = tuple(stack.dim for stack in stacks)
    config = ZipformerConfig(
        num_encoder_layers=tuple(stack.num_layers for stack in stacks),
        downsampling_factor=tuple(stack.factor for stack in stacks),
        feedforward_dim=tuple(stack.feedforward for stack in stacks),
        num_heads=tuple(h.num for h in heads),
        encoder_dim=dims,
        query_head_dim=once(h.query for h in heads),
        value_head_dim=once(h.value for h in heads),
        pos_head_dim=once(h.position for h in heads),
        pos_dim=shapes.size(first, 1),
        encoder_unmasked_dim=dims,
        cnn_module_kernel=tuple(stack.kernel for stack in stacks),
        causal=causal,
        embed_channels=tuple(
            shapes.size(f"encoder_embed.conv.{index}.weight", 0) for index in (0, 4, 7)
        ),
    )
    traceless = {name: hints[name] for name in config.not_inferable if name in hints}
    if "encoder_unmasked_dim" not in traceless:
        name = preset_name(config)
        if name is None:
            guesses.append(
                "the weights do not tell --encoder-unmasked-dim, which matters in training only: "
                "nothing is masked"
            )
        else:
            traceless["encoder_unmasked_dim"] = PRESETS[name].encoder_unmasked_dim
    return replace(config, **traceless), guesses


def _stack(shapes: WeightShapes, index: int, causal: bool) -> _Stack:
    start, layers = f"encoder.encoders.{index}.", shapes.layers_of(index)
    layer = f"{layers}0."
    convolution = "depthwise_conv.chunkwise_conv" if causal else "depthwise_conv"
    position = shapes.size(f"{layer}self_attn_weights.linear_pos.weight", 0)
    in_proj = shapes.size(f"{layer}self_attn_weights.in_proj.weight", 0)
    is_slower = shapes.has(f"{start}downsample.")
    return _Stack(
        factor=shapes.size(f"{start}downsample.bias", 0) if is_slower else 1,
        num_layers=shapes.count(layers),
        dim=shapes.size(f"{layer}norm.bias", 0),
        feedforward=shapes.size(f"{layer}feed_forward2.in_proj.weight", 0),
        kernel=shapes.size(f"{layer}conv_module1.{convolution}.weight", 2),
        attention=HeadChannels(
            query=(in_proj - position) // 2,
            value=shapes.size(f"{layer}self_attn1.in_proj.weight", 0),
            position=position,
        ),
    )


class HeadChannels(NamedTuple):
    """Channels of the attention of one stack, all heads together."""

    query: int
    value: int
    position: int


class Heads(NamedTuple):
    """The heads of one stack: their number, and channels of each."""

    num: int
    query: int
    value: int
    position: int


def divide_among_heads(
    stacks: Sequence[HeadChannels], hints: Flags
) -> tuple[list[Heads], list[str]]:
    """Divide the channels of each stack among heads.

    Sizes as in published models come first; other hints than complete ones do not count against
    them. Where they do not fit, the choice agrees with the hints and, if it can be, has heads of
    one size in all stacks.

    Args:
        stacks: channels of each stack.
        hints: field -> value, any of ``HEAD_FLAGS``; what fits no stack is passed over.

    Returns:
        The heads of each stack; and a sentence if they could be others.
    """
    possible = [_possible_heads(stack) for stack in stacks]
    if _in_all(possible, PUBLISHED_HEAD) and not all(name in hints for name in HEAD_FLAGS):
        return [_of_size(options, PUBLISHED_HEAD) for options in possible], []
    told = [
        [heads for heads in options if _agrees(heads, hints, index, len(stacks))]
        for index, options in enumerate(possible)
    ]
    possible = told if all(told) else possible
    chosen = [max(options, key=lambda heads: _likeness(heads[1:])) for options in possible]
    sizes = {heads[1:] for options in possible for heads in options}
    if common := [size for size in sizes if _in_all(possible, size)]:
        best = max(common, key=_likeness)
        chosen = [_of_size(options, best) for options in possible]
    if all(len(options) == 1 for options in possible):
        return chosen, []
    words = " ".join(
        f"{flag_name(name)} {shown(once(heads[axis] for heads in chosen))}"
        for axis, name in enumerate(HEAD_FLAGS)
    )
    return chosen, [f"the weights do not tell the number of attention heads: taken as {words}"]


def _in_all(possible: Sequence[Sequence[Heads]], size: tuple[int, ...]) -> bool:
    return all(any(heads[1:] == size for heads in options) for options in possible)


def _of_size(options: Sequence[Heads], size: tuple[int, ...]) -> Heads:
    return next(heads for heads in options if heads[1:] == size)


def _possible_heads(stack: HeadChannels) -> list[Heads]:
    most = gcd(stack.query, stack.value, stack.position)
    return [
        Heads(num, stack.query // num, stack.value // num, stack.position // num)
        for num in range(1, most + 1)
        if most % num == 0
    ]


def _agrees(heads: Heads, hints: Flags, index: int, num_stacks: int) -> bool:
    """Say whether nothing that is known of the heads of one stack is against a choice."""
    for value, name in zip(heads, HEAD_FLAGS, strict=True):
        known = hints.get(name, ())
        if len(known) in (1, num_stacks) and known[index % len(known)] != value:
            return False
    return True


def _likeness(size: tuple[int, ...]) -> tuple[int, ...]:
    """Rank sizes of heads: those of published models first, then what comes close."""
    same = [int(value == usual) for value, usual in zip(size, PUBLISHED_HEAD, strict=True)]
    return (sum(same), same[2], -abs(size[0] - PUBLISHED_HEAD[0]))


def once(values: Iterable[int]) -> tuple[int, ...]:
    """Write a value for each stack once when it is always the same."""
    every = tuple(values)
    return every[:1] if len({*every}) == 1 else every


#: Channels of the front end's state as sherpa-onnx makes it, whatever the model has.
CLIENT_CHANNELS = 128

_LAYER_STATES = (
    "cached_key",
    "cached_nonlin_attn",
    "cached_val1",
    "cached_val2",
    "cached_conv1",
    "cached_conv2",
)


def export_layout(config: ZipformerConfig) -> ExportLayout:
    """Return the layout of exported files."""
    channels = config.embed_channels[2]
    is_wide = channels > CLIENT_CHANNELS and config.causal and config.chunk_size[0] > 0
    told = (
        f"sherpa-onnx streams front ends of at most {CLIENT_CHANNELS} channels, this one has "
        f"{channels}: the files are for onnxruntime. For sherpa-onnx, train with --embed-channels "
        f"8,32,{CLIENT_CHANNELS}."
    )

    def to_file(states: Sequence[Tensor]) -> list[Tensor]:
        # The front end's state is filled with zeros up to the channels that sherpa-onnx gives it.
        *layers, embed, processed = states
        missing = max(0, CLIENT_CHANNELS - embed.size(1))
        return [*layers, F.pad(embed, (0, 0, 0, 0, 0, missing)), processed.to(torch.int64)]

    def from_file(states: Sequence[Tensor]) -> list[Tensor]:
        *layers, embed, processed = states
        return [*layers, embed[:, :channels], processed]

    return chunked_layout(
        config,
        _LAYER_STATES,
        "embed_states",
        {
            "encoder_dims": config.per_stack("encoder_dim"),
            "cnn_module_kernels": config.per_stack("cnn_module_kernel"),
        },
        model_type="zipformer2",
        has_client=not is_wide,
        streams_ctc=True,
        limits=(told,) * is_wide,
        to_file=to_file,
        from_file=from_file,
    )
