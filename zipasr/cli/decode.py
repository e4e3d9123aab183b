"""Transcribe the test sets of a recipe and report word error rates."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lhotse import CutSet

from zipasr.base.errors import UserError, nearest
from zipasr.base.files import atomic_path
from zipasr.base.log import setup_logging
from zipasr.checkpoint.average import ChooseCheckpoint
from zipasr.cli.aids import check_aids
from zipasr.cli.best_average import with_best_average
from zipasr.cli.commands import DECODE, ExpConfig, TestSetsConfig, read
from zipasr.cli.flags import Run, guarded
from zipasr.cli.recogniser import Recogniser, load_recogniser, recognise
from zipasr.cli.result_names import file_suffix, key_of
from zipasr.cli.run_report import records_of, write_report
from zipasr.data.loaders import DataConfig, load_cuts, test_loader
from zipasr.scoring.align import WordErrors, count_errors
from zipasr.scoring.decodings import Decoding, Setting, write_decoding
from zipasr.scoring.reports import (
    ResultRow,
    Transcript,
    errs_text,
    recogs_text,
    results_table,
    wer_log_line,
    wer_log_text,
    wer_summary,
)
from zipasr.search.types import DecodingConfig


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Decode every test set and write the result files; print a table."""
    run = read(DECODE, argv)
    check_aids(run)
    test_sets = load_test_sets(run)
    if run[ChooseCheckpoint].auto_avg:
        run, report = with_best_average(run)
        sys.stdout.write(report)
    recogniser = load_recogniser(run)
    folder = run[ExpConfig].exp_dir / run[DecodingConfig].decoding_method
    suffix = file_suffix(run, recogniser)
    setup_logging(folder / f"log-decode-{suffix}")
    introduce(recogniser)
    rows = []
    for name, cuts in test_sets.items():
        loader = test_loader(cuts, run[DataConfig])
        transcripts, rtf = recognise(recogniser, loader, name, loader.num_batches)
        row = ResultRow(name, run[DecodingConfig].decoding_method, _errors(transcripts), rtf)
        write_results(folder, suffix, row, transcripts, run)
        if not run[DecodingConfig].skip_scoring:
            setting = setting_of(run, recogniser, row, suffix)
            write_decoding(folder, Decoding(setting, records_of(transcripts, cuts)))
        rows.append(row)
    if not run[DecodingConfig].skip_scoring:
        sys.stdout.write(results_table(rows))
        tell_report(run[ExpConfig].exp_dir)
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


def introduce(recogniser: Recogniser) -> None:
    """Log which model decodes; print it too when nothing but its weights said so."""
    for line in recogniser.about:
        logging.info("%s", line)
        if recogniser.is_inferred:
            sys.stdout.write(f"{line}\n")


def setting_of(run: Run, recogniser: Recogniser, row: ResultRow, suffix: str) -> Setting:
    """Say for the report how a test set was decoded."""
    return Setting(
        test_set=row.test_set,
        key=key_of(run),
        suffix=suffix,
        model=recogniser.about[0],
        rtf=row.rtf,
        decoded_at=time.strftime("%Y-%m-%d %H:%M:%S"),
    )


def tell_report(exp_dir: Path) -> None:
    """Write the report of a run and say where it is; a fault of older results ends nothing."""
    try:
        page, _ = write_report(exp_dir)
    except UserError as problem:
        logging.warning("no report: %s", problem)
        return
    logging.info("report: %s", page)


def write_results(
    folder: Path,
    suffix: str,
    row: ResultRow,
    transcripts: Sequence[Transcript],
    run: Run,
) -> None:
    """Write recogs, errs and wer-summary of one test set, and log its rate."""
    name = row.test_set
    _write(folder / f"recogs-{name}-{suffix}.txt", recogs_text(transcripts))
    if run[DecodingConfig].skip_scoring:
        return
    key = key_of(run)
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
