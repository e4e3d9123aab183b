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

from zipasr.base.errors import UserError
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
class ZipformerLayout:
    """An ``ExportLayout``."""

    config: ZipformerConfig

    model_type = "zipformer2"
    streams_ctc = True

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
        """See ``ExportLayout``: sherpa-onnx makes the front end's state too small for wide ones."""
        return not self.is_streaming or self.config.embed_channels[2] <= CLIENT_CHANNELS

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
        (size,), (left,) = config.chunk_size, config.left_context_frames
        left = max(1, left // size) * size
        lists = {
            "num_encoder_layers": config.per_stack("num_encoder_layers"),
            "encoder_dims": config.per_stack("encoder_dim"),
            "cnn_module_kernels": config.per_stack("cnn_module_kernel"),
            "left_context_len": tuple(left // factor for factor in config.downsampling_factor),
            "query_head_dims": config.per_stack("query_head_dim"),
            "value_head_dims": config.per_stack("value_head_dim"),
            "num_heads": config.per_stack("num_heads"),
        }
        numbers = {"decode_chunk_len": str(2 * size), "T": str(chunk_frames(size))}
        return numbers | {name: ",".join(map(str, values)) for name, values in lists.items()}
