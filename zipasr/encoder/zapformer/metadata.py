"""Names, metadata and states of the Zapformer in files, as icefall's exports have them."""

from __future__ import annotations

from dataclasses import dataclass

from zipasr.encoder.chunks import ChunkedLayout
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
class ZapformerLayout(ChunkedLayout[ZapformerConfig]):
    """An ``ExportLayout``."""

    streams_ctc = False

    @property
    def model_type(self) -> str:
        """See ``ExportLayout``: clients know whole utterances by the name of the Zipformer."""
        return "zapformer" if self.is_streaming else "zipformer2"

    @property
    def has_client(self) -> bool:
        """See ``ExportLayout``: whole utterances need no state, and so nothing that is new."""
        return not self.is_streaming

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

    def streaming_metadata(self) -> dict[str, str]:
        """See ``ExportLayout``; lists have one value for each stack."""
        config = self.config
        lists = {
            "encoder_dims": config.encoder_dims,
            "conv_params": config.per_stack("conv_params"),
        }
        return self.metadata_of(chunk_frames(config.chunk_size[0]), lists)
