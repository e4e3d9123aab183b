"""Acoustic models: encoder and heads of a checkpoint, and the silence that they are given."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from zipasr.base.config import flag_name, shown
from zipasr.base.distributed import device_for
from zipasr.base.errors import ResourceError, UserError
from zipasr.checkpoint.averaging import LoadedWeights
from zipasr.checkpoint.model_file import StoredModel, stored_model
from zipasr.encoder.input_checks import check_features, checked_lens
from zipasr.encoder.protocol import (
    ChunkSize,
    EncoderConfig,
    Geometry,
    Preparable,
    PreparedEncoder,
)
from zipasr.model.transducer import AsrModel
from zipasr.nn.numerics import has_bfloat16, to_device
from zipasr.recognition.config import RecognitionConfig
from zipasr.recognition.token_sources import check_vocab_size, tokenizer_of
from zipasr.search.components import ModelParts
from zipasr.search.forced_alignment import ctc_token_log_probs, transducer_token_log_probs
from zipasr.search.methods import Head
from zipasr.search.protocol import Utterance
from zipasr.search.transducer_step import TransducerSteps
from zipasr.text.tokenizer import Tokenizer

LOG_ZERO = -23.025851  # log(1e-10), the features of silence that pads a batch


def with_silence(
    features: Tensor, lens: Tensor, min_frames: int, tail: int = 0, beyond: int = 0
) -> tuple[Tensor, Tensor]:
    """Add silence to the end of each utterance, and more to one too short for the encoder.

    Args:
        features: (N, T, 80); beyond the lengths they are silence.
        lens: (N,) frames of each utterance.
        min_frames: of the shortest utterance that the encoder takes.
        tail: frames to add.
        beyond: frames that the lengths do not count, but the front end looks at: so the last
            frames are the same as of a stream, and in any batch.
    """
    lens = (lens + tail).clamp(min=min_frames)
    missing = max(tail, min_frames - features.size(1)) + beyond
    return F.pad(features, (0, 0, 0, missing), value=LOG_ZERO), lens


def streamed_length(num_frames: int, geometry: Geometry) -> int:
    """Return the frames of a stream with the silence at its end, as on whole utterances."""
    return max(num_frames + geometry.tail, geometry.min_frames)


def filled_chunk(features: Tensor, size: ChunkSize) -> Tensor:
    """Return the first chunk (``size.frames``, 80) of features (T, 80), filled up with silence."""
    part = features[: size.frames]
    return F.pad(part, (0, 0, 0, size.frames - len(part)), value=LOG_ZERO)


def padded_batch(utterances: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return features (N, T, 80), silence behind each utterance (T_n, 80), and lengths (N,)."""
    lens = torch.tensor([len(features) for features in utterances])
    padded = torch.nn.utils.rnn.pad_sequence(utterances, batch_first=True, padding_value=LOG_ZERO)
    return padded, lens


