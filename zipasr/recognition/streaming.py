"""Recognition of speech as it comes, chunk by chunk: of many utterances at once, or of one."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from statistics import median
from typing import Any, TypeAlias

import torch
from torch import Tensor

from zipasr.audio.loading import Samples
from zipasr.audio.log_mel import AHEAD_SECONDS, LiveFbank
from zipasr.base.errors import UserError
from zipasr.encoder import stream_states
from zipasr.encoder.protocol import SECONDS_PER_FEATURE_FRAME, ChunkSize, Geometry
from zipasr.model.transducer import AsrModel
from zipasr.recognition.acoustic_model import (
    LOG_ZERO,
    AcousticModel,
    filled_chunk,
    streamed_length,
    token_log_probs,
)
from zipasr.recognition.config import EndpointConfig
from zipasr.recognition.stream_results import ShownWords, is_end_point, steady
from zipasr.search import batched_state as streams
from zipasr.search.components import ModelParts
from zipasr.search.methods import MethodSpec, check_streams
from zipasr.search.protocol import Search, Utterance

# Of a live stream, for the confidence of words: 20 s, after which an utterance ends by itself.
KEPT_FRAMES = 500

WordsOf: TypeAlias = Callable[[Utterance], list[str]]
"""Returns the words of a hypothesis."""


@dataclass(frozen=True, slots=True)
class StreamState:
    """State of N streams: of the encoder and of the search."""

    encoder: Any
    search: Any


class ChunkwiseRecogniser(ABC):
    """A model and a search that go on from chunk to chunk, whatever the model is made of.

    Attributes:
        search: the search, from encoder frames to tokens.
        reads_ctc: whether it reads the CTC head.
    """

    search: Search[Any]
    reads_ctc: bool

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the search runs."""

    @property
    @abstractmethod
    def size(self) -> ChunkSize:
        """How speech is cut."""

    @abstractmethod
    def heads(self) -> ModelParts:
        """Return what searches read beside encoder frames."""

    @abstractmethod
    def start_encoder(self, num: int) -> Any:
        """State of the encoder before anything was heard."""

    @abstractmethod
    def encode(self, features: Tensor, lens: Tensor, state: Any) -> tuple[Tensor, Tensor, Any]:
        """Frames (N, T', C) of the next chunk, how many (N,) are valid, the state after it."""

    def start(self, num: int) -> StreamState:
        """Streams of which nothing has been heard."""
        return StreamState(self.start_encoder(num), self.search.start(num, self.device))

    def advance(self, state: StreamState, features: Tensor, lens: Tensor) -> StreamState:
        """Take the next chunk (N, ``frames``, 80) of each stream, ``lens`` (N,) of it valid."""
        return self.advance_with_frames(state, features, lens)[0]

    @torch.inference_mode()
    def advance_with_frames(
        self, state: StreamState, features: Tensor, lens: Tensor
    ) -> tuple[StreamState, Tensor, Tensor]:
        """Take the next chunk; return its encoder frames (N, T', C) and lengths (N,), too."""
        frames, num, encoder = self.encode(features, lens, state.encoder)
        return StreamState(encoder, self.search.advance(state.search, frames, num)), frames, num

    def token_log_probs(self, found: Utterance, frames: Tensor) -> list[float]:
        """Return what the head gives to each token; see ``acoustic_model.token_log_probs``."""
        return token_log_probs(
            self.heads(), "ctc" if self.reads_ctc else "transducer", found, frames
        )

    def restart(self, state: StreamState) -> StreamState:
        """Streams after the end of an utterance.

        As in sherpa-onnx the encoder goes on where the search reads a transducer, and begins anew
        where it reads the CTC head.
        """
        if self.reads_ctc:
            return self.start(len(self.search.results(state.search)))
        return StreamState(state.encoder, self.search.restart(state.search, self.device))


@dataclass(frozen=True)
class ChunkRecogniser(ChunkwiseRecogniser):
    """A causal model and a search that goes on from chunk to chunk.

    Attributes:
        acoustics: the model.
    """

    acoustics: AcousticModel
    search: Search[Any]
    reads_ctc: bool = False

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.acoustics.device

    @property
    def model(self) -> AsrModel:
        """The model, in evaluation mode."""
        return self.acoustics.model

    @property
    def size(self) -> ChunkSize:
        """How speech is cut."""
        return self.model.chunk_encoder.size()

    def heads(self) -> ModelParts:
        """Return what searches read beside encoder frames."""
        return self.acoustics.parts

    def start_encoder(self, num: int) -> Any:
        """State of the encoder before anything was heard."""
        return self.model.init_state(num)

    def encode(self, features: Tensor, lens: Tensor, state: Any) -> tuple[Tensor, Tensor, Any]:
        """Frames of the next chunk, and the state after it; see ``ChunkwiseRecogniser``."""
        return self.acoustics.advance(features, lens, state)

    def warm_up(self, num_chunks: int = 6) -> float:
        """Hear silence: what a first call prepares counts to no utterance.

        Returns:
            Seconds that a chunk of one stream takes to compute, in the median.
        """
        size, state, spent = self.size, self.start(1), []
        silence = torch.full((1, size.frames, size.geometry.mel_bins), LOG_ZERO)
        for _ in range(num_chunks):
            begun = time.monotonic()
            state = self.advance(state, silence, torch.tensor([size.frames]))
            self.search.results(state.search)
            spent.append(time.monotonic() - begun)
        return median(spent)

    def join(self, state: StreamState | None, num: int) -> StreamState:
        """Put ``num`` new streams behind those that there are."""
        new = self.start(num)
        if state is None:
            return new
        encoder = stream_states.stack(self.model.chunk_encoder, [state.encoder, new.encoder])
        return StreamState(encoder, streams.stack([state.search, new.search]))

    def keep(self, state: StreamState, rows: list[int]) -> StreamState:
        """Let all streams but some go."""
        encoder = stream_states.rows_of(self.model.chunk_encoder, state.encoder, rows)
        return StreamState(encoder, streams.rows_of(state.search, rows))


