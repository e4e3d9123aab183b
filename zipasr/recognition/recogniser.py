"""Models with a search: batches of features to words."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from zipasr.base.config import flag_name, shown
from zipasr.base.distributed import device_for
from zipasr.base.errors import UserError
from zipasr.base.progress import Progress
from zipasr.checkpoint.average import LoadedWeights, read_chosen
from zipasr.checkpoint.model_file import StoredModel, stored_model, untrained
from zipasr.data.dataset import Batch
from zipasr.encoder.protocol import EncoderConfig, Geometry
from zipasr.model.config import ModelConfig
from zipasr.model.transducer import AsrModel
from zipasr.nn.precision import can_use_bf16, has_bfloat16
from zipasr.recognition.config import RecognitionConfig
from zipasr.recognition.resources import check_resources, read_resources
from zipasr.recognition.token_sources import check_vocab_size, tokenizer_of
from zipasr.scoring.result_files import Transcript
from zipasr.scoring.word_errors import count_errors
from zipasr.search.config import DecodingConfig
from zipasr.search.ctc import CtcOutput
from zipasr.search.protocol import Search, Utterance
from zipasr.search.registry import search_for
from zipasr.search.rescoring import Oracle, Rescoring
from zipasr.search.transducer_step import TransducerSteps
from zipasr.text.tokenizer import Tokenizer

LOG_ZERO = -23.025851  # log(1e-10), the features of silence that pads a batch


class Recogniser(NamedTuple):
    """What turns a batch into words.

    Attributes:
        model: in evaluation mode.
        search: from encoder frames to tokens.
        tokenizer: from tokens to text.
        zipformer: settings of the encoder.
        context_size: tokens that the prediction network sees.
        about: lines that say which model it is.
        is_inferred: whether its settings were read off the weights.
        use_bf16: whether the encoder computes in bfloat16.
        pad_look_ahead: whether the front end sees silence behind each utterance; see
            ``encoded_frames``.
    """

    model: AsrModel
    search: Search
    tokenizer: Tokenizer
    zipformer: EncoderConfig
    context_size: int
    about: tuple[str, ...]
    is_inferred: bool
    use_bf16: bool = False
    pad_look_ahead: bool = False

    @property
    def geometry(self) -> Geometry:
        """Features in, encoder frames out."""
        return self.zipformer.geometry

    @property
    def ctc_log_probs(self) -> CtcOutput | None:
        """The CTC head: frames (N, T', C) to log-probabilities (N, T', V)."""
        return None if self.model.ctc_output is None else self.model.ctc_log_probs

    @property
    def transducer(self) -> TransducerSteps | None:
        """Decoder and joiner."""
        decoder, joiner = self.model.tabled_decoder(), self.model.joiner
        return None if decoder is None or joiner is None else TransducerSteps(decoder, joiner)

    def encode(self, features: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """Encode utterances; see ``encoded_frames``."""
        return encoded_frames(self, features, lens)

    def with_setting(self, name: str) -> Recogniser:
        """Return the same with one setting of a rescoring."""
        search = self.search
        return self._replace(search=search.only(name)) if isinstance(search, Rescoring) else self


def load_recogniser(config: RecognitionConfig, any_head: bool = False) -> Recogniser:
    """Build the model that the chosen checkpoints hold, with their own settings and tokenizer.

    Args:
        config: settings.
        any_head: whether a model without transducer is read by its CTC head where the flags leave
            the method at its default.

    Raises:
        CheckpointError: no such checkpoints, damaged ones, or flags that contradict them.
        DataError: there is no tokenizer.
        UserError: a streaming model without one chunk size and one left context.
    """
    chosen = read_chosen(config.exp_dir, config.checkpoint)
    for line in untrained(chosen, config.model_flags):
        logging.warning("%s", line)
    can_use_bf16(config.decoding.use_bf16, device_for(0))  # warns, once for all that follow
    if any_head and "joiner.output_linear.weight" not in chosen.weights:
        config = with_ctc_method(config)
    return recogniser_of(chosen, config)


def with_ctc_method(config: RecognitionConfig) -> RecognitionConfig:
    """Return the same with greedy search of the CTC head in place of that of a transducer."""
    decoding = config.decoding
    if decoding.decoding_method != "greedy_search":
        return config
    return replace(config, decoding=replace(decoding, decoding_method="ctc-greedy-search"))


def recogniser_of(chosen: LoadedWeights, config: RecognitionConfig) -> Recogniser:
    """Build the model of weights that were read; see ``load_recogniser``.

    Raises:
        CheckpointError: flags that contradict the checkpoint.
        DataError: there is no tokenizer.
        UserError: a streaming model without one chunk size and one left context.
    """
    check_resources(config)
    stored = stored_model(chosen, config.model_flags)
    check_is_settled(stored)
    tokenizer = tokenizer_of(chosen, config.tokens)
    check_vocab_size(stored.path, stored.vocab_size, tokenizer, config.tokens)
    model = stored.build().to(device_for(0)).eval()
    aids = read_resources(config, tokenizer, device_for(0))
    search = search_for(
        config.decoding,
        model.tabled_decoder(),
        model.joiner,
        model.ctc_log_probs if stored.model.use_ctc else None,
        attention_decoder=model.attention_decoder,
        aids=aids,
    )
    return Recogniser(
        model,
        search,
        tokenizer,
        stored.zipformer,
        stored.model.context_size,
        (stored.describe(), *stored.notes, *(aids.vocabulary.about if aids.vocabulary else ())),
        bool(stored.notes),
        use_bf16=config.decoding.use_bf16 and has_bfloat16(device_for(0)),
        pad_look_ahead=config.decoding.pad_look_ahead,
    )


def check_is_settled(stored: StoredModel) -> None:
    """Refuse a streaming model whose chunk size or left context is still to be chosen.

    Raises:
        UserError: there are several to choose from.
    """
    choices = stored.zipformer.choices()
    several = {flag_name(name): values for name, values in choices.items() if len(values) != 1}
    if several:
        lists = " and ".join(f"{flag} {shown(values)}" for flag, values in several.items())
        words = " ".join(f"{flag} {values[0]}" for flag, values in several.items())
        raise UserError(
            f"{stored.path} is a streaming model for {lists}: choose one of each.",
            f"add, for example, {words}",
        )


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
    recogniser: Recogniser, batches: Iterable[Batch], name: str, total: int | None
) -> tuple[list[Transcript], float]:
    """Transcribe all batches with the usual setting of the search.

    Returns:
        Reference and hypothesis of each utterance, in decoding order, and the real-time factor.
    """
    search = recogniser.search
    if isinstance(search, Rescoring):
        recogniser = recogniser.with_setting(search.default.name)
    found = recognise_settings(recogniser, batches, name, total)
    (transcripts,) = found.by_setting.values()
    return transcripts, found.rtf


def recognise_settings(
    recogniser: Recogniser, batches: Iterable[Batch], name: str, total: int | None
) -> Recognised:
    """Transcribe all batches with every setting that the search has."""
    found: dict[str, list[Transcript]] = {}
    spent = speech = 0.0
    with Progress(f"decoding {name}", total) as progress, torch.inference_mode():
        for batch in batches:
            begun = time.monotonic()
            heard = hear_settings(recogniser, batch)
            spent += time.monotonic() - begun
            speech += batch.seconds
            for setting, utterances in heard.items():
                transcripts = _transcripts(recogniser, batch, utterances)
                found.setdefault(setting, []).extend(transcripts)
            progress.step(f"{len(next(iter(found.values())))} utterances")
    return Recognised(found or {"": []}, spent, speech)


def _transcripts(
    recogniser: Recogniser, batch: Batch, utterances: Sequence[Utterance]
) -> list[Transcript]:
    tokenizer, seconds = recogniser.tokenizer, recogniser.geometry.seconds_per_frame
    pieces = tokenizer.pieces()
    return [
        Transcript(
            cut_id,
            reference.split(),
            words,
            [pieces[token] for token in utterance.tokens],
            [round(seconds * frame, 3) for frame in utterance.frames],
            # Where no hypothesis ended it is -inf, which JSON has no number for.
            utterance.log_prob if math.isfinite(utterance.log_prob) else None,
        )
        for cut_id, reference, words, utterance in zip(
            batch.cut_ids,
            batch.texts,
            words_of(tokenizer, utterances),
            utterances,
            strict=True,
        )
    ]


def words_of(tokenizer: Tokenizer, utterances: Sequence[Utterance]) -> list[list[str]]:
    """Return the words of each utterance: those that the search looked for, or of its tokens."""
    texts = tokenizer.decode([utterance.tokens for utterance in utterances])
    return [
        text.split() if utterance.words is None else list(utterance.words)
        for text, utterance in zip(texts, utterances, strict=True)
    ]


def transcribe(recogniser: Recogniser, batch: Batch) -> list[str]:
    """Return the text of each utterance."""
    utterances = hear(recogniser, batch)
    return recogniser.tokenizer.decode([utterance.tokens for utterance in utterances])


def hear(recogniser: Recogniser, batch: Batch) -> list[Utterance]:
    """Return the tokens of each utterance; one too short for the encoder is padded with silence."""
    return recogniser.search(*encoded_frames(recogniser, batch.features, batch.feature_lens))


def hear_settings(recogniser: Recogniser, batch: Batch) -> dict[str, list[Utterance]]:
    """Return the tokens of each utterance under every setting of the search, by its name."""
    search = recogniser.search
    frames = encoded_frames(recogniser, batch.features, batch.feature_lens)
    if isinstance(search, Rescoring):
        return search.settings(*frames)
    if isinstance(search, Oracle):
        pairs = zip(batch.texts, search.choices(*frames), strict=True)
        return {"": [nearest_to(text, those, recogniser.tokenizer) for text, those in pairs]}
    return {"": search(*frames)}


def nearest_to(reference: str, choices: Sequence[Utterance], tokenizer: Tokenizer) -> Utterance:
    """Return what has the fewest word errors; of several, what is most probable."""
    errors = [
        count_errors([(reference.split(), words)]).total for words in words_of(tokenizer, choices)
    ]
    return choices[errors.index(min(errors))]


def encoded_frames(recogniser: Recogniser, features: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
    """Encode utterances with the silence behind them that the model needs.

    A causal model gets its ``geometry.tail``, as in the published decoding. The front end also sees
    what is beyond an utterance's length: nothing behind the longest of a batch, silence behind the
    others, so that the published decoding depends a little on the batch. With ``pad_look_ahead``
    there is silence behind each, as in a stream.

    Args:
        recogniser: whose model encodes.
        features: (N, T, 80); beyond the lengths they are silence.
        lens: (N,) frames of each utterance.

    Returns:
        (N, T', C) float32 and their lengths (N,), where the model is.
    """
    device = next(recogniser.model.parameters()).device
    geometry = recogniser.geometry
    beyond = geometry.look_ahead if recogniser.pad_look_ahead else 0
    features, lens = with_silence(features, lens, geometry.min_frames, geometry.tail, beyond)
    with torch.autocast(device.type, torch.bfloat16, enabled=recogniser.use_bf16):
        encoded = recogniser.model.encode(features.to(device), lens.to(device))
    return encoded.frames.float(), encoded.lens


def greedy_recogniser(
    model: AsrModel,
    tokenizer: Tokenizer,
    encoder: EncoderConfig,
    heads: ModelConfig,
    use_transducer: bool,
) -> Recogniser:
    """Return a model with greedy search, such as one in training.

    Args:
        model: in evaluation mode.
        tokenizer: of its tokens.
        encoder: settings of its encoder.
        heads: settings of the rest of it.
        use_transducer: whether the transducer is read; else the CTC head.
    """
    method = "greedy_search" if use_transducer else "ctc_greedy_search"
    ctc = model.ctc_log_probs if heads.use_ctc else None
    search = search_for(DecodingConfig(decoding_method=method), model.decoder, model.joiner, ctc)
    return Recogniser(model, search, tokenizer, encoder, heads.context_size, (), is_inferred=False)


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
