"""Decoding of the test sets of a recipe: result files, log, table of error rates."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lhotse import CutSet

from zipasr.base.errors import DataError, UserError, nearest
from zipasr.base.files import sweep, write_text
from zipasr.base.log import setup_logging
from zipasr.data.loaders import load_cuts, test_loader
from zipasr.recognition.acoustic_model import AcousticModel
from zipasr.recognition.best_average import dev_cuts, with_checkpoints
from zipasr.recognition.calibration_file import store_calibration
from zipasr.recognition.config import RecognitionConfig
from zipasr.recognition.method_sweep import check_can_be_chosen, with_best_method
from zipasr.recognition.recogniser import Recognised, Recogniser, load_recogniser, recognise
from zipasr.recognition.resources import check_resources
from zipasr.recognition.result_names import ResultFiles, file_suffix, key_of, label_of
from zipasr.scoring.breakdown import hot_word_errors
from zipasr.scoring.calibration import fitted, reliability, word_outcomes
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
    spelling_line,
    wer_log_line,
    wer_log_text,
    wer_summary,
    word_rate,
)
from zipasr.scoring.run_report import records_of, write_report
from zipasr.scoring.word_errors import WordErrors, count_errors
from zipasr.text.normalise import normalise
from zipasr.text.phrases import words_of_lines
from zipasr.text.scripts import units_of
from zipasr.text.text_io import read_lines

logger = logging.getLogger(__name__)


def decode(config: RecognitionConfig) -> list[ResultRow]:
    """Decode every test set and write the result files; print a table, and return its rows.

    Raises:
        UserError: settings do not fit together.
        DataError: data are missing, or utterances could not be read; the results of the others
            are written.
        CheckpointError: checkpoints are missing, or settings contradict them.
    """
    setup_logging()
    if config.sweep.methods is None:
        check_resources(config)
    test_sets = load_test_sets(config)
    sweep(config.exp_dir, levels=3)
    config = with_checkpoints(config, sys.stdout)
    setting = None
    if config.sweep.methods is not None:
        config, setting, report = with_best_method(config)
        sys.stdout.write(report)
    rows = decode_sets(config, test_sets, setting)
    if not config.decoding.skip_scoring:
        sys.stdout.write(results_table(rows))
        tell_report(config.exp_dir)
    check_complete(rows)
    return rows


def decode_sets(
    config: RecognitionConfig, test_sets: Mapping[str, CutSet], chosen: str | None = None
) -> list[ResultRow]:
    """Decode sets and write their files.

    Args:
        config: settings.
        test_sets: cuts by the name of the set.
        chosen: setting of a rescoring, the one to use; all of them if omitted.
    """
    recogniser = load_recogniser(config)
    if chosen is not None:
        recogniser = recogniser.with_setting(chosen)
    if config.confidence.calibrate:
        recogniser = calibrated(recogniser, config)
    folder = config.exp_dir / config.decoding.decoding_method
    suffix = file_suffix(config, recogniser.acoustics)
    files = ResultFiles(folder, suffix, key_of(config))
    setup_logging(folder / f"log-decode-{suffix}")
    introduce(recogniser)
    rows = []
    for name, cuts in test_sets.items():
        loader = test_loader(cuts, config.sets.loading, recogniser.acoustics.device)
        scores = not config.decoding.skip_scoring
        found = recognise(recogniser, loader, name, loader.num_batches, with_confidence=scores)
        row, transcripts = write_results(files, name, found, config)
        if not config.decoding.skip_scoring:
            setting = setting_of(config, recogniser, row, suffix)
            decoding = Decoding(setting, records_of(transcripts, cuts))
            write_decoding(folder, decoding)
            tell_hot_words(decoding)
        rows.append(row._replace(lost=lost_of(cuts, transcripts)))
    return rows


def calibrated(
    recogniser: Recogniser[AcousticModel], config: RecognitionConfig
) -> Recogniser[AcousticModel]:
    """Fit the confidence of words on the dev set; keep the fit in the run folder, and tell of it.

    Raises:
        UserError: the weights are no checkpoints of the run, the method sees the transcripts, the
            recipe uses a split for both development and test, or nothing was recognised.
        DataError: the dev set or the file of calibrations is missing or damaged.
    """
    if config.checkpoint.checkpoint is not None:
        raise UserError("--calibrate is of a run, --checkpoint names a file.", "give --exp-dir.")
    check_can_be_chosen(config.decoding.decoding_method)
    plain = replace(recogniser, calibration=None)
    loader = test_loader(dev_cuts(config), config.sets.loading, plain.acoustics.device)
    found = recognise(plain, loader, "dev", loader.num_batches, with_confidence=True)
    # Of a rescoring without a chosen weight, the words of the first one.
    confidences, outcomes = word_outcomes(next(iter(found.by_setting.values())))
    if not confidences:
        raise UserError("--calibrate: no word of the dev set was recognised.", "train longer.")
    calibration = fitted(confidences, outcomes, "dev")
    path = store_calibration(config, plain.acoustics, calibration)
    before = reliability(confidences, outcomes).error
    after = reliability([calibration.of(one) for one in confidences], outcomes).error
    sys.stdout.write(
        f"{calibration.about}; expected calibration error {before:.2f} % before, {after:.2f} % "
        f"after; see {path}\n"
    )
    return recogniser.calibrated_by(calibration)


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


def load_test_sets(config: RecognitionConfig) -> dict[str, CutSet]:
    """Return the cuts of each test set; what is missing is found before anything is decoded.

    Raises:
        UserError: the recipe has no such split.
        DataError: a manifest is missing, empty or damaged.
    """
    data = config.sets
    known = dict.fromkeys(name for names in data.splits.values() for name in names)
    cuts = {}
    for name in data.test_sets or data.splits["test"]:
        if name not in known:
            hint = nearest(name, known) or f"the recipe has {', '.join(known)}."
            raise UserError(f"--test-sets {name}: {config.recipe} has no such split.", hint)
        cuts[name] = load_cuts(
            data.loading.manifest_dir,
            data.corpus,
            [name],
            allow_commands=data.loading.allow_commands,
        )
    return cuts


def introduce(recogniser: Recogniser[AcousticModel]) -> None:
    """Log which model decodes; print it too when nothing but its weights said so."""
    for line in recogniser.about:
        logger.info("%s", line)
        if recogniser.acoustics.is_inferred:
            sys.stdout.write(f"{line}\n")


def setting_of(
    config: RecognitionConfig, recogniser: Recogniser[AcousticModel], row: ResultRow, suffix: str
) -> Setting:
    """Say for the report how a test set was decoded."""
    return Setting(
        test_set=row.test_set,
        key=label_of(config),
        suffix=suffix,
        model=recogniser.about[0],
        rtf=row.rtf,
        scoring=scoring_of(config),
        decoded_at=time.strftime("%Y-%m-%d %H:%M:%S"),
        calibration=recogniser.calibration.about if recogniser.calibration else "",
        hot_words=tuple(hot_words_of(config)),
    )


def hot_words_of(config: RecognitionConfig) -> list[str]:
    """Return the words of the hot-words, in the spelling that is scored; empty without any."""
    path, lines = config.hot_words.path, [*config.phrases]
    if path is not None:
        lines += read_lines(path, f"--context-file {path}")
    words = words_of_lines(lines, "hot-words")
    if not config.sets.score_normalised:
        return words
    return [*dict.fromkeys(unit for word in words for unit in units_of(normalise(word)))]


def tell_hot_words(decoding: Decoding) -> None:
    """Log the errors in the words of the hot-words and in all others, if there are hot-words."""
    name = decoding.setting.test_set
    for row in hot_word_errors([(name, decoding)]):
        logger.info(
            "[%s] B-WER %.2f%% (%d words of the hot-words), U-WER %.2f%% (%d others)",
            name,
            row.listed.rate,
            row.listed.ref_words,
            row.others.rate,
            row.others.ref_words,
        )


def tell_report(exp_dir: Path) -> None:
    """Write the report of a run and say where it is; a fault of older results ends nothing."""
    try:
        page, _ = write_report(exp_dir)
    except UserError as problem:
        logger.warning("no report: %s", problem)
        return
    logger.info("report: %s", page)


def write_results(
    files: ResultFiles, name: str, found: Recognised, config: RecognitionConfig
) -> tuple[ResultRow, Sequence[Transcript]]:
    """Write recogs, errs and wer-summary of one test set, and log its speed and its rate.

    Of several settings the files show the best, and have its name in theirs; the summary has all.

    Returns:
        The row of the table, and the transcripts that were scored.
    """
    logger.info("%s: %s", name, found.speed())
    compared = {setting: _compared(config, those) for setting, those in found.by_setting.items()}
    scored = {setting: _errors(those) for setting, those in compared.items()}
    best = min(scored, key=lambda setting: scored[setting].total)
    transcripts, key = compared[best], files.key
    wer = word_rate(transcripts, scored[best])
    row = ResultRow(name, config.decoding.decoding_method + best, scored[best], found.rtf, wer=wer)
    write_text(files.path("recogs", name, best), recogs_text(found.by_setting[best]), "replace")
    if config.decoding.skip_scoring:
        return row, transcripts
    rates = {f"{key}{setting}": round(errors.rate, 2) for setting, errors in scored.items()}
    write_text(files.path("errs", name, best), errs_text(transcripts), "replace")
    write_text(files.path("wer-summary", name), wer_summary(rates, row.errors.metric), "replace")
    logger.info("%s: %s", name, scoring_of(config))
    logger.info("%s", wer_log_line(name, f"{key}{best}", row.errors))
    logger.info("%s", wer_log_text(name, rates, row.errors.metric))
    if not config.sets.score_normalised and (told := spelling_line(name, transcripts, row.errors)):
        logger.warning("%s", told)
    return row, transcripts


def _compared(config: RecognitionConfig, transcripts: Sequence[Transcript]) -> Sequence[Transcript]:
    """Return the words that are counted."""
    if config.sets.score_normalised:
        return [normalised(transcript) for transcript in transcripts]
    return transcripts


def scoring_of(config: RecognitionConfig) -> str:
    """Say how words are compared."""
    return NORMALISED if config.sets.score_normalised else AS_WRITTEN


def _errors(transcripts: Sequence[Transcript]) -> WordErrors:
    return count_errors((t.ref, t.hyp) for t in transcripts)
