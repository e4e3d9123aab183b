"""Fine-tuning: initial weights from a checkpoint, frozen modules, adapters, new tokens."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from zipasr.base.distributed import broadcast_from_main
from zipasr.base.errors import UserError, nearest
from zipasr.checkpoint.average import start_average
from zipasr.checkpoint.files import load_checkpoint
from zipasr.checkpoint.init_from import (
    Rows,
    copy_weights,
    is_new_module,
    shared_rows,
    transfer_table,
)
from zipasr.checkpoint.model_file import stored_tokenizer
from zipasr.checkpoint.weights import model_state
from zipasr.nn.lora import add_adapter, draw_adapters, is_adapter, plain_name
from zipasr.optim.param_groups import is_named
from zipasr.text.tokenizer import BLANK_ID, Tokenizer
from zipasr.training.config import FinetuneConfig
from zipasr.training.session import Session
from zipasr.training.state import SCHEDULES_DONE


def load_initial_weights(session: Session) -> None:
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
    rows = (
        shared_token_rows(checkpoint, session.tokenizer)
        if config.finetune_tokenizer == "new"
        else None
    )
    done = copy_weights(session.model, weights, path, config.init_modules, rows)
    draw_adapters(session.model)
    broadcast_from_main(session.model.state_dict().values(), session.world)
    if session.average is not None:
        session.average = start_average(session.model.state_dict())
    session.state.schedule_start = SCHEDULES_DONE
    logging.info("fine-tuning of %s", path)
    for line in transfer_table(done, session.model, weights):
        logging.info("  %s", line)


def shared_token_rows(checkpoint: Mapping[str, Any], tokenizer: Tokenizer) -> Rows:
    """Return which tokens of a checkpoint the tokenizer has too.

    Without a tokenizer in the checkpoint only the blank is known: it is the same everywhere.
    """
    if "tokenizer" not in checkpoint:
        return [(BLANK_ID, BLANK_ID)]
    old = stored_tokenizer(checkpoint)
    return shared_rows(old.pieces(), tokenizer.pieces())


def freeze_or_add_adapters(model: nn.Module, config: FinetuneConfig, usual: Sequence[str]) -> None:
    """Add the adapters that are asked for, and switch off the gradients of the rest.

    What begins anew, for want of weights in the file, is trained as a whole.

    Args:
        model: gets them.
        config: rank and layers.
        usual: patterns of names of the layers where ``config`` names none.

    Raises:
        UserError: --lora-modules names no linear layer.
    """
    if config.lora_rank == 0:
        return
    alpha = config.lora_rank if config.lora_alpha is None else config.lora_alpha
    chosen = _linear_layers(model, config.lora_modules, usual)
    for name in chosen:
        add_adapter(model.get_submodule(name), config.lora_rank, alpha / config.lora_rank)
    new_tokens = config.finetune_tokenizer == "new"
    for name, parameter in model.named_parameters():
        is_new = is_new_module(plain_name(name), config.init_modules, new_tokens=new_tokens)
        parameter.requires_grad_(is_new or is_adapter(name))
    logging.info("adapters of rank %d on %d linear layers", config.lora_rank, len(chosen))


def _linear_layers(
    model: nn.Module, patterns: Sequence[str] | None, usual: Sequence[str]
) -> list[str]:
    """Return the names of the layers whose weight is a matrix and whom a pattern names."""
    matrices = [
        name.removesuffix(".weight")
        for name, parameter in model.named_parameters()
        if name.endswith(".weight") and parameter.dim() == 2 and "embed" not in name
    ]
    for pattern in patterns or ():
        if not any(is_named(name, pattern) for name in matrices):
            raise UserError(
                f"--lora-modules {pattern}: the model has no such linear layer.",
                nearest(pattern, matrices) or f"one is {matrices[0]}.",
            )
    wanted = patterns or usual
    return [name for name in matrices if any(is_named(name, pattern) for pattern in wanted)]