class Acoustics(Protocol):
    """A model for whole utterances, whatever it is made of."""

    @property
    def geometry(self) -> Geometry:
        """Features in, encoder frames out."""

    @property
    def parts(self) -> ModelParts:
        """What searches read beside encoder frames."""

    @property
    def about(self) -> tuple[str, ...]:
        """Lines that say which model it is."""

    def encode(self, features: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (N, T, 80) features with (N,) lengths: (N, T', C) and lengths (N,)."""


def token_log_probs(
    parts: ModelParts, head: Head, utterance: Utterance, frames: Tensor
) -> list[float]:
    """Return what a head gives to each recognised token at its frame.

    Args:
        parts: the heads of the model.
        head: the one that the search read.
        utterance: what was recognised.
        frames: (T', C), encoder output of it.

    Returns:
        For each token, the natural logarithm of its probability among all symbols.
    """
    tokens, positions = utterance.tokens, utterance.frames
    if head == "transducer" and parts.decoder is not None and parts.joiner is not None:
        steps = TransducerSteps(parts.decoder, parts.joiner)
        return transducer_token_log_probs(frames, tokens, positions, steps)
    assert parts.ctc_output is not None, "a search reads a head that there is"
    return ctc_token_log_probs(parts.ctc_output(frames[None])[0], tokens, positions)


@dataclass(frozen=True)
class AcousticModel:
    """A model that encodes utterances once, for any number of searches.

    Attributes:
        model: in evaluation mode.
        encoder: settings of its encoder.
        context_size: tokens that the prediction network sees.
        about: lines that say which model it is.
        is_inferred: whether its settings were read off the weights.
        use_bf16: whether the encoder computes in bfloat16.
        pad_look_ahead: whether the front end sees silence behind each utterance; see ``encode``.
        is_final: whether the weights change no more, so that what is made of them can be kept.
    """

    model: AsrModel
    encoder: EncoderConfig
    context_size: int
    about: tuple[str, ...] = ()
    is_inferred: bool = False
    use_bf16: bool = False
    pad_look_ahead: bool = False
    is_final: bool = False

    @property
    def geometry(self) -> Geometry:
        """Features in, encoder frames out."""
        return self.encoder.geometry

    @cached_property
    def parts(self) -> ModelParts:
        """What searches read beside encoder frames, with the weights of now."""
        model = self.model
        ctc = None if model.ctc_output is None else model.ctc_log_probs
        return ModelParts(
            model.tabled_decoder(), model.prepared_joiner(), ctc, model.attention_decoder
        )

    @cached_property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @cached_property
    def prepared(self) -> PreparedEncoder | None:
        """The encoder for recognition alone; ``None`` where its modules are used."""
        encoder = self.model.speech_encoder
        if self.is_final and self.device.type == "cpu" and isinstance(encoder, Preparable):
            return encoder.prepared(torch.bfloat16 if self.use_bf16 else torch.float32)
        return None

    def encode(self, features: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """Encode utterances with the silence behind them that the model needs.

        A causal model gets its ``geometry.tail``, as in the published decoding. The front end also
        sees what is beyond an utterance's length: nothing behind the longest of a batch, silence
        behind the others, so that the published decoding depends a little on the batch. With
        ``pad_look_ahead`` there is silence behind each, as in a stream.

        Args:
            features: (N, T, 80); beyond the lengths they are silence.
            lens: (N,) frames of each utterance; one too short for the encoder is padded.

        Returns:
            (N, T', C) float32, where the model is, and their lengths (N,) on the host.
        """
        geometry = self.geometry
        beyond = geometry.look_ahead if self.pad_look_ahead else 0
        features, lens = with_silence(features, lens, geometry.min_frames, geometry.tail, beyond)
        if self.prepared is not None:
            known = checked_lens(features, lens, geometry)
            return self.prepared.encode(features, lens, known)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.use_bf16):
            encoded = self.model.encode(to_device(features, self.device), lens)
        return encoded.frames.float(), encoded.lens

    @torch.inference_mode()
    def advance(self, features: Tensor, lens: Tensor, state: Any) -> tuple[Tensor, Tensor, Any]:
        """Encode the next chunk of each stream of a causal model; see ``ChunkEncoder.advance``."""
        if self.prepared is not None:
            check_features(features, self.geometry.mel_bins)
            return self.prepared.advance(features, lens, state)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.use_bf16):
            encoded, after = self.model.encode_chunk(
                features.to(self.device), lens.to(self.device), state
            )
        return encoded.frames.float(), encoded.lens, after


def device_of(config: RecognitionConfig) -> torch.device:
    """Return where a model computes.

    Raises:
        UserError: torch knows no such device.
        ResourceError: the machine has none.
    """
    if config.device is None:
        return device_for(0)
    try:
        device = torch.device(config.device)
    except RuntimeError as problem:
        raise UserError(
            f"device {config.device!r} is unknown.", "give 'cpu' or 'cuda'."
        ) from problem
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ResourceError(
            f"device {config.device!r}: there are {torch.cuda.device_count()} GPUs.",
            "give another one, or 'cpu'.",
        )
    return device


def acoustic_model_of(
    chosen: LoadedWeights, config: RecognitionConfig
) -> tuple[AcousticModel, Tokenizer]:
    """Build the model of weights that were read, for any search, and its tokenizer.

    Raises:
        CheckpointError: flags that contradict the checkpoint.
        DataError: there is no tokenizer.
        UserError: a streaming model without one chunk size and one left context.
    """
    device = device_of(config)
    stored = stored_model(chosen, config.model_flags)
    check_is_settled(stored)
    tokenizer = tokenizer_of(chosen, config.tokens)
    check_vocab_size(stored.path, stored.vocab_size, tokenizer, config.tokens)
    model = stored.build().to(device).eval()
    acoustics = AcousticModel(
        model,
        stored.encoder,
        stored.model.context_size,
        about=(stored.describe(model), *stored.notes),
        is_inferred=bool(stored.notes),
        use_bf16=config.decoding.use_bf16 and has_bfloat16(device),
        pad_look_ahead=config.decoding.pad_look_ahead,
        is_final=True,
    )
    return acoustics, tokenizer


def check_is_settled(stored: StoredModel) -> None:
    """Refuse a streaming model whose chunk size or left context is still to be chosen.

    Raises:
        UserError: there are several to choose from.
    """
    choices = stored.encoder.choices()
    several = {flag_name(name): values for name, values in choices.items() if len(values) != 1}
    if several:
        lists = " and ".join(f"{flag} {shown(values)}" for flag, values in several.items())
        words = " ".join(f"{flag} {values[0]}" for flag, values in several.items())
        raise UserError(
            f"{stored.path} is a streaming model for {lists}: choose one of each.",
            f"add, for example, {words}",
        )
