"""What is told when an epoch is over: word errors, a line with the course so far, and curves."""

from __future__ import annotations

import logging

from lhotse import CutSet

from zipasr.scoring.align import WordErrors
from zipasr.training.curves import draw_curves, sparkline
from zipasr.training.dev_errors import Recognise, dev_errors
from zipasr.training.scalars import METRICS_FILE, series
from zipasr.training.session import Session
from zipasr.training.watch import write_scalar


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
        logging.info(
            "epoch %d, greedy search on dev: WER %.2f %% of %d words (%d ins, %d del, %d sub)",
            state.cur_epoch,
            errors.rate,
            errors.ref_words,
            errors.ins,
            errors.dels,
            errors.subs,
        )
