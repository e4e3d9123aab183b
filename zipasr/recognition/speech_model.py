"""Speech models as programs use them: files and samples in, text with times out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, overload

from zipasr.audio.loading import Audio, Sound, has_sound, name_of
from zipasr.audio.segmentation import Window
from zipasr.base.errors import UserError
from zipasr.base.progress import Progress
from zipasr.recognition.config import RULES, EndpointConfig
from zipasr.recognition.long_form import (
    Cutting,
    RecognisePieces,
    grouped,
    read_recording,
    recognise_group,
    words_in,
)
from zipasr.recognition.speech_stream import Stream
from zipasr.recognition.transcription import Transcription
from zipasr.text.timed_words import Word

if TYPE_CHECKING:
    from torch import Tensor

HotWords: TypeAlias = Sequence[str]
"""Phrases in the spelling of the transcripts; one may end in its score: ``NEW YORK :3.5``."""

_TORCH_MODELS = "load the run folder or the checkpoint that it was exported from."

#: Sound that is read ahead, so that windows of similar lengths share a batch: batches of it.
_BATCHES_AHEAD = 8


class Encoding(NamedTuple):
    """What the encoder makes of a recording.

    Attributes:
        frames: (T', C) float32.
        seconds_per_frame: from one frame to the next.
    """

    frames: Tensor
    seconds_per_frame: float


class Model(ABC):
    """A model that recognises speech; ``zipasr.load_model`` returns one.

    Args:
        about: lines that say what it is made of.
        cutting: how long recordings are cut.
        frame: seconds of an encoder frame.

    Attributes:
        hears_chunks: whether whole recordings are streamed to it, for want of another way.
    """

    hears_chunks = False

    def __init__(self, about: Sequence[str], cutting: Cutting, frame: float) -> None:
        self.about = tuple(about)
        self.cutting = cutting
        self.seconds_per_frame = frame

    def __repr__(self) -> str:
        return f"<zipasr model: {'; '.join(self.about)}>"

    @abstractmethod
    def recognise_pieces(self, hot_words: HotWords = (), nbest: int = 1) -> RecognisePieces:
        """Return the function that recognises windows of at most ``cutting.window`` seconds.

        Args:
            hot_words: phrases that the search prefers.
            nbest: most hypotheses of each window.

        Raises:
            UserError: the decoding method takes no hot-words, or keeps one hypothesis only.
        """

    def encode(self, audio: Audio) -> Encoding:
        """Return the frames of the encoder, of a recording as a whole.

        Raises:
            DataError: the recording cannot be read.
            UserError: the model is an exported one that does not show them.
        """
        raise UserError(
            f"{name_of(audio)}: an exported model does not show encoder frames.", _TORCH_MODELS
        )

    def align(self, audio: Audio, text: str) -> tuple[Word, ...]:
        """Return the words of a transcript with the times at which they were said.

        Args:
            audio: the recording, of any length.
            text: what was said, in the spelling of the training transcripts.

        Raises:
            DataError: the recording cannot be read, is too short for the text, or the model has
                no tokens for a word.
            UserError: the model is an exported one.
        """
        raise UserError(
            f"{name_of(audio)}: an exported model cannot align {text!r:.40}.", _TORCH_MODELS
        )

    def stream(
        self,
        *,
        hot_words: HotWords = (),
        enable_endpoint: bool = False,
        rule1_min_trailing_silence: float = 2.4,
        rule2_min_trailing_silence: float = 1.2,
        rule3_min_utterance_length: float = 20.0,
    ) -> Stream:
        """Return a recognition of speech as it comes; needs a causal model.

        Args:
            hot_words: phrases that the search prefers.
            enable_endpoint: begin a new utterance where one of the rules says that one has ended.
            rule1_min_trailing_silence: seconds of silence that end an utterance, whether or not
                anything was recognised.
            rule2_min_trailing_silence: the same after something was recognised.
            rule3_min_utterance_length: seconds after which an utterance ends without any silence.

        Raises:
            UserError: the model is not causal, its method needs whole utterances, or a rule has a
                time that is not above 0.
        """
        times = (rule1_min_trailing_silence, rule2_min_trailing_silence, rule3_min_utterance_length)
        rules = dict(zip(RULES, times, strict=True))
        for name, seconds in rules.items():
            if not seconds > 0:
                raise UserError(f"{name}={seconds!r} is no time above 0.", "give seconds.")
        return self._stream(hot_words, EndpointConfig(enable_endpoint=enable_endpoint, **rules))

    @abstractmethod
    def _stream(self, hot_words: HotWords, rules: EndpointConfig) -> Stream:
        """Return a stream whose utterances end by the rules."""

    @overload
    def transcribe(
        self,
        audio: Audio,
        *,
        hot_words: HotWords = ...,
        nbest: int = ...,
        batch_seconds: float = ...,
    ) -> Transcription: ...

    @overload
    def transcribe(
        self,
        audio: list[Any],
        *,
        hot_words: HotWords = ...,
        nbest: int = ...,
        batch_seconds: float = ...,
    ) -> list[Transcription]: ...

    def transcribe(
        self,
        audio: Audio | list[Any],
        *,
        hot_words: HotWords = (),
        nbest: int = 1,
        batch_seconds: float = 100.0,
    ) -> Transcription | list[Transcription]:
        """Recognise a recording, or several in batches.

        Args:
            audio: path, open file, or ``(samples, rate)``; or a list of these. Any length.
            hot_words: phrases that the search prefers.
            nbest: most hypotheses in ``.nbest``.
            batch_seconds: most seconds of sound, padding included, that are recognised at once.

        Returns:
            The transcription; for a list, a list in the same order.

        Raises:
            DataError: a recording cannot be read.
            UserError: the decoding method takes no hot-words, or keeps one hypothesis only.
        """
        audios = audio if isinstance(audio, list) else [audio]
        found = list(
            self.transcribe_many(
                audios,
                hot_words=hot_words,
                nbest=nbest,
                batch_seconds=batch_seconds,
                progress=False,
            )
        )
        return found if isinstance(audio, list) else found[0]

    def transcribe_many(
        self,
        audios: Iterable[Audio],
        *,
        hot_words: HotWords = (),
        nbest: int = 1,
        batch_seconds: float = 100.0,
        progress: bool = True,
        on_error: Literal["raise", "keep"] = "raise",
    ) -> Iterator[Transcription]:
        """Recognise many recordings, read as they are needed, and yield each in order.

        Args:
            audios: any iterable; see ``transcribe``.
            hot_words: phrases that the search prefers.
            nbest: most hypotheses in ``.nbest``.
            batch_seconds: most seconds of sound, padding included, that are recognised at once.
            progress: show a bar on a terminal, lines in a log.
            on_error: of a recording that cannot be read: raise the ``DataError`` and end, or keep
                it in ``.error`` of its transcription and go on.

        Raises:
            DataError: a recording cannot be read.
            UserError: the decoding method takes no hot-words, or keeps one hypothesis only.
        """
        if nbest < 1 or not batch_seconds > 0:
            raise UserError(
                f"nbest={nbest}, batch_seconds={batch_seconds}: both must be above 0.",
                "leave out the one that is not.",
            )
        if on_error not in ("raise", "keep"):
            raise UserError(f"on_error={on_error!r} is neither 'raise' nor 'keep'.")
        recognise = self.recognise_pieces(hot_words, nbest)
        total = len(audios) if isinstance(audios, Sized) else None
        recordings = (read_recording(audio, self.cutting, on_error == "keep") for audio in audios)

        def results() -> Iterator[Transcription]:
            with Progress("transcribing", total, visible=progress) as bar:
                for group in grouped(recordings, _BATCHES_AHEAD * batch_seconds):
                    recognise_group(recognise, group, batch_seconds)
                    for recording in group:
                        bar.step()
                        yield recording.result(nbest, self.seconds_per_frame)

        return results()

    def words_of(self, sound: Sound, tell: Callable[[Window, str], None]) -> list[Word]:
        """Recognise a recording from its beginning, and tell of each window when it is done."""
        if not has_sound(sound.samples):
            return []
        recognise = self.recognise_pieces()
        return words_in(recognise, sound, self.cutting, self.seconds_per_frame, tell)
