"""Encoders as modules of their own, for models and training loops that are built elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from zipasr.encoder.input_checks import checked_lens
from zipasr.encoder.protocol import ChunkEncoder, EncoderConfig, Geometry
from zipasr.encoder.zapformer.config import ZapformerConfig, ZapformerPreset
from zipasr.encoder.zipformer.config import PresetName, ZipformerConfig
from zipasr.encoder.zipformer1.config import Zipformer1Config
from zipasr.nn.schedule import set_batch_count


class StandaloneEncoder(nn.Module):
    """Front end and encoder with fresh weights, as a module.

    The keys of its weights are those that the encoder has in checkpoints of whole models.

    Args:
        config: of any encoder.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        # No module itself: its modules are registered under the names that published weights have.
        self._speech_encoder = config.build()
        for name, module in self._speech_encoder.parts.items():
            self.add_module(name, module)

    @property
    def output_dim(self) -> int:
        """C of the frames."""
        return self.config.output_dim

    @property
    def geometry(self) -> Geometry:
        """Features in, frames out: lengths, mel bins, what a chunk sees ahead."""
        return self.config.geometry

    @property
    def chunks(self) -> ChunkEncoder:
        """The same weights, chunk by chunk; of a causal encoder, in evaluation mode."""
        return self._speech_encoder.chunks

    def forward(self, features: Tensor, feature_lens: Tensor) -> tuple[Tensor, Tensor]:
        """Encode whole utterances.

        Args:
            features: (N, T, 80) log-mel energies.
            feature_lens: (N,) integers, valid frames of each, at least 9 and at most T.

        Returns:
            Frames (N, T', C), four feature frames each, and their valid lengths (N,); frames beyond
            a length hold no information.

        Raises:
            ValueError: there is no utterance, one is too short or longer than the batch, or the
                features have another number of mel bins.
        """
        lens = checked_lens(features, feature_lens, self.geometry)
        return self._speech_encoder(features, feature_lens, lens)

    def set_batch_count(self, count: float) -> None:
        """Tell the schedules inside how far training has come; call it before each update.

        Dropout, the skipping of layers, and the limits of regularisers depend on it. As long as it
        is never called, they have the constant values that they have outside training: nothing is
        skipped, and only a ``dropout`` of the configuration drops.

        Args:
            count: batches so far. The Zipformer counts batches of 600 seconds of speech, so
                smaller batches count as fractions; the other encoders count updates.
        """
        set_batch_count(self, count)


class Zipformer(StandaloneEncoder):
    """The Zipformer: features (N, T, 80) at 100 Hz to frames (N, T', C) at 25 Hz.

    Args:
        config: sizes; the published medium one if omitted. ``from_preset`` has the others.

    Source: Yao et al., "Zipformer: a faster and better encoder for automatic speech recognition",
    ICLR 2024.
    """

    config: ZipformerConfig

    def __init__(self, config: ZipformerConfig | None = None) -> None:
        super().__init__(config or ZipformerConfig())

    @classmethod
    def from_preset(
        cls,
        preset: PresetName,
        *,
        causal: bool = False,
        chunk_size: int | Sequence[int] | None = None,
        left_context_frames: int | Sequence[int] | None = None,
        dropout: float | None = None,
    ) -> Zipformer:
        """Build an encoder of a published size; see ``ZipformerConfig.from_preset``.

        Raises:
            UserError: there is no such size.
        """
        return cls(
            ZipformerConfig.from_preset(
                preset,
                causal=causal,
                chunk_size=chunk_size,
                left_context_frames=left_context_frames,
                dropout=dropout,
            )
        )


class Zipformer1(StandaloneEncoder):
    """The first Zipformer, of pruned_transducer_stateless7 and its streaming version.

    Args:
        config: sizes; the published ones if omitted.
    """

    config: Zipformer1Config

    def __init__(self, config: Zipformer1Config | None = None) -> None:
        super().__init__(config or Zipformer1Config())


class Zapformer(StandaloneEncoder):
    """The Zapformer: features (N, T, 80) at 100 Hz to frames (N, T', C) at 25 Hz.

    Args:
        config: sizes; the published one of 264 million parameters if omitted. ``from_preset`` has
            the others.

    Source: icefall's pull request 2082, 2026.
    """

    config: ZapformerConfig

    def __init__(self, config: ZapformerConfig | None = None) -> None:
        super().__init__(config or ZapformerConfig())

    @classmethod
    def from_preset(
        cls,
        preset: ZapformerPreset,
        *,
        causal: bool = False,
        chunk_size: int | Sequence[int] | None = None,
        left_context_frames: int | Sequence[int] | None = None,
    ) -> Zapformer:
        """Build an encoder of a published size; see ``ZapformerConfig.from_preset``.

        Raises:
            UserError: there is no such size.
        """
        config = ZapformerConfig.from_preset(
            preset, causal=causal, chunk_size=chunk_size, left_context_frames=left_context_frames
        )
        return cls(config)