def chunk_recogniser(
    acoustics: AcousticModel, method: MethodSpec, search: Search[Any]
) -> ChunkRecogniser:
    """Return a model and the search of a method for speech as it comes.

    Raises:
        UserError: the model is not causal or sees all there is, or the method needs whole
            utterances.
    """
    if not acoustics.encoder.causal:
        raise UserError(
            "the model is not causal.", "train one with --causal 1 (in Python: causal=True)."
        )
    try:
        acoustics.model.chunk_encoder.size()
    except ValueError as refusal:
        fix = (
            "say how much it sees, such as --chunk-size 16 --left-context-frames 128 (in Python: "
            "chunk_size=16, left_context_frames=128)."
        )
        raise UserError(f"{refusal}.", fix) from refusal
    check_streams(method)
    return ChunkRecogniser(acoustics, search, method.head == "ctc")


@dataclass(slots=True)
class Stream:
    """One utterance on its way.

    Attributes:
        name: of the utterance.
        features: (T, mel bins).
        geometry: of the encoder of a causal model.
        index: of the next chunk.
        found: what is shown so far, see ``partial_results.steady``.
        shown: its words, and since when: seconds from the beginning. What a chunk brings is there
            when the chunk was heard, and what the front end looks ahead; behind the speech at once.
    """

    name: str
    features: Tensor
    geometry: Geometry = Geometry()
    index: int = 0
    found: Utterance = field(default_factory=lambda: Utterance([], [], 0.0))
    shown: ShownWords = field(default_factory=ShownWords)

    @property
    def num_frames(self) -> int:
        """Feature frames with the silence at the end, as on whole utterances."""
        return streamed_length(len(self.features), self.geometry)

    @property
    def seconds(self) -> float:
        """Length of the speech."""
        return len(self.features) * SECONDS_PER_FEATURE_FRAME

    def chunk(self, size: ChunkSize) -> tuple[Tensor, int]:
        """Return the next chunk (``frames``, 80), filled up with silence, and its length."""
        filled = filled_chunk(self.features[self.index * size.step :], size)
        return filled, size.valid(self.index, self.num_frames)

    def is_over(self, size: ChunkSize) -> bool:
        """Say whether there is no next chunk."""
        return self.index >= size.num_chunks(self.num_frames)

    def note(self, hypotheses: Sequence[Utterance], size: ChunkSize, words_of: WordsOf) -> None:
        """Take the hypotheses after a chunk, best first."""
        end = (self.index * size.step + size.frames) * SECONDS_PER_FEATURE_FRAME + AHEAD_SECONDS
        self.index += 1
        before = self.found.tokens
        self.found = hypotheses[0] if self.is_over(size) else steady(self.found, hypotheses)
        if self.found.tokens != before:
            self.shown.show(words_of(self.found), min(end, self.seconds))


def through_streams(
    recogniser: ChunkRecogniser, waiting: Iterable[Stream], most: int, words_of: WordsOf
) -> Iterator[tuple[list[Stream], float]]:
    """Work on at most ``most`` streams at once; one that is over makes room for the next.

    Args:
        recogniser: a causal model with its search.
        waiting: streams to come.
        most: at least 1.
        words_of: from a hypothesis to its words.

    Yields:
        After each step, the streams that are over, and the seconds that the step took.
    """
    size, queue = recogniser.size, iter(waiting)
    active: list[Stream] = []
    state: StreamState | None = None
    while True:
        new = list(islice(queue, most - len(active)))
        active += new
        if not active:
            return
        begun = time.monotonic()
        if new:
            state = recogniser.join(state, len(new))
        assert state is not None
        chunks, lens = zip(*(stream.chunk(size) for stream in active), strict=True)
        state = recogniser.advance(state, torch.stack(chunks), torch.tensor(lens))
        found = recogniser.search.hypotheses(state.search)
        spent = time.monotonic() - begun
        for stream, hypotheses in zip(active, found, strict=True):
            stream.note(hypotheses, size, words_of)
        rows = [row for row, stream in enumerate(active) if not stream.is_over(size)]
        over = [stream for stream in active if stream.is_over(size)]
        active = [active[row] for row in rows]
        if over:
            state = recogniser.keep(state, rows) if rows else None
        yield over, spent


