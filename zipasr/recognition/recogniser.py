"""Recognisers: an acoustic model, a search and a tokenizer, from batches of features to words."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from zipasr.base.errors import NumericError
from zipasr.base.progress import Progress
from zipasr.checkpoint.averaging import LoadedWeights, read_chosen
from zipasr.checkpoint.checkpoint_file import ReadCheckpoint, load_checkpoint
from zipasr.checkpoint.model_file import untrained, untrained_transducer
from zipasr.encoder.protocol import EncoderConfig, Geometry
from zipasr.model.config import ModelConfig
from zipasr.model.transducer import AsrModel
from zipasr.nn.numerics import can_use_bf16
from zipasr.recognition.acoustic_model import (
    AcousticModel,
    Acoustics,
    acoustic_model_of,
    device_of,
    token_log_probs,
)
from zipasr.recognition.calibration_file import stored_calibration
from zipasr.recognition.config import RecognitionConfig
from zipasr.recognition.resources import ResourceReader, check_resources
from zipasr.recognition.word_bounds import timed_tokens
from zipasr.scoring.calibration import Calibration
from zipasr.scoring.result_files import Transcript
from zipasr.scoring.word_errors import count_errors
from zipasr.search.components import ModelParts
from zipasr.search.config import DecodingConfig
from zipasr.search.ctc_greedy import CtcOutput
from zipasr.search.methods import GREEDY, MethodSpec, Need, method_of
from zipasr.search.protocol import ScaleSetting, Search, Utterance
from zipasr.search.registry import build_search
from zipasr.search.transducer_step import TransducerSteps
from zipasr.text.scripts import units_of
from zipasr.text.timed_words import Token, Word, words_of_tokens
from zipasr.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from zipasr.data.dataset import Batch

logger = logging.getLogger(__name__)

A = TypeVar("A", bound=Acoustics, covariant=True)
M = TypeVar("M", bound=Acoustics)


@dataclass(frozen=True, slots=True)
class Recogniser(Generic[A]):
    """What turns a batch into words.

    Attributes:
        acoustics: the model; several recognisers may share one.
        tokenizer: from tokens to text.
        method: of the search.
        search: from encoder frames to tokens.
        about: lines that say what it is made of.
        setting: the only weights that hypotheses are compared with; ``None`` for all those of the
            search.
        calibration: of the confidence of words; ``None`` where it is the model's own.
    """

    acoustics: A
    tokenizer: Tokenizer
    method: MethodSpec
    search: Search[Any]
    about: tuple[str, ...] = ()
    setting: ScaleSetting | None = None
    calibration: Calibration | None = None

    @property
    def geometry(self) -> Geometry:
        """Features in, encoder frames out."""
        return self.acoustics.geometry

    @property
    def ctc_log_probs(self) -> CtcOutput | None:
        """The CTC head: frames (N, T', C) to log-probabilities (N, T', V)."""
        return self.acoustics.parts.ctc_output

    @property
    def transducer(self) -> TransducerSteps | None:
        """Decoder and joiner."""
        decoder, joiner = self.acoustics.parts.decoder, self.acoustics.parts.joiner
        return None if decoder is None or joiner is None else TransducerSteps(decoder, joiner)

    def with_setting(self, name: str) -> Recogniser[A]:
        """Return the same with one setting of the search."""
        (setting,) = (one for one in self.search.settings if one.name == name)
        return replace(self, setting=setting)

    def calibrated_by(self, calibration: Calibration) -> Recogniser[A]:
        """Return the same with another confidence of words."""
        old = self.calibration.about if self.calibration else None
        about = (*(line for line in self.about if line != old), calibration.about)
        return replace(self, about=about, calibration=calibration)

    def token_log_probs(self, utterance: Utterance, frames: Tensor) -> list[float]:
        """Return what the head that the method reads gives to each token at its frame.

        Args:
            utterance: what was recognised.
            frames: (T', C), encoder output of it.
        """
        return token_log_probs(self.acoustics.parts, self.method.head, utterance, frames)

    def words_of_tokens(self, tokens: Sequence[Token]) -> list[Word]:
        """Join tokens of recognised text to words, with their confidence."""
        words = words_of_tokens(tokens, self.tokenizer.written)
        return words if self.calibration is None else self.calibration.calibrated(words)

    def confidences(self, utterance: Utterance, frames: Tensor) -> list[float]:
        """Return the confidence of each recognised word; see ``token_log_probs``."""
        log_probs = self.token_log_probs(utterance, frames)
        tokens = timed_tokens(self.tokenizer, self.geometry, utterance, token_log_probs=log_probs)
        return [one.confidence for one in self.words_of_tokens(tokens)]

    def best_by_setting(
        self, frames: Tensor, lens: Tensor, references: Sequence[str]
    ) -> dict[str, list[Utterance]]:
        """Search under every setting.

        Args:
            frames: (N, T', C), encoder output.
            lens: (N,) their lengths.
            references: what was said; methods that choose by it are given nothing else.

        Returns:
            By the name of the setting, the best hypothesis of each utterance.

        Raises:
            NumericError: the model gives scores that are no numbers.
        """
        with naming_model(self.about):
            found = self.search.scored(self.search.whole(frames, lens))
        if Need.REFERENCE in self.method.needs:
            pairs = zip(references, found, strict=True)
            nearest = [nearest_to(text, one.hypotheses, self.tokenizer) for text, one in pairs]
            return {"": nearest}
        settings = self.search.settings if self.setting is None else (self.setting,)
        return {name: [one.best(weights) for one in found] for name, weights in settings}


@contextmanager
def naming_model(about: Sequence[str]) -> Iterator[None]:
    """Let the error of a search whose scores are no numbers say which model gave them."""
    try:
        yield
    except NumericError as problem:
        raise NumericError(": ".join([*about[:1], problem.what]), problem.fix) from problem


def load_recogniser(
    config: RecognitionConfig, any_head: bool = False, read: ReadCheckpoint = load_checkpoint
) -> Recogniser[AcousticModel]:
    """Build the model that the chosen checkpoints hold, with their own settings and tokenizer.

    Args:
        config: settings.
        any_head: whether a model without transducer is read by its CTC head where the flags leave
            the method at its default.
        read: reads a checkpoint.

    Raises:
        CheckpointError: no such checkpoints, damaged ones, or flags that contradict them.
        DataError: there is no tokenizer.
        UserError: a streaming model without one chunk size and one left context.
    """
    chosen = read_chosen(config.exp_dir, config.checkpoint, read)
    for line in untrained(chosen, config.model_flags):
        logger.warning("%s", line)
    can_use_bf16(config.decoding.use_bf16, device_of(config))  # warns, once for all that follow
    reads_transducer = method_of(config.decoding.decoding_method).head == "transducer"
    if too_early := untrained_transducer(chosen) if reads_transducer else None:
        logger.warning("%s; --decoding-method %s reads that head.", too_early, GREEDY["ctc"])
    if any_head and (too_early or "joiner.output_linear.weight" not in chosen.weights):
        config = with_ctc_method(config)
    recogniser = recogniser_of(chosen, config)
    calibration = stored_calibration(config, recogniser.acoustics)
    return recogniser if calibration is None else recogniser.calibrated_by(calibration)


def with_ctc_method(config: RecognitionConfig) -> RecognitionConfig:
    """Return the same with greedy search of the CTC head in place of that of a transducer."""
    decoding = config.decoding
    if decoding.decoding_method != GREEDY["transducer"]:
        return config
    return replace(config, decoding=replace(decoding, decoding_method=GREEDY["ctc"]))


def recogniser_of(chosen: LoadedWeights, config: RecognitionConfig) -> Recogniser[AcousticModel]:
    """Build the model of weights that were read; see ``load_recogniser``.

    Raises:
        CheckpointError: flags that contradict the checkpoint.
        DataError: there is no tokenizer.
        UserError: a streaming model without one chunk size and one left context.
    """
    check_resources(config)
    acoustics, tokenizer = acoustic_model_of(chosen, config)
    return recogniser_with(acoustics, ResourceReader(tokenizer, device_of(config)), config)


def recogniser_with(
    acoustics: M, reader: ResourceReader, config: RecognitionConfig
) -> Recogniser[M]:
    """Return a model with the search that was asked for.

    Args:
        acoustics: the model.
        reader: of what the search needs beside it.
        config: settings.

    Raises:
        CheckpointError: a language model is missing, damaged, or of other tokens.
        DataError: another file is missing, damaged, or of other tokens.
        UserError: the model lacks a head that the method reads.
    """
    resources = reader.read(config)
    search = build_search(config.decoding, acoustics.parts, resources)
    words = resources.vocabulary.about if resources.vocabulary else ()
    method = method_of(config.decoding.decoding_method)
    return Recogniser(acoustics, reader.tokenizer, method, search, (*acoustics.about, *words))


def greedy_recogniser(
    model: AsrModel,
    tokenizer: Tokenizer,
    encoder: EncoderConfig,
    heads: ModelConfig,
    use_transducer: bool,
) -> Recogniser[AcousticModel]:
    """Return a model with greedy search, such as one in training.

    Args:
        model: in evaluation mode.
        tokenizer: of its tokens.
        encoder: settings of its encoder.
        heads: settings of the rest of it.
        use_transducer: whether the transducer is read; else the CTC head.
    """
    method = method_of(GREEDY["transducer" if use_transducer else "ctc"])
    # The decoder itself: tables of its weights would be made anew for each batch.
    parts = ModelParts(model.decoder, model.joiner, model.ctc_log_probs if heads.use_ctc else None)
    search = build_search(DecodingConfig(decoding_method=method.name), parts)
    acoustics = AcousticModel(model, encoder, heads.context_size)
    return Recogniser(acoustics, tokenizer, method, search)


class Recognised(NamedTuple):
    """What was recognised in a set.

    Attributes:
        by_setting: the transcripts, in decoding order, by the name of the setting; the name is
            empty for a search that has only one.
        seconds: of computing, model and search, not loading.
        speech: seconds of it.
    """

    by_setting: dict[str, list[Transcript]]
    seconds: float
    speech: float

    @property
    def rtf(self) -> float:
        """Real-time factor: seconds of computing per second of speech."""
        return self.seconds / max(self.speech, 1e-9)

    def speed(self) -> str:
        """Say how fast it went."""
        return (
            f"RTF {self.rtf:.4f}: {self.speech / 3600:.2f} h of speech in {self.seconds:.1f} s, "
            f"{self.speech / max(self.seconds, 1e-9):.0f} h of speech per hour"
        )


def recognise(
    recogniser: Recogniser[AcousticModel],
    batches: Iterable[Batch],
    name: str,
    total: int | None,
    with_confidence: bool = False,
) -> Recognised:
    """Transcribe all batches with every setting that the search has.

    Args:
        recogniser: model and search.
        batches: with transcripts.
        name: of the set, for the progress bar.
        total: number of batches, if it is known.
        with_confidence: whether transcripts have the confidence of each word.
    """
    (found,) = recognise_with_all([recogniser], batches, name, total, with_confidence)
    return found


def recognise_with_all(
    recognisers: Sequence[Recogniser[AcousticModel]],
    batches: Iterable[Batch],
    name: str,
    total: int | None,
    with_confidence: bool = False,
) -> list[Recognised]:
    """Transcribe all batches with several searches; each batch is encoded once.

    The time of encoding counts for each search, as if it were alone. Two utterances go ahead, not
    timed: the first use of a loop compiles it.

    Args:
        recognisers: at least one; all have one acoustic model.
        batches: with transcripts.
        name: of the set, for the progress bar.
        total: number of batches, if it is known.
        with_confidence: whether transcripts have the confidence of each word.

    Returns:
        What each recogniser found.
    """
    acoustics = recognisers[0].acoustics
    found: list[dict[str, list[Transcript]]] = [{} for _ in recognisers]
    spent, speech, num_done = [0.0] * len(recognisers), 0.0, 0
    with Progress(f"decoding {name}", total) as progress, torch.inference_mode():
        for batch, counts in _first_ahead(batches):
            begun = time.monotonic()
            batch = batch.to(acoustics.device)
            frames, lens = acoustics.encode(batch.features, batch.feature_lens)
            if len(recognisers) > 1 and frames.is_cuda:
                torch.cuda.synchronize(frames.device)  # else the first search would pay for it
            encoding = time.monotonic() - begun
            for place, recogniser in enumerate(recognisers):
                begun = time.monotonic()
                by_setting = recogniser.best_by_setting(frames, lens, batch.texts)
                if not counts:
                    continue
                spent[place] += encoding + time.monotonic() - begun
                for setting, utterances in by_setting.items():
                    transcripts = _transcripts(recogniser, batch, utterances)
                    if with_confidence:
                        transcripts = [
                            one._replace(confidences=recogniser.confidences(utterance, row))
                            for one, utterance, row in zip(
                                transcripts, utterances, frames, strict=True
                            )
                        ]
                    found[place].setdefault(setting, []).extend(transcripts)
            if counts:
                speech, num_done = speech + batch.seconds, num_done + len(batch.cut_ids)
                progress.step(f"{num_done} utterances")
    return [
        Recognised(transcripts or {"": []}, seconds, speech)
        for transcripts, seconds in zip(found, spent, strict=True)
    ]


def _first_ahead(batches: Iterable[Batch]) -> Iterator[tuple[Batch, bool]]:
    """Yield batches, which count, and ahead of them utterances of the first, which do not."""
    for number, batch in enumerate(batches):
        if number == 0:
            yield batch.part(0, 2), False  # of two: a batch of one takes other loops
        yield batch, True


def _transcripts(
    recogniser: Recogniser[Acoustics], batch: Batch, utterances: Sequence[Utterance]
) -> list[Transcript]:
    texts = words_of(recogniser.tokenizer, utterances)
    return [
        transcript_of(recogniser, cut_id, reference, utterance, words)
        for cut_id, reference, words, utterance in zip(
            batch.cut_ids, batch.texts, texts, utterances, strict=True
        )
    ]


def transcript_of(
    recogniser: Recogniser[Acoustics],
    cut_id: str,
    reference: str,
    utterance: Utterance,
    words: list[str],
) -> Transcript:
    """Return what was recognised in an utterance beside what was said."""
    pieces, seconds = recogniser.tokenizer.pieces(), recogniser.geometry.seconds_per_frame
    return Transcript(
        cut_id,
        units_of(reference),
        words,
        [pieces[token] for token in utterance.tokens],
        [round(seconds * frame, 3) for frame in utterance.frames],
        # Where no hypothesis ended it is -inf, which JSON has no number for.
        utterance.log_prob if math.isfinite(utterance.log_prob) else None,
    )


def words_of(tokenizer: Tokenizer, utterances: Sequence[Utterance]) -> list[list[str]]:
    """Return the words of each utterance: those that the search looked for, or of its tokens.

    In text without blanks between words they are its characters.
    """
    texts = tokenizer.decode([utterance.tokens for utterance in utterances])
    return [
        units_of(text if utterance.words is None else " ".join(utterance.words))
        for text, utterance in zip(texts, utterances, strict=True)
    ]


def texts_of(recogniser: Recogniser[Acoustics], features: Tensor, lens: Tensor) -> list[str]:
    """Return the text of each utterance: features (N, T, 80) of the lengths (N,)."""
    encoded = recogniser.acoustics.encode(features, lens)
    with naming_model(recogniser.about):
        utterances = recogniser.search(*encoded)
    return recogniser.tokenizer.decode([utterance.tokens for utterance in utterances])


def nearest_to(reference: str, choices: Sequence[Utterance], tokenizer: Tokenizer) -> Utterance:
    """Return what has the fewest word errors; of several, what is most probable."""
    errors = [
        count_errors([(units_of(reference), words)]).total for words in words_of(tokenizer, choices)
    ]
    return choices[errors.index(min(errors))]
