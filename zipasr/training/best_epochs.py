"""Best epochs of a run: which measurements compare, and the files that name the best."""

from __future__ import annotations

import math
from typing import Literal

from zipasr.checkpoint.retention import hardlink
from zipasr.training.loop import updates_in_epoch
from zipasr.training.session import Session
from zipasr.training.update import loss_scales

Kind = Literal["train", "valid", "wer"]

#: Files that are second names of the checkpoint of the best epoch.
BEST_NAMES: dict[Kind, str] = {
    "train": "best-train-loss.pt",
    "valid": "best-valid-loss.pt",
    "wer": "best-dev-wer.pt",
}
#: Names that earlier versions gave them.
FORMER_NAMES: dict[Kind, str] = {"wer": "best-wer.pt"}


def note_best(session: Session, kind: Kind, value: float | None) -> None:
    """Remember the lowest value at the end of an epoch, and the epoch.

    Values that were measured in different ways do not compare: after such a change the next epoch
    is the best, whatever came before. An epoch that gets no file cannot be the best.

    Args:
        session: at the end of an epoch.
        kind: train or valid, a loss per frame; wer, an error rate in percent.
        value: of the epoch; one that is missing or not finite is passed over.
    """
    state = session.state
    if value is None or not math.isfinite(value):
        return
    if not session.configs.train.saves_epoch(state.cur_epoch):
        return
    name = "best_wer" if kind == "wer" else f"best_{kind}_loss"
    measure = measure_of(session, kind)
    # A run that was begun by an earlier version does not say how its best was measured.
    if state.best_measures.get(kind, measure) == measure and value >= getattr(state, name):
        return
    setattr(state, name, value)
    setattr(state, f"best_{kind}_epoch", state.cur_epoch)
    state.best_measures = state.best_measures | {kind: measure}


def measure_of(session: Session, kind: Kind) -> str:
    """Name how the epoch in progress is measured; values of equal names compare.

    A loss is a sum of losses with weights, which change while the run warms up and when the
    transducer joins. The loss on training data is of many updates: where the weights changed
    within the epoch, it compares with that of no other. Words are found by the transducer as soon
    as it is trained, by the CTC head before.
    """
    configs, now = session.configs, session.state.batch_idx_train
    if kind == "wer":
        by_transducer = configs.model.use_transducer and now > configs.loss.ctc_only_batches
        return "transducer" if by_transducer else "other head"
    style = configs.encoder.losses
    first = now - updates_in_epoch(session) + 1 if kind == "train" else now
    weights = [loss_scales(configs.loss, configs.model, at, style) for at in (first, now)]
    if weights[0] != weights[1]:
        return f"weights that changed in epoch {session.state.cur_epoch}"
    return " ".join(f"{name} {scale:.6g}" for name, scale in weights[0]._asdict().items())


def link_best(session: Session) -> None:
    """Let the files in ``BEST_NAMES`` name the checkpoint of this epoch where it is the best."""
    state, exp_dir = session.state, session.configs.train.exp_dir
    path = exp_dir / f"epoch-{state.cur_epoch}.pt"
    for kind, name in BEST_NAMES.items():
        if getattr(state, f"best_{kind}_epoch") == state.cur_epoch:
            hardlink(path, name)
            if kind in FORMER_NAMES:
                (exp_dir / FORMER_NAMES[kind]).unlink(missing_ok=True)
