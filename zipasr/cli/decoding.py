"""Decode sets of a recipe with one search: result files, log, rows of a table."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lhotse import CutSet

from zipasr.base.errors import DataError, UserError, nearest
from zipasr.base.log import setup_logging
from zipasr.cli.aids import check_aids
from zipasr.cli.best_average import with_checkpoints
from zipasr.cli.commands import ExpConfig, SweepConfig, TestSetsConfig
from zipasr.cli.flags import Run
from zipasr.cli.method_sweep import with_best_method
from zipasr.cli.recogniser import Recognised, Recogniser, load_recogniser, recognise_settings
from zipasr.cli.result_names import ResultFiles, file_suffix, key_of, label_of
from zipasr.cli.run_report import records_of, write_report, write_text
from zipasr.data.loaders import DataConfig, load_cuts, test_loader
from zipasr.scoring.decodings import Decoding, Setting, write_decoding
from zipasr.scoring.result_files import (
    AS_WRITTEN,
    NORMALISED,
    ResultRow,
    Transcript,
    errs_text,
    normalised,
    recogs_text,
    results_table,
    wer_log_line,
    wer_log_text,
    wer_summary,
)
from zipasr.scoring.word_errors import WordErrors, count_errors
from zipasr.search.config import DecodingConfig


def decode(run: Run) -> int:
    """Decode every test set and write the result files; print a table.

    Raises:
        UserError: flags do not fit together.
        DataError: data are missing, or utterances could not be read; the results of the others
            are written.
        CheckpointError: checkpoints are missing, or flags contradict them.
    """
    setup_logging()
    if run[SweepConfig].methods is None:
        check_aids(run)
    test_sets = load_test_sets(run)
    run = with_checkpoints(run, sys.stdout)
    setting = None
    if run[SweepConfig].methods is not None:
        run, setting, report = with_best_method(run)
        sys.stdout.write(report)
    rows = decode_sets(run, test_sets, setting)
    if not run[DecodingConfig].skip_scoring:
        sys.stdout.write(results_table(rows))
        tell_report(run[ExpConfig].exp_dir)
    check_complete(rows)
    return 0


def decode_sets(
    run: Run, test_sets: Mapping[str, CutSet], chosen: str | None = None
) -> list[ResultRow]:
    """Decode sets and write their files.

    Args:
        run: flags.
        test_sets: cuts by the name of the set.
        chosen: setting of a rescoring, the one to use; all of them if omitted.
    """
    recogniser = load_recogniser(run)
    if chosen is not None:
        recogniser = recogniser.with_setting(chosen)
    folder = run[ExpConfig].exp_dir / run[DecodingConfig].decoding_method
    suffix = file_suffix(run, recogniser)
    files = ResultFiles(folder, suffix, key_of(run))
    setup_logging(folder / f"log-decode-{suffix}")
    introduce(recogniser)
    rows = []
    for name, cuts in test_sets.items():
        loader = test_loader(cuts, run[DataConfig])
        found = recognise_settings(recogniser, loader, name, loader.num_batches)
        row, transcripts = write_results(files, name, found, run)
        if not run[DecodingConfig].skip_scoring:
            setting = setting_of(run, recogniser, row, suffix)
            write_decoding(folder, Decoding(setting, records_of(transcripts, cuts)))
        rows.append(row._replace(lost=lost_of(cuts, transcripts)))
    return rows


def lost_of(cuts: CutSet, transcripts: Iterable[Transcript]) -> tuple[str, ...]:
    """Return the names of the cuts that no transcript is of."""
    decoded = {transcript.cut_id for transcript in transcripts}
    return tuple(cut.id for cut in cuts if cut.id not in decoded)


def check_complete(rows: Iterable[ResultRow]) -> None:
    """Do not let rates of a part pass for rates of the whole.

    Raises:
        DataError: utterances could not be read.
    """
    lost = [
        f"{len(row.lost)} of {row.test_set} ({', '.join(row.lost[:5])})" for row in rows if row.lost
    ]
    if lost:
        raise DataError(
            f"the results lack utterances that could not be read: {', '.join(lost)}.",
            "the reasons stand above; mend the data, or remove these cuts.",
        )


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
        key=label_of(run),
        suffix=suffix,
        model=recogniser.about[0],
        rtf=row.rtf,
        scoring=scoring_of(run),
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
    files: ResultFiles, name: str, found: Recognised, run: Run
) -> tuple[ResultRow, Sequence[Transcript]]:
    """Write recogs, errs and wer-summary of one test set, and log its speed and its rate.

    Of several settings the files show the best, and have its name in theirs; the summary has all.

    Returns:
        The row of the table, and the transcripts that were scored.
    """
    logging.info("%s: %s", name, found.speed())
    compared = {setting: _compared(run, those) for setting, those in found.by_setting.items()}
    scored = {setting: _errors(those) for setting, those in compared.items()}
    best = min(scored, key=lambda setting: scored[setting].total)
    transcripts, key = compared[best], files.key
    row = ResultRow(name, run[DecodingConfig].decoding_method + best, scored[best], found.rtf)
    write_text(files.path("recogs", name, best), recogs_text(found.by_setting[best]))
    if run[DecodingConfig].skip_scoring:
        return row, transcripts
    rates = {f"{key}{setting}": round(errors.rate, 2) for setting, errors in scored.items()}
    write_text(files.path("errs", name, best), errs_text(transcripts))
    write_text(files.path("wer-summary", name), wer_summary(rates))
    logging.info("%s: %s", name, scoring_of(run))
    logging.info("%s", wer_log_line(name, f"{key}{best}", row.errors))
    logging.info("%s", wer_log_text(name, rates))
    return row, transcripts


def _compared(run: Run, transcripts: Sequence[Transcript]) -> Sequence[Transcript]:
    """Return the words that are counted."""
    if run[TestSetsConfig].score_normalised:
        return [normalised(transcript) for transcript in transcripts]
    return transcripts


def scoring_of(run: Run) -> str:
    """Say how words are compared."""
    return NORMALISED if run[TestSetsConfig].score_normalised else AS_WRITTEN


def _errors(transcripts: Sequence[Transcript]) -> WordErrors:
    return count_errors((t.ref, t.hyp) for t in transcripts)
