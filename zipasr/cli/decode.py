"""Transcribe the test sets of a recipe and report word error rates."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
from lhotse import CutSet
from torch.nn import functional as F

from zipasr.base.config import flag_name, from_dict, shown
from zipasr.base.distributed import device_for
from zipasr.base.errors import CheckpointError, UserError, nearest
from zipasr.base.files import atomic_path
from zipasr.base.log import setup_logging
from zipasr.base.progress import Progress
from zipasr.checkpoint.average import ChooseCheckpoint, averaged_model, last_file
from zipasr.checkpoint.files import load_checkpoint
from zipasr.cli.commands import DECODE, ExpConfig, TestSetsConfig, read
from zipasr.cli.flags import Run, guarded
from zipasr.data.batch import Batch
from zipasr.data.loaders import DataConfig, load_cuts, test_loader
from zipasr.encoder.lengths import MIN_FRAMES
from zipasr.encoder.zipformer import ZipformerConfig
from zipasr.model.build import ModelConfig, build_model
from zipasr.model.transducer import AsrModel
from zipasr.scoring.align import WordErrors, count_errors
from zipasr.scoring.reports import (
    ResultRow,
    Transcript,
    errs_text,
    recogs_text,
    result_suffix,
    results_table,
    search_suffix,
    setting_key,
    wer_log_line,
    wer_log_text,
    wer_summary,
)
from zipasr.search.methods import check_method, search_for
from zipasr.search.types import DecodingConfig, Search
from zipasr.text.tokenizer import Tokenizer, TokenizerConfig
from zipasr.training.session import load_model

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound="DataclassInstance")
LOG_ZERO = -23.025851  # log(1e-10), the features of silence that pads a batch


class Recogniser(NamedTuple):
    """What turns a batch into words."""

    model: AsrModel
    search: Search
    tokenizer: Tokenizer
    context_size: int


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Decode every test set and write the result files; print a table."""
    run = read(DECODE, argv)
    check_method(run[DecodingConfig].decoding_method)
    test_sets = load_test_sets(run)
    recogniser = load_recogniser(run)
    folder = run[ExpConfig].exp_dir / run[DecodingConfig].decoding_method
    suffix = file_suffix(run, recogniser.context_size)
    setup_logging(folder / f"log-decode-{suffix}")
    rows = []
    for name, cuts in test_sets.items():
        loader = test_loader(cuts, run[DataConfig])
        transcripts, rtf = recognise(recogniser, loader, name, loader.num_batches)
        row = ResultRow(name, run[DecodingConfig].decoding_method, _errors(transcripts), rtf)
        write_results(folder, suffix, row, transcripts, run[DecodingConfig])
        rows.append(row)
    if not run[DecodingConfig].skip_scoring:
        sys.stdout.write(results_table(rows))
    return 0


def load_test_sets(run: Run) -> dict[str, CutSet]:
    """Return the cuts of each test set; what is missing is found before anything is decoded.

    Raises:
        UserError: the recipe has no such split.
        DataError: a manifest is missing, empty or damaged.
    """
    known = dict.fromkeys(name for names in run.recipe.splits.values() for name in names)
    cuts = {}
    for name in run[TestSetsConfig].test_sets or run.recipe.splits["test"]:
        if name not in known:
            hint = nearest(name, known) or f"the recipe has {', '.join(known)}."
            raise UserError(f"--test-sets {name}: {run.recipe.name} has no such split.", hint)
        cuts[name] = load_cuts(run[DataConfig].manifest_dir, run.recipe.corpus, [name])
    return cuts


def load_recogniser(run: Run) -> Recogniser:
    """Build the model that the chosen checkpoints hold, with their own settings and tokenizer.

    Raises:
        CheckpointError: no such checkpoints, damaged ones, or flags that contradict them.
    """
    exp_dir, choose = run[ExpConfig].exp_dir, run[ChooseCheckpoint]
    path = last_file(exp_dir, choose)
    checkpoint = load_checkpoint(path)
    zipformer = stored_config(ZipformerConfig, checkpoint, run, path)
    model_config = stored_config(ModelConfig, checkpoint, run, path)
    tokenizer = stored_tokenizer(checkpoint, run)
    model = build_model(zipformer, model_config, tokenizer.vocab_size)
    load_model(model, averaged_model(exp_dir, choose), path)
    model.to(device_for(0)).eval()
    search = search_for(
        run[DecodingConfig],
        model.decoder,
        model.joiner,
        model.ctc_log_probs if model_config.use_ctc else None,
    )
    return Recogniser(model, search, tokenizer, model_config.context_size)


