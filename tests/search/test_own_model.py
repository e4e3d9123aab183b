"""Searches over modules that are not of this library."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from zipasr.base.errors import UserError
from zipasr.search import (
    ContextGraph,
    CtcGreedySearch,
    CtcPrefixBeamSearch,
    FastBeamSearch,
    GreedySearch,
    ModifiedBeamSearch,
    ctc_search,
    transducer_search,
)
from zipasr.search.registry import CtcMethod, TransducerMethod


class LastToken(nn.Embedding):
    """The last token, one-hot."""

    context_size, blank_id = 1, 0

    def __init__(self) -> None:
        super().__init__(5, 5, _weight=torch.eye(5))

    def forward(self, y: Tensor, need_pad: bool = True) -> Tensor:
        return super().forward(y)


class Sum(nn.Module):
    """Logits (..., V): what the frames say, but never the same token twice in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder_proj, self.decoder_proj = nn.Identity(), nn.Identity()

    def forward(self, am: Tensor, lm: Tensor, project_input: bool = False) -> Tensor:
        blank = torch.tensor([9.0, 0.0, 0.0, 0.0, 0.0])
        return am + blank - 30.0 * lm * (blank == 0.0)


def frames_of(tokens: list[int], vocab_size: int = 5) -> Tensor:
    """Frames (1, T', V) at which these symbols are the most probable by far."""
    return 20.0 * nn.functional.one_hot(torch.tensor([tokens]), vocab_size).float()


SPOKEN = frames_of([0, 3, 0, 0, 1, 4, 0])
LENS = torch.tensor([7])


@pytest.mark.parametrize("method", get_args(TransducerMethod))
def test_transducer_methods(method: TransducerMethod) -> None:
    search = transducer_search(LastToken(), Sum(), method=method)
    (found,) = search(SPOKEN, LENS)
    assert found.tokens == [3, 1, 4]
    # Where beam_search joins hypotheses, it keeps the times of the one that it had first.
    assert found.frames == [1, 4, 5] or method == "beam_search"
    assert found.log_prob == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("method", get_args(CtcMethod))
def test_ctc_methods(method: CtcMethod) -> None:
    (found,) = ctc_search(nn.Identity(), method=method)(SPOKEN, LENS)
    assert found.tokens == [3, 1, 4]


def test_settings_reach_the_searches() -> None:
    decoder, joiner = LastToken(), Sum()
    greedy = transducer_search(decoder, joiner, max_sym_per_frame=3, blank_penalty=1.5)
    assert isinstance(greedy, GreedySearch)
    assert (greedy.max_sym_per_frame, greedy.steps.blank_penalty) == (3, 1.5)
    beam = transducer_search(decoder, joiner, method="modified_beam_search", beam_size=7)
    assert isinstance(beam, ModifiedBeamSearch)
    assert beam.beam_size == 7
    fast = transducer_search(decoder, joiner, method="fast_beam_search")
    assert isinstance(fast, FastBeamSearch)
    best = ctc_search(nn.Identity(), temperature=2.0)
    assert isinstance(best, CtcGreedySearch)
    assert best.head.temperature == 2.0
    prefix = ctc_search(nn.Identity(), method="ctc-prefix-beam-search", beam_size=6)
    assert isinstance(prefix, CtcPrefixBeamSearch)
    assert prefix.beam_size == 6


def test_hot_words_have_an_effect() -> None:
    undecided = frames_of([0, 3, 0]) + 19.0 * nn.functional.one_hot(torch.tensor([[0, 2, 0]]), 5)
    lens = torch.tensor([3])
    phrases = ContextGraph([[2]], context_score=3.0)
    for hot_words, expected in ((None, [3]), (phrases, [2])):
        search = transducer_search(
            LastToken(), Sum(), method="modified_beam_search", hot_words=hot_words
        )
        assert search(undecided, lens)[0].tokens == expected


def test_wrong_names_and_numbers_are_told() -> None:
    decoder, joiner = LastToken(), Sum()
    with pytest.raises(
        UserError, match="unknown method 'gredy_search', did you mean 'greedy_search'"
    ):
        transducer_search(decoder, joiner, method="gredy_search")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"choose one of: ctc-greedy-search, "):
        ctc_search(nn.Identity(), method="greedy_search")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="--beam-size must be at least 1"):
        transducer_search(decoder, joiner, beam_size=0)
    with pytest.raises(UserError, match="cannot use the hot-words"):
        transducer_search(decoder, joiner, hot_words=ContextGraph([[2]], context_score=1.0))
