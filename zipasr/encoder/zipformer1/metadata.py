"""Names, metadata and states of the first Zipformer in files, as sherpa-onnx expects them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zipasr.encoder.zipformer1.config import Zipformer1Config
from zipasr.encoder.zipformer1.streaming import chunk_frames

_STATES = (
    "cached_len",
    "cached_avg",
    "cached_key",
    "cached_val",
    "cached_val2",
    "cached_conv1",
    "cached_conv2",
)


@dataclass(frozen=True, slots=True)
class Zipformer1Layout:
    """An ``ExportLayout``."""

    config: Zipformer1Config

    model_type = "zipformer"
    streams_ctc = False
    has_client = True

    @property
    def is_streaming(self) -> bool:
        """See ``ExportLayout``: a causal model always hears chunks."""
        return self.config.causal

    @property
    def chunks_name(self) -> str:
        """See ``ExportLayout``."""
        chunks = self.config.chunks
        return f"-chunk-{chunks.size}-left-{chunks.left_frames}" if self.is_streaming else ""

    def check(self) -> None:
        """See ``ExportLayout``: there is a file for all settings."""

    def client_limits(self, use_ctc: bool) -> list[str]:
        """See ``ExportLayout``."""
        if not (self.is_streaming and use_ctc):
            return []
        return [
            "sherpa-onnx does not stream the CTC head of the first Zipformer: that file is for "
            "onnxruntime."
        ]

    def state_names(self) -> list[str]:
        """See ``ExportLayout``."""
        return [f"{kind}_{stack}" for kind in _STATES for stack in range(self.config.num_stacks)]

    def to_file(self, states: Sequence[Tensor]) -> list[Tensor]:
        """See ``ExportLayout``."""
        return [t if t.is_floating_point() else t.to(torch.int64) for t in states]

    def from_file(self, states: Sequence[Tensor]) -> list[Tensor]:
        """See ``ExportLayout``."""
        return list(states)

    def streaming_metadata(self) -> dict[str, str]:
        """See ``ExportLayout``; lists have one value for each stack."""
        config = self.config
        left = config.chunks.left_frames
        factors = config.zipformer_downsampling_factors
        lists = {
            "num_encoder_layers": config.num_encoder_layers,
            "encoder_dims": config.encoder_dims,
            "attention_dims": config.attention_dims,
            "cnn_module_kernels": config.cnn_module_kernels,
            "left_context_len": tuple(left // factor for factor in factors),
        }
        numbers = {"decode_chunk_len": str(config.decode_chunk_len), "T": str(chunk_frames(config))}
        return numbers | {name: ",".join(map(str, values)) for name, values in lists.items()}
