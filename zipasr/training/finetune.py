"""Fine-tuning: weights of a model with other modules or tokens, frozen modules, adapters."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zipasr.base.distributed import broadcast_from_main
from zipasr.base.errors import CheckpointError, UserError, nearest
from zipasr.checkpoint.averaging import start_average
from zipasr.checkpoint.checkpoint_file import load_checkpoint
from zipasr.checkpoint.model_file import stored_tokenizer
from zipasr.checkpoint.weights import StateDict, differences, model_state, summary
from zipasr.nn.lora import add_adapter, draw_adapters, is_adapter, plain_name, without_adapters
from zipasr.optim.build import is_named
from zipasr.text.config import BLANK_ID
from zipasr.text.tokenizer import Tokenizer
from zipasr.training.config import FinetuneConfig
from zipasr.training.session import Session
from zipasr.training.state import SCHEDULES_DONE

logger = logging.getLogger(__name__)

#: Pairs of rows: of the file, of the model.
Rows = Sequence[tuple[int, int]]

# Tensors with a row for each token, in the modules of icefall's models and ours; heads of another
# corpus have its name behind theirs.
OF_TOKENS = re.compile(
    r"decoder(_\w+)?\.embedding\.weight|joiner(_\w+)?\.output_linear\.\w+|"
    r"simple_[al]m_proj(_\w+)?\.\w+|ctc_output\.\d\.\w+|"
    r"attention_decoder\.decoder\.(embed|output_layer)\.\w+"
)


class Transfer(NamedTuple):
    """What was done with each tensor, by name.

    Attributes:
        loaded: taken over as they were.
        rows: those with a row for each token -> how many rows were taken over.
        anew: of the model, left as they were drawn.
        ignored: of the file, without a place in the model.
    """

    loaded: tuple[str, ...]
    rows: dict[str, int]
    anew: tuple[str, ...]
    ignored: tuple[str, ...]


def shared_rows(old: Sequence[str], new: Sequence[str]) -> Rows:
    """Return the places of the tokens that two vocabularies share, in the order of the second."""
    place = {piece: row for row, piece in enumerate(old)}
    return [(place[piece], row) for row, piece in enumerate(new) if piece in place]


def is_new_module(name: str, modules: Collection[str] | None, *, new_tokens: bool) -> bool:
    """Say whether a tensor of the model is not taken, or not as a whole, from the file."""
    of_tokens = new_tokens and OF_TOKENS.fullmatch(name) is not None
    return of_tokens or not is_inside(name, modules)


def is_inside(name: str, modules: Collection[str] | None) -> bool:
    """Say whether a tensor belongs to one of the modules; None stands for all of them."""
    return modules is None or any(name.startswith(f"{module}.") for module in modules)


def copy_weights(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    path: Path,
    modules: Collection[str] | None = None,
    rows: Rows | None = None,
) -> Transfer:
    """Load what a file has for a model, or change nothing.

    Inside the modules, names and shapes must be the same on both sides.

    Args:
        model: what is not loaded stays as it is.
        weights: state dict of the file.
        path: of the file, named in errors.
        modules: names of modules at any depth, as in --init-modules; None: all.
        rows: where the tokens of the file are in the model; None: both have the same tokens.

    Raises:
        UserError: one of the modules is unknown.
        CheckpointError: names or shapes differ; shows the first differences.
    """
    own = without_adapters(model.state_dict())
    for module in modules or ():
        _check_module(module, own, weights, path)
    of_tokens = {name for name in own if rows is not None and OF_TOKENS.fullmatch(name)}
    wanted = {name: tensor for name, tensor in own.items() if is_inside(name, modules)}
    given = {name: tensor for name, tensor in weights.items() if is_inside(name, modules)}
    whole = [name for name in wanted if name not in of_tokens]
    _check_same(wanted, given, of_tokens, path)
    with torch.no_grad():
        for name in whole:
            own[name].copy_(given[name])
        counts = {
            name: _copy_rows(own[name], given[name], rows or ())
            for name in wanted
            if name in of_tokens
        }
    return Transfer(
        loaded=tuple(whole),
        rows=counts,
        anew=tuple(name for name in own if name not in wanted),
        ignored=tuple(name for name in weights if name not in given),
    )


def transfer_table(done: Transfer, model: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """Return lines that say, module by module, how many parameters came from where."""
    own = without_adapters(model.state_dict())
    counts: dict[str, list[int]] = {}

    def count(name: str, column: int, size: int) -> None:
        counts.setdefault(name.partition(".")[0], [0, 0, 0])[column] += size

    for name in own:
        size = own[name].numel()
        if name in done.rows:
            kept = size * done.rows[name] // len(own[name])
            count(name, 0, kept)
            count(name, 1, size - kept)
            count(name, 2, weights[name].numel() - kept)
        else:
            count(name, 1 if name in done.anew else 0, size)
    for name in done.ignored:
        count(name, 2, weights[name].numel())
    width = max(map(len, [*counts, "module"]))
    lines = [f"{'module':{width}} {'loaded':>12} {'begins anew':>12} {'ignored':>12}"]
    lines += [
        f"{module:{width}} " + " ".join(f"{size:>12,d}" for size in sizes)
        for module, sizes in counts.items()
    ]
    if done.rows:
        known, tokens = max(done.rows.values()), len(own[next(iter(done.rows))])
        lines.append(f"{known} of {tokens} tokens are known to the file: their rows are loaded")
    return lines


def _check_module(
    module: str, own: Mapping[str, Tensor], weights: Mapping[str, Tensor], path: Path
) -> None:
    for where, state in (("the model", own), (str(path), weights)):
        if not any(is_inside(name, [module]) for name in state):
            known = {name.rsplit(".", depth)[0] for name in state for depth in range(1, 9)}
            tops = dict.fromkeys(name.partition(".")[0] for name in state)
            raise UserError(
                f"--init-modules {module}: {where} has no such module.",
                nearest(module, sorted(known)) or f"choose from {', '.join(tops)}.",
            )


def _check_same(
    wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], of_tokens: set[str], path: Path
) -> None:
    """Refuse other names; and other shapes, but for the number of tokens."""
    trimmed: list[StateDict] = [
        {name: tensor[:1] if name in of_tokens else tensor for name, tensor in state.items()}
        for state in (given, wanted)
    ]
    if wrong := differences(*trimmed):
        raise CheckpointError(
            f"{path} does not fit to the model: {summary(wrong)}.",
            "leave the model flags out, or name with --init-modules what to take.",
        )


def _copy_rows(target: Tensor, source: Tensor, rows: Rows) -> int:
    if rows:
        there, here = (torch.tensor(side) for side in zip(*rows, strict=True))
        target[here] = source[there].to(target)
    return len(rows)


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
    logger.info("fine-tuning of %s", path)
    for line in transfer_table(done, session.model, weights):
        logger.info("  %s", line)


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
    logger.info("adapters of rank %d on %d linear layers", config.lora_rank, len(chosen))


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
