"""Greedy search on a GPU, which never waits to know what was found: label looping with tables.

Each step takes every utterance to its next token, or over a block of blanks; all that it reads and
writes stays in its place, so that steps can be replayed as a CUDA graph.

Source: Bataev et al., "Label-looping: highly efficient decoding for transducers", 2024.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from zipasr.nn.cuda_graph import Replay, power_of_two
from zipasr.nn.numerics import OnItsWay
from zipasr.search import triton_steps
from zipasr.search.transducer_step import ScoreSettings, TransducerSteps, adjusted_log_probs

#: Steps of a CUDA graph, and the frames that its utterances are padded to a multiple of.
GRAPH_STEPS, GRAPH_FRAMES = 16, 64

#: Frames of an utterance that the joiner reads at once.
WIDTH = 8


@dataclass(frozen=True, slots=True)
class GreedyTables:
    """Where greedy search stands in N utterances of T frames; its tensors are changed.

    Attributes:
        place: (N,) int64, the next frame.
        num_here: (N,) int64, tokens that this frame has emitted.
        log_probs: (N,) float64, of the symbols taken.
        contexts: (N, C) int64, last tokens.
        num_tokens: (N,) int64, how many there are.
        tokens: (N, L) int64.
        times: (N, L) int64, the frame of each.
        rows: (N, W) int64, the next frames of each utterance, counted through those of all.
        predictions: (N, J), what the decoder makes of the contexts.
    """

    place: Tensor
    num_here: Tensor
    log_probs: Tensor
    contexts: Tensor
    num_tokens: Tensor
    tokens: Tensor
    times: Tensor
    rows: Tensor
    predictions: Tensor

    @classmethod
    def with_room(cls, contexts: Tensor, frames: Tensor, most_tokens: int) -> GreedyTables:
        """Make tables for utterances like ``frames`` (N, T, J), with contexts like (_, C)."""
        num, device = frames.size(0), frames.device
        counts = torch.zeros(3, num, dtype=torch.int64, device=device)
        tokens = torch.zeros(2, num, most_tokens, dtype=torch.int64, device=device)
        return cls(
            place=counts[0],
            num_here=counts[1],
            log_probs=torch.zeros(num, dtype=torch.float64, device=device),
            contexts=contexts.new_zeros(num, contexts.size(1)),
            num_tokens=counts[2],
            tokens=tokens[0],
            times=tokens[1],
            rows=contexts.new_zeros(num, WIDTH),
            predictions=frames.new_zeros(num, frames.size(2)),
        )


def take_blocks(
    tables: GreedyTables,
    frames: Tensor,
    lens: Tensor,
    steps: TransducerSteps,
    most_here: int,
    number: int,
) -> None:
    """Go on without ever waiting for the device; shapes depend on those given alone.

    Args:
        tables: of N utterances, are changed.
        frames: (N, T, J), projected.
        lens: (N,) int64.
        steps: the transducer.
        most_here: tokens after which a frame is left.
        number: how many steps to take.
    """
    take = triton_steps.take_block if triton_steps.KERNELS.work_on(frames.device) else take_block
    num, num_frames, width = frames.shape
    predictions = tables.predictions
    for _ in range(number):
        ahead = frames.flatten(0, 1).index_select(0, tables.rows.flatten())
        logits = steps.logits(ahead.view(num, -1, width), predictions[:, None])
        take(logits, tables, lens, num_frames, steps.settings, most_here)
        predictions = steps.predict(tables.contexts)
    tables.predictions.copy_(predictions)


def take_block(
    logits: Tensor, tables: GreedyTables, lens: Tensor, num_frames: int, settings: ScoreSettings,
    most_here: int,
) -> None:  # fmt: skip
    """Take each utterance to its next token among the frames read, or over all of them.

    This is the meaning of the kernel that ``triton_steps.take_block`` launches.

    Args:
        logits: (N, W, V), of the next frames of each utterance.
        tables: of N utterances, are changed but for the predictions.
        lens: (N,) int64.
        num_frames: T.
        settings: from logits to log-probabilities.
        most_here: tokens after which a frame is left.
    """
    best = adjusted_log_probs(logits, *settings).max(dim=-1)
    width = logits.size(1)
    ahead = torch.arange(width, device=logits.device)
    is_inside = tables.place[:, None] + ahead < lens[:, None]
    is_token = is_inside & (best.indices != settings.blank_id)
    first = torch.where(is_token, ahead, width).amin(dim=1)
    is_taken = is_inside & (ahead <= first[:, None])
    tables.log_probs.add_(torch.where(is_taken, best.values, 0.0).double().sum(dim=1))

    has_token, time = first < width, tables.place + first
    token = best.indices.gather(1, first.clamp(max=width - 1)[:, None])
    spot = tables.num_tokens.clamp(max=tables.tokens.size(1) - 1)[:, None]
    for table, value in ((tables.tokens, token), (tables.times, time[:, None])):
        table.scatter_(1, spot, torch.where(has_token[:, None], value, table.gather(1, spot)))
    tables.num_tokens.add_(has_token)
    grown = torch.cat((tables.contexts[:, 1:], token), dim=1)
    tables.contexts.copy_(torch.where(has_token[:, None], grown, tables.contexts))

    # Blanks leave their frames; a token leaves its frame if it is the last that may be there.
    here = torch.where(first == 0, tables.num_here, 0) + 1
    is_full = here >= most_here
    tables.num_here.copy_(torch.where(has_token & ~is_full, here, 0))
    blanks = torch.minimum(tables.place + width, lens)
    tables.place.copy_(torch.where(has_token, time + is_full, blanks))
    tables.rows.copy_(next_rows(tables.place, width, num_frames))


def next_rows(place: Tensor, width: int, num_frames: int) -> Tensor:
    """Return which of all frames (N * T) are the next ``width`` of each utterance: (N, W)."""
    starts = num_frames * torch.arange(len(place), device=place.device)
    ahead = place[:, None] + torch.arange(width, device=place.device)
    return starts[:, None] + ahead.clamp(max=num_frames - 1)


class Found(NamedTuple):
    """What N utterances have come to: the next frame of each, log-probability, tokens, times."""

    places: list[int]
    log_probs: list[float]
    tokens: list[list[int]]
    times: list[list[int]]


class GreedyBlock:
    """Tables and frames of a batch that stay in their places, as a CUDA graph needs them.

    Args:
        steps: the transducer.
        most_here: tokens after which a frame is left.
        contexts: some, for their shape.
        frames: likewise.
        shape: utterances and frames that there is room for.
    """

    def __init__(
        self,
        steps: TransducerSteps,
        most_here: int,
        contexts: Tensor,
        frames: Tensor,
        shape: tuple[int, int],
    ) -> None:
        self._steps, self._most_here, self._num = steps, most_here, 0
        with torch.inference_mode(False):  # it is changed in other modes, too
            self.frames = frames.new_zeros(*shape, frames.size(2))
            self.lens = torch.zeros(shape[0], dtype=torch.int64, device=frames.device)
            most_tokens = shape[1] * most_here
            self.tables = GreedyTables.with_room(contexts, self.frames, most_tokens)
        self._replay = Replay(lambda: self.take(GRAPH_STEPS))

    def begin(self, contexts: Tensor, predictions: Tensor, frames: Tensor, lens: Tensor) -> None:
        """Stand before the first frames (N, T, J) of a batch."""
        num, tables = len(lens), self.tables
        self._num = num
        for one in fields(tables):
            getattr(tables, one.name).zero_()
        self.lens.zero_()  # utterances that are not there have no frames
        self.lens[:num].copy_(lens)
        self.frames[:num, : frames.size(1)].copy_(frames)
        tables.contexts[:num].copy_(contexts)
        tables.predictions[:num].copy_(predictions)
        tables.rows.copy_(next_rows(tables.place, WIDTH, self.frames.size(1)))

    def take(self, number: int) -> None:
        """Take so many steps."""
        settings = self._steps, self._most_here, number
        take_blocks(self.tables, self.frames, self.lens, *settings)

    def replay(self, number: int) -> None:
        """Take at least so many steps; a CUDA graph has ``GRAPH_STEPS`` of them."""
        for _ in range(-(-number // GRAPH_STEPS)):
            self._replay()

    def found(self) -> Found:
        """Wait for the device, and return what was found."""
        tables, num = self.tables, self._num
        parts = (tables.place, tables.log_probs, tables.num_tokens, tables.tokens, tables.times)
        on_way = [OnItsWay(part[:num]) for part in parts]
        places, log_probs, counts, *lists = (part.arrived().tolist() for part in on_way)
        tokens, times = (
            [row[:count] for row, count in zip(rows, counts, strict=True)] for rows in lists
        )
        return Found(places, log_probs, tokens, times)


def padded_shape(num: int, num_frames: int) -> tuple[int, int]:
    """Return utterances and frames that a batch is padded to, so that shapes are few."""
    padded = -(-num_frames // GRAPH_FRAMES) * GRAPH_FRAMES
    return power_of_two(num), min(padded, power_of_two(num_frames))
