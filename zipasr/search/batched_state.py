"""States of searches that go on: those of several streams as one batch, and apart again.

A state is a dataclass whose fields hold one row for each stream: tensors (N, ...), lists of N,
tuples of tensors, or dataclasses of the same kind. The last dimension of a tensor may differ from
state to state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from zipasr.nn.numerics import to_device

#: What a row is filled with that is shorter than others.
PADDING = -1

S = TypeVar("S")


def rows_of(state: S, rows: Sequence[int]) -> S:
    """Take some of the streams, in the order given."""
    return cast("S", _select(state, list(rows)))


def stack(states: Sequence[S]) -> S:
    """Put the states of several batches of streams into one."""
    return cast("S", _stack(states))


def pad_last_dim(parts: Sequence[Tensor]) -> list[Tensor]:
    """Pad the last dimension of tensors, so that all are as wide as the widest."""
    width = max(part.size(-1) for part in parts)
    missing = [width - part.size(-1) for part in parts]
    return [
        F.pad(part, (0, num), value=PADDING) if num else part
        for part, num in zip(parts, missing, strict=True)
    ]


def _select(part: Any, rows: list[int]) -> Any:
    if isinstance(part, Tensor):
        return part[to_device(torch.tensor(rows, dtype=torch.int64), part.device)]
    if isinstance(part, list):
        return [part[row] for row in rows]
    if isinstance(part, tuple):
        return tuple(_select(one, rows) for one in part)
    return type(part)(**{name: _select(getattr(part, name), rows) for name in _names(part)})


def _stack(parts: Sequence[Any]) -> Any:
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(pad_last_dim(parts)) if first.dim() > 1 else torch.cat(list(parts))
    if isinstance(first, list):
        return [one for part in parts for one in part]
    if isinstance(first, tuple):
        return tuple(_stack(group) for group in zip(*parts, strict=True))
    return type(first)(
        **{name: _stack([getattr(part, name) for part in parts]) for name in _names(first)}
    )


def _names(part: Any) -> list[str]:
    assert is_dataclass(part), f"{type(part).__name__} is no part of a state"
    return [field.name for field in fields(part)]
