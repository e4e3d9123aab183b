"""--print-diagnostics: some batches under observation, then the report; nothing is saved."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from itertools import islice

from zipasr.data.dataset import Batch
from zipasr.training.diagnostics import observe
from zipasr.training.diagnostics_report import report
from zipasr.training.loop import train_one_update
from zipasr.training.session import Session

NUM_BATCHES = 6


def diagnose(session: Session, batches: Iterable[Batch]) -> str:
    """Train on six batches, with updates as always, and say what flowed through the model."""
    seen, handles = observe(session.model)
    try:
        for done, batch in enumerate(islice(batches, NUM_BATCHES), start=1):
            metrics = train_one_update(session, [batch]).metrics
            logging.info("diagnostics, batch %d of %d: %s", done, NUM_BATCHES, metrics)
    finally:
        for handle in handles:
            handle.remove()
    return report(seen)
