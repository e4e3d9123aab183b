"""Forced alignment against trying all paths, and against torchaudio."""

from __future__ import annotations

from itertools import combinations, groupby, pairwise, product
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.search.tiny import Loops, tiny_batch, tiny_steps
from zipasr.search import forced_alignment
from zipasr.search.forced_alignment import (
    AlignedSpan,
    ctc_alignment,
    ctc_spans,
    transducer_alignment,
)
from zipasr.search.greedy import GreedySearch


def best_path(log_probs: torch.Tensor, tokens: list[int]) -> tuple[int, ...]:
    def collapsed(path: tuple[int, ...]) -> list[int]:
        kept = [p for i, p in enumerate(path) if i == 0 or p != path[i - 1]]
        return [p for p in kept if p != 0]

    num_frames, vocab_size = log_probs.shape
    paths = [p for p in product(range(vocab_size), repeat=num_frames) if collapsed(p) == tokens]
    return max(paths, key=lambda p: float(sum(log_probs[t, v] for t, v in enumerate(p))))


@pytest.mark.parametrize("tokens", [[1], [1, 2], [2, 2], [1, 2, 1]])
def test_spans_are_those_of_the_best_path(tokens: list[int]) -> None:
    torch.manual_seed(len(tokens))
    log_probs = torch.randn(5, 3).log_softmax(dim=-1)
    path = best_path(log_probs, tokens)
    spans = ctc_spans(log_probs, tokens)
    assert spans is not None
    assert len(spans) == len(tokens)
    for token, (start, end) in zip(tokens, spans, strict=True):
        assert set(path[start:end]) == {token}
    assert sum(end - start for start, end in spans) == sum(p != 0 for p in path)


def test_no_tokens_and_too_few_frames() -> None:
    log_probs = torch.zeros(2, 3).log_softmax(dim=-1)
    assert ctc_spans(log_probs, []) == []
    assert ctc_spans(log_probs, [1, 2, 1]) is None
    assert ctc_spans(log_probs, [1, 1]) is None


def total(log_probs: torch.Tensor, path: list[int] | tuple[int, ...]) -> float:
    return float(sum(log_probs[t, v] for t, v in enumerate(path)))


def path_of(num_frames: int, tokens: list[int], spans: list[AlignedSpan]) -> list[int]:
    path = [0] * num_frames
    for token, (start, end, _) in zip(tokens, spans, strict=True):
        path[start:end] = [token] * (end - start)
    return path


@given(
    st.integers(0, 10**6),
    st.sampled_from([[1], [1, 2], [2, 2], [1, 2, 1], [2, 2, 2]]),
    st.integers(5, 6),
    st.booleans(),
)
@settings(max_examples=40)
def test_no_ctc_path_is_better(seed: int, tokens: list[int], frames: int, whole: bool) -> None:
    # Whole numbers make many paths equally good.
    generator = torch.Generator().manual_seed(seed)
    log_probs = -3 * torch.rand(frames, 3, generator=generator)
    log_probs = log_probs.round() if whole else log_probs
    spans = ctc_alignment(log_probs, tokens)
    assert spans is not None
    path = path_of(frames, tokens, spans)
    assert [k for k, _ in groupby(path) if k] == tokens
    assert all(left.end <= right.start for left, right in pairwise(spans))
    best = total(log_probs, best_path(log_probs, tokens))
    assert total(log_probs, path) == pytest.approx(best, abs=1e-5)
    for token, (start, end, log_prob) in zip(tokens, spans, strict=True):
        assert log_prob == pytest.approx(float(log_probs[start:end, token].mean()), abs=1e-5)