class LiveStream:
    """A stream that is given its sound bit by bit.

    Without end points, the result at the end is that of ``streaming_decode.py`` on the whole sound.

    Args:
        recogniser: a causal model with a search that goes on from chunk to chunk.
        rules: which say when an utterance has ended.
        on_end: called then with the seconds that were searched, before the search begins anew.
    """

    def __init__(
        self,
        recogniser: ChunkwiseRecogniser,
        rules: EndpointConfig = EndpointConfig(),  # noqa: B008
        on_end: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._recogniser, self._rules, self._on_end = recogniser, rules, on_end
        self._size = recogniser.size
        self._fbank = LiveFbank(self._size.geometry.mel_bins)
        self._state = recogniser.start(1)
        #: What is shown since the last end point; after ``finish`` what was said.
        self.found = Utterance([], [], 0.0)
        # Features from the next chunk on.
        self._waiting = torch.zeros(0, self._size.geometry.mel_bins)
        self._num_features = 0
        self._index = 0
        # Chunks before the utterance.
        self._first = 0
        # Its last frames (T', C), how many there were before them, and the scores of tokens there.
        self._frames: Tensor | None = None
        self._num_past = 0
        self._past_log_probs: list[float] = []
        # What was asked last, and the answer: a reader asks more often than it changes.
        self._scored: tuple[Utterance, list[float]] = (self.found, [])

    def push(self, samples: Samples) -> Utterance:
        """Take samples in, 16 kHz in [-1, 1]; return what is shown since the last end point."""
        # All at once, when they make a chunk: a few frames take as long as many.
        self._take(self._fbank.push(samples, self._size.frames - len(self._waiting)))
        while len(self._waiting) >= self._size.frames:
            self._advance(self._waiting[: self._size.frames], self._size.frames)
        return self.found

    def finish(self) -> Utterance:
        """Say that nothing more will come; return what was said."""
        self._take(self._fbank.finish())
        num_frames = streamed_length(self._num_features, self._size.geometry)
        while self._index < self._size.num_chunks(num_frames):
            filled = filled_chunk(self._waiting, self._size)
            self._advance(filled, self._size.valid(self._index, num_frames))
        (self.found,) = self._recogniser.search.results(self._state.search)
        return self.found

    @property
    def begin(self) -> float:
        """Seconds before the last end point; its frames count from there."""
        return self._first * self._size.step * SECONDS_PER_FEATURE_FRAME

    @torch.inference_mode()
    def token_log_probs(self) -> list[float]:
        """Return the log-probability of each token of ``found``.

        Of tokens more than KEPT_FRAMES ago it is what it was when their frames were let go.
        """
        found = self.found
        if self._frames is None:
            return [0.0] * len(found.tokens)
        if self._scored[0] is found:
            return self._scored[1]
        recent = [max(frame - self._num_past, 0) for frame in found.frames]
        log_probs = self._recogniser.token_log_probs(replace(found, frames=recent), self._frames)
        num_past = sum(frame < self._num_past for frame in found.frames)
        past = self._past_log_probs[:num_past]
        self._scored = found, [*past, *log_probs[len(past) :]]
        return self._scored[1]

    def _let_go(self) -> None:
        """Forget old encoder frames, so that a stream of any length takes little memory."""
        if self._frames is None or len(self._frames) <= 2 * KEPT_FRAMES:
            return
        drop = len(self._frames) - KEPT_FRAMES
        num_past = sum(frame < self._num_past + drop for frame in self.found.frames)
        self._past_log_probs = self.token_log_probs()[:num_past]
        self._num_past, self._frames = self._num_past + drop, self._frames[drop:].clone()

    def _take(self, features: Tensor) -> None:
        self._waiting = torch.cat([self._waiting, features])
        self._num_features += len(features)

    def _advance(self, chunk: Tensor, valid: int) -> None:
        lens = torch.tensor([valid])
        self._state, frames, num = self._recogniser.advance_with_frames(
            self._state, chunk.unsqueeze(0), lens
        )
        new = frames[0, : int(num[0])]
        self._frames = new if self._frames is None else torch.cat([self._frames, new])
        self._waiting = self._waiting[self._size.step :]
        self._index += 1
        (hypotheses,) = self._recogniser.search.hypotheses(self._state.search)
        if self._is_end_point(hypotheses[0]):
            self.found = hypotheses[0]
            self._on_end(self._index * self._size.step * SECONDS_PER_FEATURE_FRAME)
            self._state, self._first = self._recogniser.restart(self._state), self._index
            self.found = Utterance([], [], 0.0)
            self._frames, self._num_past, self._past_log_probs = None, 0, []
        else:
            self.found = steady(self.found, hypotheses)
            self._let_go()

    def _is_end_point(self, found: Utterance) -> bool:
        frames = (self._index - self._first) * self._size.step
        last = max(found.frames, default=-1) if found.last_frame is None else found.last_frame
        silence = frames - (last + 1) * self._size.geometry.subsampling
        return is_end_point(self._rules, frames, silence)
