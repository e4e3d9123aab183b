"""Data of a run: its corpora, what is checked before training, the profile of its sound."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lhotse import CutSet
from lhotse.cut import Cut

from zipasr.audio.sound_profile import Measures, SoundProfile, measure, profile_of
from zipasr.base.errors import DataError, is_machine_fault
from zipasr.data.corpus_mixing import combine_sources
from zipasr.data.cuts import TrainCuts
from zipasr.data.filters import TOO_LONG, TOO_SHORT, DropReport, TrainFilter, text_of
from zipasr.data.index import load_extra_cuts, load_train_cuts
from zipasr.data.loaders import load_cuts
from zipasr.text.tokenizer import Tokenizer
from zipasr.text.writability import best_normalisation, check_writable
from zipasr.training.config import FinetuneConfig
from zipasr.training.session import TrainConfigs

logger = logging.getLogger(__name__)

# Transcripts of a large corpus that are tried: enough to see whose characters they are.
_MOST_TRIED = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """Location of the data of a run; each process reads them itself."""

    corpus: str
    train: tuple[str, ...]
    valid: tuple[str, ...]
    bpe_model: Path
    tokenizer_model: bytes | None = None

    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer of a model that is fine-tuned, or else --bpe-model.

        Raises:
            DataError: there is none.
        """
        if self.tokenizer_model is not None:
            return Tokenizer.from_bytes(self.tokenizer_model)
        return Tokenizer.from_file(self.bpe_model)


@dataclass(frozen=True, slots=True)
class TrainData:
    """Cuts of the two sets; those of training are filtered."""

    train: TrainCuts
    valid: CutSet


def load_sets(
    source: DataSource,
    configs: TrainConfigs,
    tokenizer: Tokenizer,
    *,
    verbose: bool,
    writes: bool = True,
) -> TrainData:
    """Load both sets and drop from training what cannot be trained on.

    Args:
        source: corpus and splits.
        configs: of the run.
        tokenizer: for the length of the labels.
        verbose: log the filter report; set on rank 0 only.
        writes: False leaves no file behind.

    Raises:
        DataError: manifests are missing or empty, or nothing is left of the training set.
    """
    folder = configs.data.manifest_dir
    wanted = TrainFilter(
        encode=tokenizer.encode,
        output_lens=configs.encoder.geometry.output_lens,
        use_ctc=configs.model.use_ctc,
        min_duration=configs.data.min_cut_duration,
        max_duration=configs.data.max_cut_duration,
    )
    vocabulary = hashlib.blake2b(tokenizer.model_bytes, digest_size=8).hexdigest()
    train, report = load_train_cuts(
        folder,
        source.corpus,
        source.train,
        wanted,
        tokenizer=vocabulary,
        verbose=verbose,
        writes=writes,
        allow_commands=configs.data.allow_commands,
    )
    if verbose:
        _log_dropped("training set", report)
    if report.kept == 0:
        raise DataError(
            f"no utterance of {', '.join(source.train)} can be trained on:"
            f" {'; '.join(report.dropped)}.",
            _what_to_do(report),
        )
    extras = []
    for extra in configs.data.extras:
        more, of_extra = load_extra_cuts(
            extra, wanted, tokenizer=vocabulary, verbose=verbose, writes=writes
        )
        if verbose:
            _log_dropped(f"{extra.name}, {extra.weight:g} of the batches", of_extra)
        extras.append((extra, more))
    combined = combine_sources(train, extras, source.corpus)
    if verbose:
        _log_too_long(combined, configs.data.max_duration)
    return TrainData(
        combined,
        load_cuts(folder, source.corpus, source.valid, allow_commands=configs.data.allow_commands),
    )


def _log_dropped(name: str, report: DropReport) -> None:
    logger.info("%s: %s", name, report.text())
    if said := report.warning():
        logger.warning("%s: %s", name, said)


def _log_too_long(train: TrainCuts, max_duration: float) -> None:
    """Tell of utterances that are longer than a batch may be: each is a batch of its own."""
    seconds = train.lengths.seconds
    num = int((seconds > max_duration).sum())
    if num:
        logger.warning(
            "%d of %d utterances are longer than --max-duration %g s: each is a batch of its own, "
            "of up to %.1f s",
            num,
            len(seconds),
            max_duration,
            float(seconds.max()),
        )


def _what_to_do(report: DropReport) -> str:
    """Say what lets utterances be trained on of which every one was dropped."""
    reason = report.dropped.most_common(1)[0][0]
    change = {TOO_LONG: "raise --max-cut-duration", TOO_SHORT: "lower --min-cut-duration"}
    if reason not in change:
        return "./prepare.sh --stage 4 --force shows why."
    return f"{change[reason]}: {report.examples[reason][0]} is one of {report.dropped[reason]}."


def check_transcripts(
    cuts: TrainCuts, tokenizer: Tokenizer, finetune: FinetuneConfig, *, verbose: bool
) -> None:
    """Refuse to train on text that the tokens cannot write; tell what they change.

    Of large sets many transcripts are tried, evenly spread, not all.

    Args:
        cuts: of the training set.
        tokenizer: of the model.
        finetune: says where the tokens come from.
        verbose: log what is changed; set on rank 0 only.

    Raises:
        DataError: more than a rare character cannot be written; says which, and the ways on.
    """
    step = max(1, -(-len(cuts) // _MOST_TRIED))
    texts = [text_of(cuts.source[int(number)]) for number in np.arange(0, len(cuts), step)]
    found = check_writable(texts, tokenizer)
    if not found.is_usable:
        kept = finetune.do_finetune and finetune.finetune_tokenizer != "new"
        tokens = f"the tokens of {finetune.finetune_ckpt}" if kept else "the tokens of --bpe-model"
        way = (
            "train on tokens of these transcripts (./prepare.sh --stage 3 makes them) with "
            "--finetune-tokenizer new"
            if kept
            else "make tokens of these transcripts: ./prepare.sh --stage 3 --force"
        )
        proposal = best_normalisation(texts, tokenizer)
        other = "or spell the transcripts as the tokens do"
        if proposal is not None:
            other += (
                f": imported with --normalise {proposal.name}, "
                f"{100 * proposal.share:.3g} % are left"
            )
        raise DataError(
            f"{tokens} cannot write {found.unwritable_text()}: the model would learn <unk> in "
            "their place.",
            f"{way}; {other}.",
        )
    for line in found.lines() if verbose else ():
        logger.warning("training transcripts: %s", line)


# Utterances that are measured, evenly spread; each takes some milliseconds.
_MOST_MEASURED = 100


def training_sound(cut_of: Callable[[int], Cut], num: int) -> SoundProfile | None:
    """Return the profile of a training set; ``None`` where its sound cannot be read any more.

    Utterances count as they are: a model that was trained with some of them joined still hears
    best what is as long as one.

    Args:
        cut_of: returns a cut by its number.
        num: of cuts.
    """
    step = max(1, -(-num // _MOST_MEASURED))
    found = [_measured(cut_of(number)) for number in range(0, num, step)]
    known = [one for one in found if one is not None]
    return profile_of(known) if known else None


def _measured(cut: Cut) -> Measures | None:
    try:
        return measure(np.asarray(cut.load_audio()[0], np.float32))
    except Exception as error:
        if is_machine_fault(error):
            raise
        logger.debug("cut %s has no sound: %s", cut.id, error)
        return None
