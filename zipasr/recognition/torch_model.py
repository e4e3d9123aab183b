"""Speech models that torch computes: of a run, a checkpoint, or a TorchScript file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch

from zipasr.audio.loading import Audio, Samples, sound_of
from zipasr.audio.sound_profile import read_profile
from zipasr.base.errors import UserError
from zipasr.checkpoint.checkpoint_file import ReadCheckpoint, load_checkpoint
from zipasr.encoder.protocol import Geometry
from zipasr.recognition.acoustic_model import AcousticModel, Acoustics, device_of
from zipasr.recognition.alignment import align, encoded_pieces, recognise_pieces, tokens_of
from zipasr.recognition.config import EndpointConfig, ModelFileConfig, RecognitionConfig
from zipasr.recognition.export_check import CONFIDENCE
from zipasr.recognition.exported_files import plain_way
from zipasr.recognition.exported_recogniser import FileChunkRecogniser, load_file_recogniser
from zipasr.recognition.long_form import Cutting, Piece, RecognisePieces, WordTimes
from zipasr.recognition.recogniser import (
    Recogniser,
    load_recogniser,
    recogniser_with,
    with_ctc_method,
)
from zipasr.recognition.resources import ResourceReader
from zipasr.recognition.speech_model import Encoding, HotWords, Model
from zipasr.recognition.speech_stream import Stream
from zipasr.recognition.streaming import ChunkwiseRecogniser, LiveStream, chunk_recogniser
from zipasr.recognition.transcription import TimedHypothesis
from zipasr.recognition.word_bounds import timed_tokens
from zipasr.scoring.calibration import Calibration, read_calibrations
from zipasr.search.config import DecodingConfig
from zipasr.search.methods import MethodSpec, method_of
from zipasr.search.protocol import Utterance
from zipasr.text.timed_words import Token, Word
from zipasr.text.tokenizer import Tokenizer


class TorchModel(Model):
    """A model for whole recordings, and for speech as it comes if it is causal.

    Args:
        recogniser: model, search and tokenizer.
        config: what the search was made from.
        cutting: how long recordings are cut.
        times: where words begin.
    """

    def __init__(
        self,
        recogniser: Recogniser[Acoustics],
        config: RecognitionConfig,
        cutting: Cutting,
        times: WordTimes = "auto",
    ) -> None:
        super().__init__(recogniser.about, cutting, recogniser.geometry.seconds_per_frame)
        if times == "ctc" and recogniser.ctc_log_probs is None:
            raise UserError("--word-times ctc needs a CTC head, which this model has not.")
        self.recogniser, self._config, self._times = recogniser, config, times

    @property
    def tokenizer(self) -> Tokenizer:
        """Its tokens."""
        return self.recogniser.tokenizer

    def recognise_pieces(self, hot_words: HotWords = (), nbest: int = 1) -> RecognisePieces:
        """Return the function that recognises windows; see ``Model``."""
        recogniser = self._with(hot_words)
        if nbest > 1:
            _check_keeps_several(recogniser.method)

        def recognise(pieces: Sequence[Piece]) -> list[list[TimedHypothesis]]:
            return recognise_pieces(recogniser, pieces, self._times, nbest)

        return recognise

    @torch.inference_mode()
    def encode(self, audio: Audio) -> Encoding:
        """Return the frames of the encoder, of a recording as a whole."""
        piece = Piece(sound_of(audio).samples, 0.0)
        frames, lens = encoded_pieces(self.recogniser, [piece])
        return Encoding(frames[0, : int(lens[0])], self.seconds_per_frame)

    def align(self, audio: Audio, text: str) -> tuple[Word, ...]:
        """Return the words of a transcript with the times at which they were said."""
        tokens = tokens_of(text, self.tokenizer)
        words = align(self.recogniser, sound_of(audio), tokens, self.cutting, self._times)
        return tuple(words)

    def _stream(self, hot_words: HotWords, rules: EndpointConfig) -> Stream:
        recogniser = self._with(hot_words)
        acoustics = recogniser.acoustics
        if not isinstance(acoustics, AcousticModel):
            raise UserError(
                f"{'; '.join(self.about)} is for whole recordings, not for speech as it comes.",
                "load a file that was exported for streaming, with a chunk size.",
            )
        chunks = chunk_recogniser(acoustics, recogniser.method, recogniser.search)
        return TorchStream(self.tokenizer, chunks, rules, recogniser.calibration)

    @cached_property
    def _resources(self) -> ResourceReader:
        return ResourceReader(self.tokenizer, device_of(self._config))

    def _with(self, hot_words: HotWords) -> Recogniser[Acoustics]:
        """Return the recogniser with hot-words beside those that it was loaded with."""
        if isinstance(hot_words, str):
            raise UserError(f"hot_words={hot_words!r} is one string.", "give a list of phrases.")
        if not hot_words:
            return self.recogniser
        if not self.recogniser.method.hot_words:
            raise UserError(
                f"{self.recogniser.method.name} cannot use the hot-words.",
                "load the model with decoding_method='modified_beam_search'.",
            )
        config = replace(self._config, phrases=(*self._config.phrases, *hot_words))
        made = recogniser_with(self.recogniser.acoustics, self._resources, config)
        return replace(made, calibration=self.recogniser.calibration)


def _check_keeps_several(method: MethodSpec) -> None:
    if not method.nbest:
        raise UserError(
            f"nbest: {method.name} keeps one hypothesis.",
            "load the model with decoding_method='modified_beam_search' and a beam_size.",
        )


class ChunkModel(Model):
    """A TorchScript or ONNX model that hears chunks only; whole recordings are streamed to it."""

    hears_chunks = True

    def __init__(
        self,
        recogniser: FileChunkRecogniser,
        about: Sequence[str],
        cutting: Cutting,
        calibration: Calibration | None = None,
    ) -> None:
        lines = (*about, *([calibration.about] if calibration else []))
        super().__init__(lines, cutting, recogniser.size.geometry.seconds_per_frame)
        self.recogniser, self._calibration = recogniser, calibration

    def recognise_pieces(self, hot_words: HotWords = (), nbest: int = 1) -> RecognisePieces:
        """Return the function that recognises windows; see ``Model``."""
        if nbest > 1:
            raise UserError("nbest: a stream keeps one hypothesis.")
        self.stream(hot_words=hot_words)  # refuses hot-words before anything is read
        return lambda pieces: [[self._streamed(piece)] for piece in pieces]

    def _stream(self, hot_words: HotWords, rules: EndpointConfig) -> Stream:
        if hot_words:
            raise UserError(
                "hot_words: an exported model that streams takes them when it is loaded.",
                "load it with decoding_method='modified_beam_search' and context_file=PATH.",
            )
        tokenizer = self.recogniser.tokenizer
        return TorchStream(tokenizer, self.recogniser, rules, self._calibration)

    def _streamed(self, piece: Piece) -> TimedHypothesis:
        with self.stream() as stream:
            stream.accept(piece.samples)
        words = tuple(word.later(piece.start) for word in stream.words)
        return TimedHypothesis(words, 0.0)


class TorchStream(Stream):
    """Speech as it comes, for a model that goes on from chunk to chunk."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        recogniser: ChunkwiseRecogniser,
        rules: EndpointConfig,
        calibration: Calibration | None = None,
    ) -> None:
        self._geometry: Geometry = recogniser.size.geometry
        super().__init__(self._geometry.seconds_per_frame, tokenizer.written, calibration)
        self._tokenizer = tokenizer
        self._live = LiveStream(recogniser, rules, self._end)
        # What was asked last, and the answer: a reader asks more often than it changes.
        self._timed: tuple[Utterance, list[Token]] = (self._live.found, [])

    def _push(self, samples: Samples) -> None:
        self._live.push(samples)

    def _finish(self) -> None:
        self._live.finish()

    def _end(self, end_point: float) -> None:
        self._end_utterance(self._tokens(), end_point)

    def _tokens(self) -> list[Token]:
        live = self._live
        if self._timed[0] is not live.found:
            tokens = timed_tokens(
                self._tokenizer,
                self._geometry,
                live.found,
                start=live.begin,
                token_log_probs=live.token_log_probs(),
            )
            self._timed = live.found, tokens
        return self._timed[1]


