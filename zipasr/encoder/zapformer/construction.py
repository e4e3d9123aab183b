"""The Zapformer built from its settings; names, metadata and states of its exported files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import gcd
from typing import Any, NamedTuple

from torch import Tensor, nn

from zipasr.encoder.chunks import chunked_layout
from zipasr.encoder.inference import WeightShapes
from zipasr.encoder.protocol import ExportLayout, Flags, Geometry
from zipasr.encoder.zapformer.config import ZapformerConfig
from zipasr.encoder.zapformer.front_end import FrontEnd
from zipasr.encoder.zapformer.model import Zapformer
from zipasr.encoder.zapformer.streaming import ZapformerChunks
from zipasr.nn.masks import make_pad_mask


@dataclass(frozen=True, slots=True)
class ZapformerEncoder:
    """An ``Encoder``: front end and Zapformer, which publish their weights side by side."""

    embed: FrontEnd
    encoder: Zapformer
    geometry: Geometry

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """See ``Encoder``."""
        return {"encoder_embed": self.embed, "encoder": self.encoder}

    @property
    def chunks(self) -> ZapformerChunks:
        """See ``Encoder``."""
        return ZapformerChunks(self.embed, self.encoder, self.geometry)

    def __call__(
        self, features: Tensor, feature_lens: Tensor, _lens: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """See ``Encoder``; there is always a mask, which says what fills the slow stacks up."""
        x, x_lens = self.embed(features, feature_lens)
        mask = make_pad_mask(x_lens, x.size(1))
        frames, num = self.encoder(x.transpose(0, 1).contiguous(), x_lens, mask)
        return frames.transpose(0, 1).contiguous(), num

    def rank_state(self) -> dict[str, Any]:
        """See ``Encoder``: there is none."""
        return {}

    def load_rank_state(self, state: Mapping[str, Any]) -> None:
        """See ``Encoder``."""


def build(config: ZapformerConfig) -> ZapformerEncoder:
    """Build front end and encoder with fresh weights, in this order."""
    bins, width = config.geometry.mel_bins, config.embed_dim
    embed = FrontEnd(bins, width, config.causal, config.embed_channels)
    return ZapformerEncoder(embed, Zapformer(config), config.geometry)


class _Stack(NamedTuple):
    """Sizes of one stack."""

    num_layers: int
    in_channels: int
    dim: int
    hidden: int
    num_heads: int
    query: int
    value: int
    position: int
    kernel: int


def infer(shapes: WeightShapes, hints: Flags) -> tuple[ZapformerConfig, list[str]]:
    """Read the sizes off the weights; see ``EncoderConfig.infer``."""
    stacks = [_stack(shapes, i) for i in range(shapes.count("encoder.encoders."))]
    embed_dim = shapes.size("encoder_embed.out.weight", 0)
    # The unit is the largest possible, unless a smaller one is told.
    base = gcd(embed_dim, *(stack.dim for stack in stacks))
    told = hints.get("base_dim")
    base = told if told and base % told == 0 else base
    first = "encoder.encoders.0.layers.0."
    found = ZapformerConfig(
        base_dim=base,
        num_encoder_layers=tuple(stack.num_layers for stack in stacks),
        downsampling_factor=tuple(stack.in_channels // embed_dim for stack in stacks),
        embed_channels=tuple(
            shapes.size(f"encoder_embed.conv.{number}.weight", 0) for number in (0, 3, 5)
        ),
        embed_multiple=embed_dim // base,
        encoder_multiple=tuple(stack.dim // base for stack in stacks),
        feedforward_multiple=tuple(stack.hidden // stack.dim for stack in stacks),
        num_heads=tuple(stack.num_heads for stack in stacks),
        query_head_dim=tuple(stack.query for stack in stacks),
        value_head_dim=tuple(stack.value for stack in stacks),
        pos_head_dim=tuple(stack.position for stack in stacks),
        conv_params=tuple(stack.kernel for stack in stacks),
        causal=shapes.has(f"{first}norm.ballast_rms"),
    )
    traceless = {name: hints[name] for name in found.not_inferable if name in hints}
    return replace(found, **traceless), []


def _stack(shapes: WeightShapes, index: int) -> _Stack:
    start = f"encoder.encoders.{index}."
    layer = f"{start}layers.0."
    heads = shapes.size(f"{layer}self_attn.rel_pos.weight", 0)
    position = shapes.size(f"{layer}self_attn.rel_pos.weight", 1)
    qkp = shapes.size(f"{layer}self_attn.qkp_in_proj.weight", 0)
    return _Stack(
        num_layers=shapes.count(f"{start}layers."),
        in_channels=shapes.size(f"{start}proj.weight", 1),
        dim=shapes.size(f"{start}proj.weight", 0),
        hidden=shapes.size(f"{layer}feed_forward1.in_proj.weight", 0),
        num_heads=heads,
        query=(qkp // heads - position) // 2,
        value=shapes.size(f"{layer}self_attn.vg_in_proj.weight", 0) // (3 * heads),
        position=position,
        kernel=shapes.size(f"{layer}conv_module.depthwise_conv.weight", 2),
    )


_LAYER_STATES = (
    "cached_key",
    "cached_value",
    "cached_conv",
    "cached_norm_stats",
    "cached_norm_len",
    "cached_attn_wm_sum",
    "cached_attn_wm_num_frames",
    "cached_conv_wm_sum",
    "cached_conv_wm_num_frames",
)


def export_layout(config: ZapformerConfig) -> ExportLayout:
    """Return the layout of exported files.

    Whole utterances need no state, and so nothing that clients do not know of the Zipformer.
    """
    is_streaming = config.causal and config.chunk_size[0] > 0
    told = (
        "sherpa-onnx does not know the states of a streaming Zapformer yet: the files are for "
        "onnxruntime, and transcribe.py --model FOLDER runs them."
    )
    return chunked_layout(
        config,
        _LAYER_STATES,
        "embed_cache",
        {"encoder_dims": config.encoder_dims, "conv_params": config.per_stack("conv_params")},
        model_type="zapformer" if is_streaming else "zipformer2",
        has_client=not is_streaming,
        limits=(told,) * is_streaming,
    )
