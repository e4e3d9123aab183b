"""The first Zipformer built from its settings; names, metadata and states of its exported files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from zipasr.encoder.inference import WeightShapes
from zipasr.encoder.protocol import ExportLayout, Flags, joined
from zipasr.encoder.zipformer1.config import POS_HEAD_DIM, Zipformer1Config
from zipasr.encoder.zipformer1.model import Zipformer
from zipasr.encoder.zipformer1.scaling import call_counts, set_call_counts
from zipasr.encoder.zipformer1.streaming import Zipformer1Chunks, chunk_frames

# The weights, and so the balancers, are known by names that begin with that of the part.
_PREFIX = "encoder."


@dataclass(frozen=True, slots=True)
class Zipformer1Encoder:
    """An ``Encoder``: one module, with the front end inside."""

    encoder: Zipformer

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """See ``Encoder``."""
        return {"encoder": self.encoder}

    @property
    def chunks(self) -> Zipformer1Chunks:
        """See ``Encoder``."""
        return Zipformer1Chunks(self.encoder)

    def __call__(
        self, features: Tensor, feature_lens: Tensor, _lens: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """See ``Encoder``."""
        frames, num = self.encoder(features, feature_lens)
        return frames, num

    def rank_state(self) -> dict[str, Any]:
        """See ``Encoder``: how often each balancer was called."""
        return {f"{_PREFIX}{name}": count for name, count in call_counts(self.encoder).items()}

    def load_rank_state(self, state: Mapping[str, Any]) -> None:
        """See ``Encoder``."""
        counts = {name.removeprefix(_PREFIX): count for name, count in state.items()}
        set_call_counts(self.encoder, counts)


def build(config: Zipformer1Config) -> Zipformer1Encoder:
    """Build the encoder with fresh weights."""
    return Zipformer1Encoder(Zipformer(config))


def infer(shapes: WeightShapes, hints: Flags) -> tuple[Zipformer1Config, list[str]]:
    """Read the sizes of the first Zipformer; its streaming version has the same weights."""
    stacks = [_stack(shapes, i) for i in range(shapes.count("encoder.encoders."))]
    sizes: dict[str, Any] = {name: tuple(stack[name] for stack in stacks) for name in stacks[0]}
    found = Zipformer1Config(**sizes, encoder_unmasked_dims=sizes["encoder_dims"])
    traceless = {name: hints[name] for name in found.not_inferable if name in hints}
    guesses = []
    published = Zipformer1Config()
    if "encoder_unmasked_dims" not in traceless and found.encoder_dims == published.encoder_dims:
        traceless["encoder_unmasked_dims"] = published.encoder_unmasked_dims
    if "causal" not in traceless and traceless.keys() & {*found.free_when_decoding}:
        traceless["causal"] = True  # only the streaming recipe has these flags
    if "causal" not in traceless:
        guesses.append(
            "the weights do not tell whether the model is a streaming one: taken as --causal 0"
        )
    return replace(found, **traceless), guesses


def _stack(shapes: WeightShapes, index: int) -> dict[str, int]:
    start, layers = f"encoder.encoders.{index}.", shapes.layers_of(index)
    layer = f"{layers}0."
    is_slower = shapes.has(f"{start}downsample.")
    position = shapes.size(f"{layer}self_attn.linear_pos.weight", 0)
    in_proj = shapes.size(f"{layer}self_attn.in_proj.weight", 0)
    return {
        "zipformer_downsampling_factors": (
            shapes.size(f"{start}upsample.bias", 0) if is_slower else 1
        ),
        "num_encoder_layers": shapes.count(layers),
        "encoder_dims": shapes.size(f"{layer}self_attn.in_proj.weight", 1),
        "feedforward_dims": shapes.size(f"{layer}feed_forward1.in_proj.weight", 0),
        "cnn_module_kernels": shapes.size(f"{layer}conv_module1.depthwise_conv.weight", 2),
        "nhead": position // POS_HEAD_DIM,
        # Queries, keys, half as many values, and the queries for positions.
        "attention_dims": (in_proj - position) * 2 // 5,
    }


_STATES = (
    "cached_len",
    "cached_avg",
    "cached_key",
    "cached_val",
    "cached_val2",
    "cached_conv1",
    "cached_conv2",
)


def export_layout(config: Zipformer1Config) -> ExportLayout:
    """Return the layout of exported files; a causal model always hears chunks."""
    chunks, factors = config.chunks, config.zipformer_downsampling_factors
    lists = {
        "num_encoder_layers": config.num_encoder_layers,
        "encoder_dims": config.encoder_dims,
        "attention_dims": config.attention_dims,
        "cnn_module_kernels": config.cnn_module_kernels,
        "left_context_len": tuple(chunks.left_frames // factor for factor in factors),
    }
    numbers = {"decode_chunk_len": str(config.decode_chunk_len), "T": str(chunk_frames(config))}
    told = (
        "sherpa-onnx does not stream the CTC head of the first Zipformer: that file is for "
        "onnxruntime."
    )
    return ExportLayout(
        model_type="zipformer",
        state_names=tuple(f"{kind}_{i}" for kind in _STATES for i in range(config.num_stacks)),
        streaming_metadata=numbers | joined(lists),
        is_streaming=config.causal,
        chunks_name=f"-chunk-{chunks.size}-left-{chunks.left_frames}" if config.causal else "",
        has_client=True,
        ctc_limits=(told,) * config.causal,
    )
