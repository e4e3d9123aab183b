"""Alignment with the CTC head against trying all paths."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from zipasr.search.alignment import ctc_spans


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