@given(
    st.integers(0, 10**6),
    st.lists(st.integers(1, 6), min_size=1, max_size=12),
    st.integers(0, 40),
    st.sampled_from(["any", "whole", "same"]),
)
@pytest.mark.filterwarnings("ignore")  # torchaudio announces the end of its alignment
def test_ctc_alignment_is_that_of_torchaudio(
    seed: int, tokens: list[int], more: int, values: str
) -> None:
    torchaudio = pytest.importorskip("torchaudio.functional")
    num_frames = len(tokens) + sum(a == b for a, b in pairwise(tokens)) + more
    generator = torch.Generator().manual_seed(seed)
    log_probs = (4 * torch.randn(num_frames, 7, generator=generator)).log_softmax(dim=-1)
    log_probs = {"any": log_probs, "whole": log_probs.round(), "same": log_probs[:1] * 0 - 2}[
        values
    ].expand(num_frames, 7)
    path, scores = torchaudio.forced_align(
        log_probs.unsqueeze(0).contiguous(), torch.tensor([tokens], dtype=torch.int32), blank=0
    )
    merged = torchaudio.merge_tokens(path[0], scores[0], blank=0)
    spans = ctc_alignment(log_probs, tokens)
    assert spans is not None
    same = [(one.start, one.end) for one in merged] == [span[:2] for span in spans]
    # Where two moves are equally good and better than to stay, torchaudio stays: there its path is
    # not the best one.
    ours, theirs = path_of(num_frames, tokens, spans), path[0].tolist()
    if total(log_probs, theirs) < total(log_probs, ours) - 1e-6 and values == "whole":
        return
    assert same
    means = [one.score for one in merged]
    assert [span.log_prob for span in spans] == pytest.approx(means, abs=1e-5)


def test_an_impossible_transcript_is_still_laid_out_in_order() -> None:
    log_probs = torch.tensor([[0.0, -torch.inf, -torch.inf]]).expand(4, 3)
    spans = ctc_alignment(log_probs, [1, 2])
    assert spans is not None
    assert [k for k, _ in groupby(path_of(4, [1, 2], spans)) if k] == [1, 2]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("tokens", [[], [3], [1, 1], [2, 1, 3], [1, 2, 3, 1, 2]])
def test_no_path_of_the_transducer_is_better(
    seed: int, tokens: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forced_alignment, "MAX_SCORES", 60)  # several blocks
    steps = tiny_steps(seed, vocab_size=4)
    frames = tiny_batch(seed, [5])[0][0]
    loops = Loops(steps)

    def score(at: tuple[int, ...]) -> list[float]:
        """Log-probability of each symbol of the path that emits at these frames."""
        said: tuple[int, ...] = ()
        scores = []
        for t, frame in enumerate(frames):
            symbol = tokens[len(said)] if t in at else 0
            scores.append(loops.scores(frame, said)[symbol])
            said = (*said, symbol) if symbol else said
        return scores

    best = max(combinations(range(5), len(tokens)), key=lambda at: sum(score(at)))
    spans = transducer_alignment(frames, tokens, steps)
    assert spans is not None
    assert [span.start for span in spans] == list(best)
    assert all(span.end == span.start + 1 for span in spans)
    expected = [score(best)[t] for t in best]
    assert [span.log_prob for span in spans] == pytest.approx(expected, abs=1e-4)


def test_a_transducer_needs_a_frame_for_each_token() -> None:
    frames = tiny_batch(0, [3])[0][0]
    assert transducer_alignment(frames, [1, 2, 3, 1], tiny_steps(0)) is None
    spans = transducer_alignment(frames, [1, 2, 3], tiny_steps(0))
    assert spans is not None
    assert [span.start for span in spans] == [0, 1, 2]


@pytest.mark.parametrize("seed", range(4))
def test_what_greedy_search_found_is_not_less_probable_when_aligned(seed: int) -> None:
    steps, (frames, lens) = tiny_steps(seed), tiny_batch(seed, [20])
    (found,) = GreedySearch(steps)(frames, lens)
    spans = transducer_alignment(frames[0], found.tokens, steps)
    assert spans is not None
    emitted = {span.start: token for span, token in zip(spans, found.tokens, strict=True)}
    said: tuple[int, ...] = ()
    log_prob = 0.0
    for t, frame in enumerate(frames[0]):
        log_prob += Loops(steps).scores(frame, said)[emitted.get(t, 0)]
        said = (*said, emitted[t]) if t in emitted else said
    assert log_prob >= found.log_prob - 1e-3


def test_the_room_does_not_import_torchaudio() -> None:
    sources = Path(forced_alignment.__file__).parent.glob("*.py")
    assert [path.name for path in sources if "torchaudio" in path.read_text("utf-8")] == []
