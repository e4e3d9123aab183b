"""States of the streams of a chunk encoder: of several batches as one, and of some streams."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zipasr.encoder.protocol import ChunkEncoder


def stack(chunks: ChunkEncoder, states: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Put streams side by side; they may have gone through different numbers of chunks.

    Args:
        chunks: the encoder.
        states: of any numbers of its streams each.

    Raises:
        ValueError: there are no states, or they are not of one encoder.
    """
    if not states:
        raise ValueError("a stack of states needs at least one")
    dims = chunks.batch_dims()
    shapes = {
        tuple((*t.shape[:dim], *t.shape[dim + 1 :]) for dim, t in zip(dims, state, strict=True))
        for state in states
    }
    if len(shapes) > 1:
        raise ValueError("states of different models or left contexts cannot be stacked")
    columns = zip(*states, strict=True)
    return [torch.cat(column, dim=dim) for dim, column in zip(dims, columns, strict=True)]


def rows_of(chunks: ChunkEncoder, state: Sequence[Tensor], rows: Sequence[int]) -> list[Tensor]:
    """Take some of the streams, in the order given, as copies."""
    index = torch.tensor(rows, dtype=torch.int64, device=state[0].device)
    pairs = zip(chunks.batch_dims(), state, strict=True)
    return [tensor.index_select(dim, index) for dim, tensor in pairs]
