"""Speech models in exported folders, run by sherpa-onnx: torch is not imported."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zipasr.audio.loading import Samples
from zipasr.audio.sound_profile import read_profile
from zipasr.base.constants import SAMPLING_RATE
from zipasr.base.errors import CheckpointError, DataError, ResourceError, UserError
from zipasr.recognition.config import (
    PARTS,
    RULES,
    EndpointConfig,
    Kind,
    ModelFileConfig,
    RecognitionConfig,
)
from zipasr.recognition.export_check import CONFIDENCE, TABLE
from zipasr.recognition.exported_files import (
    files_in,
    hears_chunks,
    is_exported_folder,
    modeling_unit,
    plain_way,
    runs_in_sherpa,
)
from zipasr.recognition.long_form import Cutting, Piece, RecognisePieces
from zipasr.recognition.speech_model import HotWords, Model
from zipasr.recognition.speech_stream import Stream
from zipasr.recognition.transcription import TimedHypothesis
from zipasr.scoring.calibration import Calibration, read_calibrations
from zipasr.text.timed_words import WORD_START, Token, Written, words_of_tokens
from zipasr.text.tokenizer import BLANK, PieceTokenizer, read_tokens

#: Seconds of an encoder frame of all Zipformers.
FRAME = 0.04

# The client drops what is left at the end: half a second of silence takes its place.
_TAIL = np.zeros(SAMPLING_RATE // 2, dtype=np.float32)

# Published files fail on less than 85 ms, nine frames.
_SHORTEST = SAMPLING_RATE // 10

_METHODS = ("greedy_search", "modified_beam_search")


@dataclass(frozen=True, slots=True, kw_only=True)
class SherpaConfig:
    """Settings of sherpa-onnx.

    Attributes:
        decoding_method: greedy_search, modified_beam_search, or a greedy search of the CTC head.
        beam_size: hypotheses in a beam search.
        blank_penalty: subtracted from the logit of blank.
        context_score: bonus for each token of a hot-word.
        num_threads: of one recognition.
        kind: precision of the files: float32, int8 or fp16.
    """

    decoding_method: str = "greedy_search"
    beam_size: int = 4
    blank_penalty: float = 0.0
    context_score: float = 2.0
    num_threads: int = 1
    kind: Kind = ""

    @property
    def reads_ctc(self) -> bool:
        """Whether the method reads the CTC head."""
        return self.decoding_method.startswith("ctc")

    def __post_init__(self) -> None:
        known = (*_METHODS, "ctc_greedy_search", "ctc-greedy-search", "ctc-decoding")
        if self.decoding_method not in known:
            raise UserError(
                f"decoding_method={self.decoding_method!r}: exported models have "
                f"{', '.join(_METHODS)} and ctc-greedy-search.",
                "load the run folder or the checkpoint for the other methods.",
            )


def sherpa_config(
    place: ModelFileConfig, config: RecognitionConfig, words_only: bool
) -> SherpaConfig | None:
    """Return settings with which sherpa-onnx does the same as our own search; ``None`` if none do.

    Args:
        place: exported files.
        config: settings of our own search.
        words_only: whether times and confidence do not count, of which the CTC head has other ones.
    """
    decoding, folder = config.decoding, place.model
    method = decoding.decoding_method.replace("_", "-")
    is_plain = (
        (decoding.temperature, decoding.max_sym_per_frame, decoding.pad_look_ahead)
        == (1.0, 1, False)
        and not (config.hot_words.path or config.phrases)
        and not (config.tokens.tokens or config.tokens.is_bpe_model_given)
    )
    if folder is None or not is_plain or not is_exported_folder(folder):
        return None
    if not importlib.util.find_spec("sherpa_onnx"):
        return None
    if method not in ("greedy-search", "modified-beam-search", "ctc-greedy-search"):
        return None
    files = files_in(folder, method.startswith("ctc"))
    reads_ctc = len(files) == 1
    if reads_ctc and (method == "modified-beam-search" or decoding.blank_penalty or not words_only):
        return None
    if not runs_in_sherpa(files, folder / TABLE):
        return None
    return SherpaConfig(
        decoding_method="ctc-greedy-search" if reads_ctc else method.replace("-", "_"),
        beam_size=decoding.beam_size,
        blank_penalty=decoding.blank_penalty,
    )


def load_sherpa_model(
    folder: Path, config: SherpaConfig, cutting: Cutting, tokens: Path | None = None
) -> SherpaModel:
    """Load an exported folder.

    Args:
        folder: from export.py, or of a published model with the same file names.
        config: settings.
        cutting: how long recordings are cut.
        tokens: table of tokens, if it is not in the folder.

    Raises:
        CheckpointError: a file is missing, or sherpa-onnx cannot read it.
        DataError: there is no table of tokens.
        ResourceError: sherpa-onnx is not installed.
        UserError: the folder holds several models.
    """
    if not importlib.util.find_spec("sherpa_onnx"):
        raise ResourceError(
            f"{folder} needs the package sherpa-onnx.", "pip install -r export-requirements.txt"
        )
    files = files_in(folder, config.reads_ctc, config.kind)
    table = tokens or folder / TABLE
    if not table.is_file():
        raise DataError(f"there is no {table}.", f"give tokens=PATH, its {TABLE}.")
    calibration = None
    if config.blank_penalty == 0.0:
        method = "ctc-greedy-search" if config.reads_ctc else config.decoding_method
        way = plain_way(method, config.beam_size)
        calibration = read_calibrations(folder / CONFIDENCE).get(way)
    cutting = cutting._replace(profile=read_profile(folder))
    return SherpaModel(files, table, config, cutting, calibration)


class SherpaModel(Model):
    """An exported model, for whole recordings or for speech as it comes.

    Args:
        files: of the three parts of a transducer, or of a CTC model.
        table: of tokens.
        config: settings.
        cutting: how long recordings are cut.
        calibration: of the confidence of words; ``None`` for the model's own.
    """

    def __init__(
        self,
        files: Sequence[Path],
        table: Path,
        config: SherpaConfig,
        cutting: Cutting,
        calibration: Calibration | None = None,
    ) -> None:
        about = (f"{files[0]}, run by sherpa-onnx", *([calibration.about] if calibration else []))
        super().__init__(about, cutting, FRAME)
        self._config, self._calibration = config, calibration
        self._is_ctc = len(files) == 1
        self._streams = hears_chunks(files[0])
        names = ("model",) if self._is_ctc else PARTS
        self._files = {name: str(file) for name, file in zip(names, files, strict=True)}
        self._files["tokens"] = str(table)
        self._table = _table_of(table)
        self._clients: dict[frozenset[tuple[str, Any]], Any] = {}
        try:
            self._recognizer({})
        except (RuntimeError, ValueError) as problem:
            raise CheckpointError(
                f"sherpa-onnx cannot read {files[0]}: {str(problem).splitlines()[0]}.",
                "export the model again.",
            ) from problem

    def recognise_pieces(self, hot_words: HotWords = (), nbest: int = 1) -> RecognisePieces:
        """Return the function that recognises windows; see ``Model``."""
        if nbest > 1:
            raise UserError(
                "nbest: sherpa-onnx tells one hypothesis.",
                "load the run folder or the checkpoint that the model was exported from.",
            )
        more, phrases = self._with(hot_words)
        client = self._recognizer(more)
        if self._streams:
            return lambda pieces: [[self._streamed(client, phrases, one)] for one in pieces]

        def recognise(pieces: Sequence[Piece]) -> list[list[TimedHypothesis]]:
            streams = []
            for piece in pieces:
                stream = client.create_stream(hotwords=phrases)
                missing = max(0, _SHORTEST - len(piece.samples))
                stream.accept_waveform(SAMPLING_RATE, np.pad(piece.samples, (0, missing)))
                streams.append(stream)
            client.decode_streams(streams)
            return [
                [self._hypothesis(_tokens(one.result, piece.start))]
                for one, piece in zip(streams, pieces, strict=True)
            ]

        return recognise

    def _stream(self, hot_words: HotWords, rules: EndpointConfig) -> Stream:
        if not self._streams:
            raise UserError(
                f"{self.about[0]}: it is for whole recordings.",
                "export a causal model with chunk_size and left_context_frames.",
            )
        more, phrases = self._with(hot_words)
        if rules.enable_endpoint:
            more |= {name: getattr(rules, name) for name in RULES}
            more["enable_endpoint_detection"] = True
        client = self._recognizer(more)
        return SherpaStream(client, phrases, self._table.written, self._calibration)

    def _with(self, hot_words: HotWords) -> tuple[dict[str, Any], str | None]:
        """Return settings of the client, and hot-words as it reads them."""
        if isinstance(hot_words, str):
            raise UserError(f"hot_words={hot_words!r} is one string.", "give a list of phrases.")
        if not hot_words:
            return {}, None
        if self._config.decoding_method != "modified_beam_search" or self._is_ctc:
            raise UserError(
                f"{self._config.decoding_method} cannot use hot-words.",
                "load the model with decoding_method='modified_beam_search'.",
            )
        unit = modeling_unit(self._table.pieces())
        if unit == "cjkchar":
            return {"modeling_unit": unit}, "/".join(hot_words)
        vocabulary = Path(self._files["tokens"]).with_name("bpe.vocab")
        if not vocabulary.is_file():
            raise DataError(
                f"hot-words are cut into tokens by {vocabulary}, which does not exist.",
                "export the model with bpe_model.",
            )
        return {"modeling_unit": unit, "bpe_vocab": str(vocabulary)}, "/".join(hot_words)

    def _recognizer(self, more: Mapping[str, Any]) -> Any:
        """Return the client with more settings; each is made once."""
        key = frozenset(more.items())
        if key not in self._clients:
            self._clients[key] = self._new_recognizer(more)
        return self._clients[key]

    def _new_recognizer(self, more: Mapping[str, Any]) -> Any:
        import sherpa_onnx

        config, kind = self._config, "Online" if self._streams else "Offline"
        recognizer = getattr(sherpa_onnx, f"{kind}Recognizer")
        if self._is_ctc:
            make = (
                recognizer.from_zipformer2_ctc if self._streams else recognizer.from_zipformer_ctc
            )
            return make(**self._files, num_threads=config.num_threads, **more)
        if self._streams:
            # The client would give the confidence of tokens at a temperature of 2.
            more = {**more, "temperature_scale": 1.0}
        return recognizer.from_transducer(
            **self._files,
            num_threads=config.num_threads,
            decoding_method=config.decoding_method,
            max_active_paths=config.beam_size,
            blank_penalty=config.blank_penalty,
            hotwords_score=config.context_score,
            **more,
        )

    def _streamed(self, client: Any, phrases: str | None, piece: Piece) -> TimedHypothesis:
        with SherpaStream(client, phrases, self._table.written) as stream:
            stream.accept(piece.samples)
        return self._hypothesis(stream.tokens(piece.start))

    def _hypothesis(self, tokens: Sequence[Token]) -> TimedHypothesis:
        words = words_of_tokens(tokens, self._table.written)
        if self._calibration is not None:
            words = self._calibration.calibrated(words)
        return TimedHypothesis(tuple(words), sum(one.log_prob for one in tokens))


class SherpaStream(Stream):
    """Speech as it comes, for an exported model."""

    def __init__(
        self,
        client: Any,
        phrases: str | None,
        written: Written,
        calibration: Calibration | None = None,
    ) -> None:
        super().__init__(FRAME, written, calibration)
        self._client = client
        self._stream = client.create_stream(hotwords=phrases)

    def tokens(self, start: float = 0.0) -> list[Token]:
        """Return the tokens since the last end point; the stream begins at ``start`` seconds."""
        result = self._client.recognizer.get_result(self._stream)
        return _tokens(result, start + result.start_time)

    def _push(self, samples: Samples) -> None:
        self._stream.accept_waveform(SAMPLING_RATE, samples)
        self._decode()

    def _finish(self) -> None:
        self._stream.accept_waveform(SAMPLING_RATE, _TAIL)
        self._stream.input_finished()
        self._decode()

    def _decode(self) -> None:
        while self._client.is_ready(self._stream):
            self._client.decode_stream(self._stream)
            if self._client.is_endpoint(self._stream):
                tokens = self._tokens()
                self._client.reset(self._stream)
                # The client says where an utterance begins: where the one before has ended.
                end_point = self._client.recognizer.get_result(self._stream).start_time
                self._end_utterance(tokens, end_point)

    def _tokens(self) -> list[Token]:
        return self.tokens()


def _table_of(path: Path) -> PieceTokenizer:
    """Return the table of tokens; of one that the client alone can read, nothing."""
    try:
        return PieceTokenizer(read_tokens(path))
    except DataError:
        return PieceTokenizer([BLANK])


def _tokens(result: Any, start: float) -> list[Token]:
    """Return the tokens of a result of sherpa-onnx, which writes a space for the mark of words."""
    known = list(getattr(result, "ys_log_probs", None) or getattr(result, "ys_probs", None) or [])
    log_probs = known if len(known) == len(result.tokens) else [0.0] * len(result.tokens)
    return [
        Token(text.replace(" ", WORD_START), start + begin, start + begin + FRAME, min(score, 0.0))
        for text, begin, score in zip(result.tokens, result.timestamps, log_probs, strict=True)
    ]
