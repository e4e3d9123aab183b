"""The model that a fine-tuning begins with, and what is told of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from zipasr.base.distributed import broadcast_from_main
from zipasr.checkpoint.average import start_average
from zipasr.checkpoint.files import load_checkpoint
from zipasr.checkpoint.init_from import Rows, shared_rows, table, take_weights
from zipasr.checkpoint.model_file import stored_tokenizer
from zipasr.checkpoint.weights import model_state
from zipasr.nn.lora import draw_adapters
from zipasr.text.tokenizer import BLANK_ID, Tokenizer
from zipasr.training.session import Session
from zipasr.training.state import SCHEDULES_DONE


def begin_with_file(session: Session) -> None:
    """Give a new model the weights of --finetune-ckpt, and tell which.

    The running average begins with them, and the schedules inside the model are over.

    Raises:
        CheckpointError: the file is missing, damaged, or of another model.
        UserError: --init-modules names none of its modules.
    """
    config = session.configs.finetune
    path = config.finetune_ckpt
    if path is None:
        raise ValueError("there is no file to begin with")
    checkpoint = load_checkpoint(path)
    weights = model_state(checkpoint, str(path))
    rows = rows_of(checkpoint, session.tokenizer) if config.finetune_tokenizer == "new" else None
    done = take_weights(session.model, weights, path, config.init_modules, rows)
    draw_adapters(session.model)
    broadcast_from_main(session.model.state_dict().values(), session.world)
    if session.average is not None:
        session.average = start_average(session.model.state_dict())
    session.state.schedule_start = SCHEDULES_DONE
    logging.info("fine-tuning of %s", path)
    for line in table(done, session.model, weights):
        logging.info("  %s", line)


def rows_of(checkpoint: Mapping[str, Any], tokenizer: Tokenizer) -> Rows:
    """Return which tokens of a checkpoint the tokenizer has too.

    Without a tokenizer in the checkpoint only the blank is known: it is the same everywhere.
    """
    if "tokenizer" not in checkpoint:
        return [(BLANK_ID, BLANK_ID)]
    old = stored_tokenizer(checkpoint)
    return shared_rows(old.pieces(), tokenizer.pieces())
