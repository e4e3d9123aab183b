"""The Triton kernels of searches on the CPU, by Triton's interpreter; run by test_triton_steps.py.

The interpreter takes some milliseconds for each program: the cases are few and small.
"""

from __future__ import annotations

import math
from dataclasses import fields

import pytest
import torch
from torch import Tensor

from tests.search.tiny import assert_same, tiny_batch, tiny_steps
from zipasr.search import greedy_blocks, modified_beam_search, triton_steps
from zipasr.search.beam_state import Beams
from zipasr.search.greedy import GreedySearch
from zipasr.search.greedy_blocks import WIDTH, GreedyTables
from zipasr.search.modified_beam_search import ModifiedBeamSearch
from zipasr.search.transducer_step import ScoreSettings

CPU = torch.device("cpu")


def some_beams(num: int, beam: int, context_size: int, seed: int) -> Beams:
    """Any hypotheses, empty slots among them, and some that may become equal."""
    g = torch.Generator().manual_seed(seed)
    log_probs = -torch.rand(num, beam, generator=g)
    log_probs[:, beam // 2 + 1 :] = -math.inf
    marks = torch.randint(0, 3, (2, num, beam), generator=g)
    contexts = torch.randint(-1, 3, (num, beam, context_size), generator=g)
    bonuses = torch.randn(num, beam, generator=g)
    return Beams(log_probs, bonuses, marks[0], marks[1], contexts, log_probs)


def compare(one: list[Tensor], other: list[Tensor]) -> None:
    for x, y in zip(one, other, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize(
    ("beam", "vocab", "context_size"), [(4, 7, 2), (1, 5, 1), (5, 3, 3), (3, 1030, 2), (9, 2, 2)]
)
@pytest.mark.parametrize("settings", [ScoreSettings(0), ScoreSettings(1, 1.5, 1.7)])
def test_a_frame_of_beam_search(
    beam: int, vocab: int, context_size: int, settings: ScoreSettings
) -> None:
    lens = torch.tensor([1, 2, 0])
    results = []
    for take in (triton_steps.take_frame, modified_beam_search.take_frame):
        beams = some_beams(3, beam, context_size, vocab)
        g = torch.Generator().manual_seed(1)
        found = []
        for time in range(2):
            records = torch.empty(2, 3, beam, dtype=torch.int64)
            logits = 3 * torch.randn(3, beam, vocab, generator=g)
            take(logits, beams, lens, (records[0], records[1]), time, settings)
            # Which of the empty slots are continued does not matter.
            is_there = beams.log_probs > -math.inf
            kept = [part.clone() for part in (*beams.books()[2:], *records)]
            for part in kept:
                part[~is_there] = 0
            found += [beams.log_probs.clone(), beams.bonuses * is_there, *kept]
        results.append(found)
    compare(*results)


def test_what_is_no_number_is_seen() -> None:
    beams = some_beams(1, 3, 2, 0)
    records = torch.empty(2, 1, 3, dtype=torch.int64)
    logits = torch.zeros(1, 3, 5)
    logits[0, 1, 2] = math.nan
    lens = torch.tensor([1])
    triton_steps.take_frame(logits, beams, lens, (records[0], records[1]), 0, ScoreSettings(0))
    assert beams.log_probs.isnan().any()
    assert ((records[0] >= 0) & (records[0] < 3)).all()
    assert ((records[1] >= 0) & (records[1] < 5)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("vocab", "most_here"), [(7, 1), (7, 3), (1030, 2)])
def test_a_step_of_greedy_search(vocab: int, most_here: int, dtype: torch.dtype) -> None:
    lens = torch.tensor([20, 5, 0])
    results = []
    for take in (triton_steps.take_block, greedy_blocks.take_block):
        contexts = torch.full((1, 2), -1)
        tables = GreedyTables.with_room(contexts, torch.zeros(3, 20, 1), 20 * most_here)
        g = torch.Generator().manual_seed(2)
        for _ in range(5):
            logits = 3 * torch.randn(3, WIDTH, vocab, generator=g)
            logits[..., 1] += 5.0
            take(logits.to(dtype), tables, lens, 20, ScoreSettings(1, 0.5, 1.3), most_here)
        results.append([getattr(tables, one.name) for one in fields(tables)])
    compare(*results)


def test_the_checks_that_they_pass_on_a_device() -> None:
    errors = [*triton_steps._beam_errors(CPU), *triton_steps._greedy_errors(CPU)]
    assert max(errors) < 1e-4


@pytest.mark.parametrize("kind", ["greedy", "beam"])
def test_whole_searches(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_steps.KERNELS, "work_on", lambda device: True)
    steps = tiny_steps(4)
    search = {
        "greedy": GreedySearch(steps, max_sym_per_frame=2, cuda_graphs=False),
        "beam": ModifiedBeamSearch(steps, cuda_graphs=False),
    }[kind]
    frames, lens = tiny_batch(4, [9, 6, 1])
    with torch.no_grad():
        state = search._advance_on_device(search.start(3, CPU), frames, lens)
    assert_same(search.results(state), search(frames, lens))
