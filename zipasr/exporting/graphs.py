"""Modules that are exported: plain tensors in, plain tensors out."""

from __future__ import annotations

from torch import (
    Tensor,
    arange,
    cat,
    full_like,
    int32,
    int64,
    nn,
    ones,
    ones_like,
    tensor,
    where,
    zeros,
)
from torch import full as full_of

from zipasr.encoder.protocol import ExportLayout
from zipasr.lm.neural import NeuralLm
from zipasr.model.decoder import Decoder
from zipasr.model.joiner import Joiner
from zipasr.model.transducer import AsrModel
from zipasr.recognition.acoustic_model import LOG_ZERO


class WholeEncoder(nn.Module):
    """Front end and encoder for whole utterances, and what the head makes of the frames.

    There is a mask whether or not there is padding, and nothing looks at values.

    Args:
        model: in evaluation mode.
        head: applied to (N, T', C); an ``nn.Identity`` gives the frames.
    """

    def __init__(self, model: AsrModel, head: nn.Module) -> None:
        super().__init__()
        self.speech_encoder = model.speech_encoder
        self.min_frames = model.geometry.min_frames
        _register(self, model)
        self.head = head

    def forward(self, features: Tensor, feature_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (N, T, mel bins) features with (N,) int64 lengths: (N, T', D) and lengths.

        Utterances that are too short for the encoder get silence behind them, T may be 0. The names
        are those that callers of published TorchScript files type.
        """
        frames, lens = self.speech_encoder(
            self._long_enough(features), feature_lengths.clamp(min=self.min_frames)
        )
        return self.head(frames), lens

    def _long_enough(self, features: Tensor) -> Tensor:
        # As one expression for all lengths: a condition would be recorded as it is here.
        shape = (features.size(0), self.min_frames, features.size(2))
        padded = cat([features, full_of(shape, LOG_ZERO)], dim=1)
        length = ones_like(features[0, :, 0], dtype=int64).sum().clamp(min=self.min_frames)
        return padded.index_select(1, arange(length))  # type: ignore[call-overload]


def example_batch(model: AsrModel) -> tuple[Tensor, Tensor]:
    """Return features (1, T, mel bins) and length, with which a ``WholeEncoder`` is recorded."""
    frames = 100  # any other number will do
    return zeros(1, frames, model.geometry.mel_bins), tensor([frames])


class WithoutLengths(nn.Module):
    """A ``WholeEncoder`` of utterances without padding.

    Args:
        inner: the encoder.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Encode (N, T, mel bins) features, all of them valid: (N, T', D)."""
        frames: Tensor = self.inner(x, ones(x.size(0), dtype=int64) * x.size(1))[0]
        return frames


class FromInt32(nn.Module):
    """A module whose integers have 32 bits outside and 64 inside.

    Args:
        inner: the module.
        returns_states: whether integers that it returns are given to it again.
    """

    def __init__(self, inner: nn.Module, returns_states: bool) -> None:
        super().__init__()
        self.inner = inner
        self.returns_states = returns_states

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return what the module returns."""
        wide = (t if t.is_floating_point() else t.to(int64) for t in inputs)
        found: Tensor | tuple[Tensor, ...] = self.inner(*wide)
        if not self.returns_states or isinstance(found, Tensor):
            return found
        return tuple(t if t.is_floating_point() else t.to(int32) for t in found)


class ChunkEncoder(nn.Module):
    """Front end and encoder for the next chunk of streams; arguments as for ``WholeEncoder``."""

    def __init__(self, model: AsrModel, head: nn.Module) -> None:
        super().__init__()
        _register(self, model)
        self.chunks = model.chunk_encoder
        self.head = head

    def forward(
        self, x: Tensor, x_lens: Tensor, states: list[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Encode a chunk (N, T, mel bins): (N, T', D), lengths, and the list of states after."""
        frames, lens, after = self.chunks.advance(x, x_lens, states)
        return self.head(frames), lens, after


class FullChunkEncoder(nn.Module):
    """A ``ChunkEncoder`` whose chunks are always full, with the states as single arguments.

    Args:
        inner: the encoder.
        layout: says how states stand in files.
    """

    def __init__(self, inner: ChunkEncoder, layout: ExportLayout) -> None:
        super().__init__()
        self.inner = inner
        self.layout = layout
        self.num_frames = inner.chunks.size().frames

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Encode a chunk (N, T, mel bins): (N, T', D), and each of the states after."""
        lens = full_of((x.size(0),), self.num_frames)
        frames, _, after = self.inner(x, lens, self.layout.from_file(states))
        return (frames, *self.layout.to_file(after))


def _register(module: nn.Module, model: AsrModel) -> None:
    """Give a module that is recorded the weights of the encoder under their own names."""
    for name, part in model.speech_encoder.parts.items():
        module.add_module(name, part)


class CtcHead(nn.Module):
    """Frames (N, T', C) to log-probabilities (N, T', V)."""

    def __init__(self, model: AsrModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, frames: Tensor) -> Tensor:
        """Return the log-probabilities."""
        return self.model.ctc_log_probs(frames)


class Prediction(nn.Module):
    """The last tokens (N, context) to what the joiner adds, (N, J); id -1 stands for nothing."""

    def __init__(self, decoder: Decoder, joiner: Joiner) -> None:
        super().__init__()
        self.decoder, self.decoder_proj = decoder, joiner.decoder_proj

    def forward(self, y: Tensor) -> Tensor:
        """Return the projected prediction."""
        projected: Tensor = self.decoder_proj(self.decoder(y, need_pad=False).squeeze(1))
        return projected


class Joining(nn.Module):
    """Projected frames and predictions, both (N, J), to logits (N, V)."""

    def __init__(self, joiner: Joiner) -> None:
        super().__init__()
        self.joiner = joiner

    def forward(self, encoder_out: Tensor, decoder_out: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.joiner(encoder_out, decoder_out, project_input=False)
        return logits


class SentenceNll(nn.Module):
    """Sentences (N, L) with (N,) lengths to their negative log-likelihoods (N,), ends included."""

    def __init__(self, model: NeuralLm) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, x_lens: Tensor) -> Tensor:
        """Return the sums in nats."""
        ends = full_like(x[:, :1], self.model.sentence_ends_id)
        before, after = cat([ends, x], dim=1), cat([x, ends], dim=1)
        place = arange(after.size(1))
        after = where(place == x_lens[:, None], ends, after)
        log_probs = self.model.logits(before).log_softmax(dim=-1)
        found = log_probs.gather(-1, after.unsqueeze(-1)).squeeze(-1)
        return -found.masked_fill(place > x_lens[:, None], 0.0).sum(dim=1)
