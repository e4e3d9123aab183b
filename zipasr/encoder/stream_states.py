"""States of the streams of a chunk encoder: of several batches as one, and of some streams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch

from zipasr.encoder.protocol import ChunkEncoder

S = TypeVar("S")


def stack(chunks: ChunkEncoder[S], states: Sequence[S]) -> S:
    """Put streams side by side; they may have gone through different numbers of chunks.

    Args:
        chunks: the encoder.
        states: of any numbers of its streams each.

    Raises:
        ValueError: there are no states, or they are not of one encoder.
    """
    if not states:
        raise ValueError("a stack of states needs at least one")
    dims, lists = chunks.batch_dims(), [chunks.to_list(state) for state in states]
    shapes = {
        tuple((*t.shape[:dim], *t.shape[dim + 1 :]) for dim, t in zip(dims, tensors, strict=True))
        for tensors in lists
    }
    if len(shapes) > 1:
        raise ValueError("states of different models or left contexts cannot be stacked")
    columns = zip(*lists, strict=True)
    return chunks.from_list(
        [torch.cat(column, dim=dim) for dim, column in zip(dims, columns, strict=True)]
    )


def rows_of(chunks: ChunkEncoder[S], state: S, rows: Sequence[int]) -> S:
    """Take some of the streams, in the order given, as copies."""
    tensors = chunks.to_list(state)
    index = torch.tensor(rows, dtype=torch.int64, device=tensors[0].device)
    pairs = zip(chunks.batch_dims(), tensors, strict=True)
    return chunks.from_list([tensor.index_select(dim, index) for dim, tensor in pairs])
