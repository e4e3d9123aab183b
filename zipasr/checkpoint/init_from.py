"""Initialisation from the weights of a model that may have other modules or tokens."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from zipasr.base.errors import CheckpointError, UserError, nearest
from zipasr.checkpoint.weights import StateDict, differences, summary
from zipasr.nn.lora import without_adapters

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
