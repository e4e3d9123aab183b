"""What is told when an epoch is over: word errors, a line with the course so far, and curves."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from lhotse import CutSet

from zipasr.scoring.word_errors import WordErrors
from zipasr.training.curves import draw_curves, sparkline
from zipasr.training.dev_errors import Recognise, dev_errors
from zipasr.training.scalars import METRICS_FILE, series
from zipasr.training.session import Session
from zipasr.training.watch import write_scalar

#: Writes values beside the facts of the run.
Note = Callable[[dict[str, Any]], None]


def report_start(
    session: Session, cuts: CutSet, recognise: Recognise | None, note: Note | None
) -> None:
    """Measure the model that a fine-tuning begins with, so that the gain shows; all must call it.

    A training from the beginning, or one that goes on, has nothing to measure.

    Args:
        session: before its first batch.
        cuts: the dev set.
        recognise: how to transcribe; None measures nothing.
        note: where to write the result beside the records; None for nowhere else.
    """
    configs, begins = session.configs, session.state.batch_idx_train == 0
    if recognise is None or not (configs.finetune.do_finetune and begins):
        return
    if not configs.train.valid_wer_cuts:
        return
    errors = dev_errors(session, cuts, recognise)
    session.state.start_wer = errors.rate
    if session.writer is not None:
        session.writer.epoch = 0
    write_scalar(session, "valid_wer", errors.rate)
    if session.world.is_main:
        logging.info("before fine-tuning, %s", shown_errors(errors))
        if note is not None:
            note({"start": {"wer": errors.rate, "words": errors.ref_words}})


def shown_errors(errors: WordErrors) -> str:
    """Return errors as a clause of a line in the log."""
    return (
        f"greedy search on dev: WER {errors.rate:.2f} % of {errors.ref_words} words "
        f"({errors.ins} ins, {errors.dels} del, {errors.subs} sub)"
    )


def report_epoch(session: Session, cuts: CutSet, recognise: Recognise | None) -> None:
    """Measure the word error rate on the dev set and tell how the run goes; all must call it.

    Args:
        session: at the end of an epoch, after the validation.
        cuts: the dev set.
        recognise: how to transcribe; None tells of losses alone.
    """
    train = session.configs.train
    if recognise is not None and train.valid_wer_cuts:
        _note_errors(session, dev_errors(session, cuts, recognise))
    if session.world.is_main:
        logging.info("%s", course(session))
        if train.curves:
            draw_curves(train.exp_dir)


def course(session: Session) -> str:
    """Return a line with the losses and rates at the ends of the epochs, as bars and the last."""
    path = session.configs.train.exp_dir / METRICS_FILE
    parts = []
    for name, unit in (("loss", ""), ("wer", " %")):
        values = series(path, name, "valid")[1]
        if values:
            best = " (best)" if values[-1] < min(values[:-1], default=-1.0) else ""
            parts.append(f"dev {name} {sparkline(values)} {values[-1]:.3g}{unit}{best}")
    return f"epoch {session.state.cur_epoch} is over: {', '.join(parts)}"


def _note_errors(session: Session, errors: WordErrors) -> None:
    state = session.state
    if errors.rate < state.best_wer:
        state.best_wer, state.best_wer_epoch = errors.rate, state.cur_epoch
    write_scalar(session, "valid_wer", errors.rate)
    if session.world.is_main:
        start = "" if state.start_wer is None else f", {state.start_wer:.2f} % before fine-tuning"
        logging.info("epoch %d, %s%s", state.cur_epoch, shown_errors(errors), start)
