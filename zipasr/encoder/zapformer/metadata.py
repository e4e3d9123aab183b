"""Names, metadata and states of the Zapformer in files, as icefall's exports have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zipasr.base.errors import UserError
from zipasr.encoder.zapformer.config import ZapformerConfig
from zipasr.encoder.zapformer.streaming import chunk_frames

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


@dataclass(frozen=True, slots=True)
class ZapformerLayout:
    """An ``ExportLayout``."""

    config: ZapformerConfig

    streams_ctc = False

    @property
    def model_type(self) -> str:
        """See ``ExportLayout``: clients know whole utterances by the name of the Zipformer."""
        return "zapformer" if self.is_streaming else "zipformer2"

    @property
    def is_streaming(self) -> bool:
        """See ``ExportLayout``: a causal model may also hear whole utterances."""
        return self.config.causal and self.config.chunk_size[0] > 0

    @property
    def chunks_name(self) -> str:
        """See ``ExportLayout``."""
        if not self.is_streaming:
            return ""
        config = self.config
        return f"-chunk-{config.chunk_size[0]}-left-{config.left_context_frames[0]}"

    @property
    def has_client(self) -> bool:
        """See ``ExportLayout``: whole utterances need no state, and so nothing that is new."""
        return not self.is_streaming

    def check(self) -> None:
        """See ``ExportLayout``."""
        config = self.config
        if config.causal and (config.chunk_size[0] > 0) != (config.left_context_frames[0] > 0):
            raise UserError(
                "--chunk-size and --left-context-frames must both be positive, or both -1 for an "
                "export that hears whole utterances."
            )

    def client_limits(self, use_ctc: bool) -> list[str]:  # noqa: ARG002
        """See ``ExportLayout``."""
        if self.has_client:
            return []
        return [
            "sherpa-onnx does not know the states of a streaming Zapformer yet: the files are for "
            "onnxruntime, and transcribe.py --model FOLDER runs them."
        ]

    def state_names(self) -> list[str]:
        """See ``ExportLayout``."""
        num_layers = sum(self.config.per_stack("num_encoder_layers"))
        layers = [f"{name}_{i}" for i in range(num_layers) for name in _LAYER_STATES]
        return [*layers, "embed_cache", "processed_lens"]

    def to_file(self, states: Sequence[Tensor]) -> list[Tensor]:
        """See ``ExportLayout``."""
        return [t if t.is_floating_point() else t.to(torch.int64) for t in states]

    def from_file(self, states: Sequence[Tensor]) -> list[Tensor]:
        """See ``ExportLayout``."""
        return list(states)

    def streaming_metadata(self) -> dict[str, str]:
        """See ``ExportLayout``; lists have one value for each stack."""
        config = self.config
        (size,), (left,) = config.chunk_size, config.left_context_frames
        left = max(1, left // size) * size
        lists = {
            "num_encoder_layers": config.per_stack("num_encoder_layers"),
            "encoder_dims": config.encoder_dims,
            "conv_params": config.per_stack("conv_params"),
            "left_context_len": tuple(left // factor for factor in config.downsampling_factor),
            "query_head_dims": config.per_stack("query_head_dim"),
            "value_head_dims": config.per_stack("value_head_dim"),
            "num_heads": config.per_stack("num_heads"),
        }
        numbers = {"decode_chunk_len": str(2 * size), "T": str(chunk_frames(size))}
        return numbers | {name: ",".join(map(str, values)) for name, values in lists.items()}