def load_torch_model(
    config: RecognitionConfig,
    cutting: Cutting,
    times: WordTimes,
    read: ReadCheckpoint = load_checkpoint,
) -> TorchModel:
    """Load a model from checkpoints.

    Args:
        config: settings, which checkpoints among them.
        cutting: how long recordings are cut.
        times: where words begin.
        read: reads a checkpoint.

    Raises:
        CheckpointError: no such checkpoints, damaged ones, or settings that contradict them.
        DataError: there is no tokenizer.
        UserError: settings do not go with the model.
    """
    file = config.checkpoint.checkpoint
    folder = config.exp_dir if file is None else file.parent
    cutting = cutting._replace(profile=read_profile(folder))
    return TorchModel(load_recogniser(config, any_head=True, read=read), config, cutting, times)


def load_model_file(
    place: ModelFileConfig,
    config: RecognitionConfig,
    cutting: Cutting,
    times: WordTimes,
    needs_ctc: bool = False,
) -> TorchModel | ChunkModel:
    """Load a TorchScript file, or ONNX files by our own search.

    Args:
        place: the files.
        config: settings.
        cutting: how long recordings are cut.
        times: where words begin.
        needs_ctc: whether the CTC head is read where a folder has both, whatever the method.

    Raises:
        CheckpointError: a file is missing or holds something else.
        DataError: there are no tokens.
        ResourceError: onnxruntime is not installed.
        UserError: settings do not go with such files.
    """
    recogniser = load_file_recogniser(place, config, needs_ctc)
    assert place.place is not None
    folder = place.place if place.place.is_dir() else place.place.parent
    cutting = cutting._replace(profile=read_profile(folder))
    if isinstance(recogniser, FileChunkRecogniser):
        if times == "ctc":
            raise UserError("--word-times ctc needs whole recordings.", "leave it out.")
        calibration = _calibration_of_file(folder, config, recogniser.reads_ctc)
        return ChunkModel(recogniser, (str(place.place),), cutting, calibration)
    calibration = _calibration_of_file(folder, config, recogniser.method.head == "ctc")
    if calibration is not None:
        recogniser = recogniser.calibrated_by(calibration)
    return TorchModel(recogniser, config, cutting, times)


def _calibration_of_file(
    folder: Path, config: RecognitionConfig, reads_ctc: bool
) -> Calibration | None:
    """Return what the run of an exported model knew of a plain search, if this is one."""
    decoding = config.decoding
    used = with_ctc_method(config) if reads_ctc else config
    method = method_of(used.decoding.decoding_method).name
    plain = DecodingConfig(decoding_method=decoding.decoding_method, beam_size=decoding.beam_size)
    if decoding != plain or config.phrases or config.hot_words.path or config.lm.exp_dir:
        return None
    return read_calibrations(folder / CONFIDENCE).get(plain_way(method, decoding.beam_size))