def stored_config(cls: type[C], checkpoint: dict[str, Any], run: Run, path: Path) -> C:
    """Return the settings that the checkpoint was trained with.

    A checkpoint without settings (icefall's) takes the typed flags and the defaults.

    Raises:
        CheckpointError: a typed flag differs from the stored value; names both.
    """
    names = cls.__dataclass_fields__
    typed = {name: value for name, value in run.typed.items() if name in names}
    try:
        if cls.__name__ not in checkpoint.get("configs", {}):
            return cls(**typed)
        stored = from_dict(cls, checkpoint["configs"][cls.__name__])
    except ValueError as refusal:
        raise UserError(str(refusal)) from refusal
    except TypeError as problem:
        raise CheckpointError(
            f"{path} was written by another version: its {cls.__name__} does not fit ({problem})."
        ) from problem
    for name, value in typed.items():
        if getattr(stored, name) != value:
            raise CheckpointError(
                f"{flag_name(name)} {shown(value)} was asked for, but {path} was trained with "
                f"{shown(getattr(stored, name))}.",
                f"leave {flag_name(name)} out: the checkpoint knows its model.",
            )
    return stored


def stored_tokenizer(checkpoint: dict[str, Any], run: Run) -> Tokenizer:
    """Return the tokenizer inside the checkpoint, or --bpe-model for one without."""
    if "tokenizer" not in checkpoint:
        return Tokenizer.from_file(run[TokenizerConfig].bpe_model)
    return Tokenizer.from_bytes(bytes(checkpoint["tokenizer"].tolist()))


def recognise(
    recogniser: Recogniser, batches: Iterable[Batch], name: str, total: int | None
) -> tuple[list[Transcript], float]:
    """Transcribe all batches.

    Returns:
        Reference and hypothesis of each utterance, in decoding order, and the real-time factor:
        seconds of computing (model and search, not loading) per second of speech.
    """
    transcripts: list[Transcript] = []
    spent = speech = 0.0
    with Progress(f"decoding {name}", total) as progress, torch.inference_mode():
        for batch in batches:
            begun = time.monotonic()
            hypotheses = transcribe(recogniser, batch)
            spent += time.monotonic() - begun
            speech += batch.seconds
            transcripts += [
                Transcript(cut_id, reference.split(), hypothesis.split())
                for cut_id, reference, hypothesis in zip(
                    batch.cut_ids, batch.texts, hypotheses, strict=True
                )
            ]
            progress.step(f"{len(transcripts)} utterances")
    return transcripts, spent / max(speech, 1e-9)


def transcribe(recogniser: Recogniser, batch: Batch) -> list[str]:
    """Return the text of each utterance; one too short for the encoder is padded with silence."""
    device = next(recogniser.model.parameters()).device
    missing = max(0, MIN_FRAMES - batch.features.size(1))
    features = F.pad(batch.features, (0, 0, 0, missing), value=LOG_ZERO)
    lens = batch.feature_lens.clamp(min=MIN_FRAMES)
    encoded = recogniser.model.encode(features.to(device), lens.to(device))
    utterances = recogniser.search(encoded.frames, encoded.lens)
    return recogniser.tokenizer.decode([utterance.tokens for utterance in utterances])


def file_suffix(run: Run, context_size: int) -> str:
    """Return the part of the result files' names that says how they were made."""
    decoding, choose = run[DecodingConfig], run[ChooseCheckpoint]
    search = search_suffix(
        decoding.decoding_method,
        beam_size=decoding.beam_size,
        context_size=context_size,
        max_sym_per_frame=decoding.max_sym_per_frame,
        blank_penalty=decoding.blank_penalty,
        temperature=decoding.temperature,
    )
    return result_suffix(
        search,
        epoch=choose.epoch,
        iteration=choose.iter,
        avg=choose.avg,
        use_averaged_model=choose.use_averaged_model,
    )


def write_results(
    folder: Path,
    suffix: str,
    row: ResultRow,
    transcripts: Sequence[Transcript],
    decoding: DecodingConfig,
) -> None:
    """Write recogs, errs and wer-summary of one test set, and log its rate."""
    name = row.test_set
    _write(folder / f"recogs-{name}-{suffix}.txt", recogs_text(transcripts))
    if decoding.skip_scoring:
        return
    key = setting_key(decoding.decoding_method, beam_size=decoding.beam_size)
    rates = {key: round(row.errors.rate, 2)}
    _write(folder / f"errs-{name}-{suffix}.txt", errs_text(transcripts))
    _write(folder / f"wer-summary-{name}-{suffix}.txt", wer_summary(rates))
    logging.info("%s", wer_log_line(name, key, row.errors))
    logging.info("%s", wer_log_text(name, rates))


def _errors(transcripts: Sequence[Transcript]) -> WordErrors:
    return count_errors((t.ref, t.hyp) for t in transcripts)


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
