"""Names, metadata and states of the Zipformer in files, as sherpa-onnx expects them.

Names, order and keys are those of published exports: sherpa-onnx makes the first states of a
stream from the sizes, and finds inputs and outputs by their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from zipasr.encoder.chunks import ChunkedLayout
from zipasr.encoder.zipformer.config import ZipformerConfig
from zipasr.encoder.zipformer.streaming import chunk_frames

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


@dataclass(frozen=True, slots=True)
class ZipformerLayout(ChunkedLayout[ZipformerConfig]):
    """An ``ExportLayout``."""

    model_type = "zipformer2"
    streams_ctc = True

    @property
    def has_client(self) -> bool:
        """See ``ExportLayout``: sherpa-onnx makes the front end's state too small for wide ones."""
        return not self.is_streaming or self.config.embed_channels[2] <= CLIENT_CHANNELS

    def client_limits(self, use_ctc: bool) -> list[str]:  # noqa: ARG002
        """See ``ExportLayout``."""
        if self.has_client:
            return []
        return [
            f"sherpa-onnx streams front ends of at most {CLIENT_CHANNELS} channels, this one has "
            f"{self.config.embed_channels[2]}: the files are for onnxruntime. For sherpa-onnx, "
            f"train with --embed-channels 8,32,{CLIENT_CHANNELS}."
        ]

    def state_names(self) -> list[str]:
        """See ``ExportLayout``."""
        num_layers = sum(self.config.per_stack("num_encoder_layers"))
        layers = [f"{name}_{i}" for i in range(num_layers) for name in _LAYER_STATES]
        return [*layers, "embed_states", "processed_lens"]

    def to_file(self, states: Sequence[Tensor]) -> list[Tensor]:
        """See ``ExportLayout``.

        The front end's state is filled with zeros up to the channels that sherpa-onnx gives it.
        """
        *layers, embed, processed = states
        missing = max(0, CLIENT_CHANNELS - embed.size(1))
        return [*layers, F.pad(embed, (0, 0, 0, 0, 0, missing)), processed.to(torch.int64)]

    def from_file(self, states: Sequence[Tensor]) -> list[Tensor]:
        """See ``ExportLayout``."""
        *layers, embed, processed = states
        return [*layers, embed[:, : self.config.embed_channels[2]], processed]

    def streaming_metadata(self) -> dict[str, str]:
        """See ``ExportLayout``; lists have one value for each stack."""
        config = self.config
        lists = {
            "encoder_dims": config.per_stack("encoder_dim"),
            "cnn_module_kernels": config.per_stack("cnn_module_kernel"),
        }
        return self.metadata_of(chunk_frames(config.chunk_size[0]), lists)
