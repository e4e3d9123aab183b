"""Steps of searches on a GPU: what they do, on the CPU; their kernels interpreted and compiled.

Triton reads at its first import whether to interpret, so that takes a process of its own.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.other_process import needs_triton, run_python
from zipasr.search import triton_steps
from zipasr.search.greedy import GreedySearch
from zipasr.search.hot_words import ContextGraph, HotWords
from zipasr.search.modified_beam_search import ModifiedBeamSearch
from zipasr.search.protocol import Utterance

from .test_language_models import models
from .tiny import Loops, assert_same, tiny_batch, tiny_steps

CPU = torch.device("cpu")
lens_lists = st.lists(st.integers(0, 12), min_size=1, max_size=4)
phrase_lists = st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), max_size=5)


@torch.no_grad()
def as_on_a_device(
    search: GreedySearch | ModifiedBeamSearch, frames: Tensor, lens: Tensor, cut: int
) -> list[list[Utterance]]:
    """Search as on a GPU, in two chunks."""
    state = search.start(len(lens), CPU)
    for part, num in (
        (frames[:, :cut], lens.clamp(max=cut)),
        (frames[:, cut:], (lens - cut).clamp(min=0)),
    ):
        state = search._advance_on_device(state, part, num)
    return search.hypotheses(state)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 1000),
    lens=lens_lists,
    cut=st.integers(0, 12),
    beam_size=st.integers(1, 9),
    context_size=st.integers(1, 3),
    vocab_size=st.integers(3, 8),
    blank_penalty=st.sampled_from([0.0, 1.5]),
    temperature=st.sampled_from([1.0, 1.7]),
    phrases=phrase_lists,
    language_model=st.sampled_from([None, "ngram", "rnn"]),
    ranks_only=st.booleans(),
)
def test_beam_search_finds_what_it_finds_on_a_cpu(
    seed: int,
    lens: list[int],
    cut: int,
    beam_size: int,
    context_size: int,
    vocab_size: int,
    blank_penalty: float,
    temperature: float,
    phrases: list[list[int]],
    language_model: str | None,
    ranks_only: bool,
) -> None:
    vocab_size = vocab_size if language_model is None else 7
    steps = tiny_steps(seed, vocab_size, context_size, blank_penalty, temperature)
    scorer = None
    if language_model is not None:
        scorer = models()[language_model].scorer(0.4)
    elif phrases:
        scorer = HotWords(ContextGraph(phrases, 1.2))
    search = ModifiedBeamSearch(steps, beam_size, scorer, ranks_only, cuda_graphs=False)
    frames, lengths = tiny_batch(seed, [*lens, 12])
    found = as_on_a_device(search, frames, lengths, cut)
    for mine, theirs in zip(found, search.search(frames, lengths), strict=True):
        assert_same(mine, theirs)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 1000),
    lens=lens_lists,
    cut=st.integers(0, 12),
    max_sym_per_frame=st.integers(1, 4),
    context_size=st.integers(1, 3),
    blank_bias=st.sampled_from([-1000.0, 0.0, 2.0, 6.0]),
)
def test_greedy_search_finds_what_it_finds_on_a_cpu(
    seed: int,
    lens: list[int],
    cut: int,
    max_sym_per_frame: int,
    context_size: int,
    blank_bias: float,
) -> None:
    """Blank that never wins takes all the steps that there may be."""
    steps = tiny_steps(seed, context_size=context_size, blank_bias=blank_bias)
    search = GreedySearch(steps, max_sym_per_frame, cuda_graphs=False)
    frames, lengths = tiny_batch(seed, [*lens, 12])
    found = [those[0] for those in as_on_a_device(search, frames, lengths, cut)]
    want = [
        Loops(steps).greedy(frames[n, :num], max_sym_per_frame)
        for n, num in enumerate(lengths.tolist())
    ]
    assert_same(found, want, tolerance=1e-3)


@pytest.mark.parametrize("search", [GreedySearch, ModifiedBeamSearch])
def test_nothing_is_nothing(search: type[GreedySearch] | type[ModifiedBeamSearch]) -> None:
    made = search(tiny_steps(0), cuda_graphs=False)
    frames, _ = tiny_batch(0, [3])
    none = torch.zeros(0, dtype=torch.int64)
    assert made.results(made._advance_on_device(made.start(0, CPU), frames[:0], none)) == []
    state = made._advance_on_device(made.start(1, CPU), frames, torch.tensor([0]))
    assert made.results(state) == made.results(made.start(1, CPU))


@needs_triton
def test_kernels_when_interpreted() -> None:
    command = "-m pytest -q -p no:cacheprovider tests/search/interpreted_triton.py"
    run_python(*command.split(), TRITON_INTERPRET="1")


COMPILE = """
from tests.compiled_triton import compile_everywhere
from zipasr.kernels.triton import searches as kernels
from zipasr.search.beam_state import MULTIPLIER

wide = {"num_warps": 8, "num_stages": 1}
scores = {"blank": "i32", "penalty": "fp32", "temperature": "fp32"}
beam = dict(logits="*fp32", lens="*i64", log_probs="*fp32", bonuses="*fp32")
beam |= dict.fromkeys(["fingerprints", "num_tokens", "contexts", "parents", "symbols"], "*i64")
beam |= dict(time="i32", **scores)
greedy = dict(logits="*bf16", lens="*i64", place="*i64", num_here="*i64", log_probs="*fp64")
greedy |= dict.fromkeys(["contexts", "num_tokens", "tokens", "times", "rows"], "*i64")
greedy |= dict(num_frames="i32", most_tokens="i32", most_here="i32", **scores)
codes = compile_everywhere(
    kernels.beam_frame_kernel, beam, wide, multiplier=MULTIPLIER, vocab=500, beam=4,
    context_size=2, slots=4, places=2, block=512,
) + compile_everywhere(
    kernels.greedy_step_kernel, greedy, wide, vocab=500, width=8, context_size=2, places=2,
    block=512,
)
for ptx in codes:
    assert "bar.sync" in ptx and "ld.global.nc" not in ptx
"""


@needs_triton
def test_kernels_compile_for_a_gpu(tmp_path: Path) -> None:
    run_python("-c", COMPILE, TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path))


def test_a_device_without_kernels_is_told_in_one_sentence() -> None:
    """Not interpreted, the kernels cannot run on the CPU; without triton they cannot run at all."""
    reason = triton_steps.KERNELS.fault(CPU)
    assert reason is not None
    assert reason.endswith(".")
    assert "\n" not in reason
    assert not triton_steps.KERNELS.work_on(CPU)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_kernels_on_a_gpu() -> None:
    assert triton_steps.KERNELS.fault(torch.device("cuda", 0)) is None
