"""Steps of transducer searches on a CUDA device: one Triton kernel each, without waiting for it.

Importing this needs no triton. The kernels are compared with their definitions in
``modified_beam_search`` and ``greedy_blocks`` once per process and device before they are used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zipasr.kernels import launch
from zipasr.nn.cuda_graph import power_of_two
from zipasr.search.beam_state import MULTIPLIER, Beams
from zipasr.search.transducer_step import ScoreSettings

if TYPE_CHECKING:
    from zipasr.search.greedy_blocks import GreedyTables

_MAX_COLUMNS = 1024  # symbols of a row that are read at a time
_MOST_ELEMENTS = 8192  # of a program


def take_frame(
    logits: Tensor,
    beams: Beams,
    lens: Tensor,
    records: tuple[Tensor, Tensor],
    time: int,
    settings: ScoreSettings,
) -> None:
    """Do as ``modified_beam_search.take_frame``."""
    num, beam, vocab = logits.shape
    slots = power_of_two(beam)
    block = min(_MAX_COLUMNS, power_of_two(vocab), max(1, _MOST_ELEMENTS // slots))
    tensors = (beams.log_probs, beams.bonuses, beams.fingerprints, beams.num_tokens, beams.contexts)
    launch.launch(
        KERNELS.module.beam_frame_kernel,
        (num,),
        _num_warps(slots * block),
        (logits.contiguous(), lens, *tensors, *records, time, *settings),
        multiplier=MULTIPLIER,
        vocab=vocab,
        beam=beam,
        context_size=beams.contexts.size(-1),
        slots=slots,
        places=power_of_two(beams.contexts.size(-1)),
        block=block,
    )


def take_block(
    logits: Tensor, tables: GreedyTables, lens: Tensor, num_frames: int, settings: ScoreSettings,
    most_here: int,
) -> None:  # fmt: skip
    """Do as ``greedy_blocks.take_block``."""
    num, width, vocab = logits.shape
    block = min(_MAX_COLUMNS, power_of_two(vocab), max(1, _MOST_ELEMENTS // width))
    tensors = (
        *(tables.place, tables.num_here, tables.log_probs, tables.contexts, tables.num_tokens),
        *(tables.tokens, tables.times, tables.rows),
    )
    numbers = (num_frames, tables.tokens.size(1), most_here)
    launch.launch(
        KERNELS.module.greedy_step_kernel,
        (num,),
        _num_warps(width * block),
        (logits.contiguous(), lens, *tensors, *numbers, *settings),
        vocab=vocab,
        width=width,
        context_size=tables.contexts.size(1),
        places=power_of_two(tables.contexts.size(1)),
        block=block,
    )


def _errors(device: torch.device) -> Iterator[float]:
    yield from _beam_errors(device)
    yield from _greedy_errors(device)


def _beam_errors(device: torch.device) -> Iterator[float]:
    """Yield differences of the first kernel from its definition, over a few frames."""
    from zipasr.search import modified_beam_search  # which uses this module

    g = torch.Generator().manual_seed(0)
    lens, logits = torch.tensor([3, 2, 0]), 3 * torch.randn(3, 3, 5, 70, generator=g)
    logits[:, 0, 2, :] = logits[:, 0, 1, :] = 0.0  # equal numbers
    shape, settings = (3, 5), ScoreSettings(1, 0.5, 1.5)
    results = []
    for take, place in (
        (modified_beam_search.take_frame, torch.device("cpu")),
        (take_frame, device),
    ):
        log_probs = torch.full(shape, -torch.inf)
        log_probs[:, 0] = 0.0
        counts = torch.zeros(2, *shape, dtype=torch.int64)
        contexts = torch.zeros(*shape, 3, dtype=torch.int64)
        bonuses = torch.linspace(0.0, 1.0, 15).view(shape)
        beams = Beams(log_probs, bonuses, counts[0], counts[1], contexts, bonuses)
        beams = beams.map(lambda part, place=place: part.clone().to(place))  # type: ignore[misc]
        records = counts[0].to(place, copy=True), counts[1].to(place, copy=True)
        for time, frame in enumerate(logits.to(place)):
            take(frame, beams, lens.to(place), records, time, settings)
        results.append([*beams.books(), *records])
    yield from _differences(*results)


def _greedy_errors(device: torch.device) -> Iterator[float]:
    """Yield differences of the second kernel from its definition, over a few steps."""
    from zipasr.search import greedy_blocks  # which uses this module

    g = torch.Generator().manual_seed(0)
    lens = torch.tensor([9, 30, 1, 0])
    logits = 3 * torch.randn(6, 4, greedy_blocks.WIDTH, 70, generator=g)
    logits[..., 1] += 7.0
    results = []
    for take, place in ((greedy_blocks.take_block, torch.device("cpu")), (take_block, device)):
        contexts = torch.zeros(1, 3, dtype=torch.int64, device=place)
        room = torch.zeros(4, 30, 1, device=place)
        tables = greedy_blocks.GreedyTables.with_room(contexts, room, 60)
        for block in logits.to(place):
            take(block, tables, lens.to(place), 30, ScoreSettings(1, 0.5, 1.5), 2)
        results.append([getattr(tables, one.name) for one in fields(tables)])
    yield from _differences(*results)


def _differences(expected: list[Tensor], found: list[Tensor]) -> Iterator[float]:
    for one, other in zip(expected, found, strict=True):
        equal, gap = one == other.cpu(), (one - other.cpu()).abs().double()
        yield float(torch.where(equal, 0.0, gap).max())


def _num_warps(elements: int) -> int:
    return min(8, max(1, elements // 256))


KERNELS = launch.CheckedKernels(
    "searches", _errors, "Searches launch about four times as many kernels."
)
