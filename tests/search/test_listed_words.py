"""Error rates of words that are hot-words, and of all others, over hand-made logits."""

from __future__ import annotations

import random
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from zipasr.scoring.word_errors import align, errors_of_listed
from zipasr.search import ContextGraph, transducer_search

STARTS, ENDS = range(1, 9), range(9, 25)
SIZE = 25
#: Words are two tokens: one that begins words, and one that does not.
LISTED, ABSENT, OTHERS = (
    list(product(starts, ends))
    for starts, ends in ((STARTS[:4], ENDS[:3]), (STARTS[:4], ENDS[3:6]), (STARTS[4:], ENDS[6:]))
)


class Nothing(nn.Module):
    """A decoder that has no influence."""

    context_size, blank_id = 1, 0

    def forward(self, y: Tensor, need_pad: bool = True) -> Tensor:
        return torch.zeros(*y.shape, SIZE)


class FramesAlone(nn.Module):
    """Logits (..., V) are the frames."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder_proj, self.decoder_proj = nn.Identity(), nn.Identity()

    def forward(self, am: Tensor, lm: Tensor, project_input: bool = False) -> Tensor:
        return am + lm


def frames_of(words: list[tuple[int, int]], draws: random.Random) -> Tensor:
    """Return logits (1, T', V): a frame for each token.

    At half of the listed words an end of none of them is more probable by 1.5. At every other word
    the start of a listed word is less probable by about 1: its bonus wins until the next token.
    """
    frames = []
    for start, end in words:
        first, second = (torch.full((SIZE,), -12.0) for _ in range(2))
        first[start], second[end] = 0.0, 0.0
        if (start, end) in LISTED:
            if draws.random() < 0.5:
                second[draws.choice(ENDS[6:])] = 1.5
        else:
            first[draws.choice(LISTED)[0]] = -draws.uniform(0.8, 1.2)
        frames += [first, second]
    return torch.stack(frames)[None]


def words_of(tokens: list[int]) -> list[str]:
    """Join tokens to words, which begin with each start."""
    words: list[str] = []
    for token in tokens:
        if token in STARTS or not words:
            words.append("")
        words[-1] += chr(ord("A") + token)
    return words


def rates(phrases: list[tuple[int, int]]) -> tuple[float, float]:
    """Return B-WER and U-WER in percent of 60 utterances."""
    draws = random.Random(1)
    graph = ContextGraph([[*phrase] for phrase in phrases], 2.0) if phrases else None
    search = transducer_search(
        Nothing(), FramesAlone(), method="modified_beam_search", hot_words=graph
    )
    alignments = []
    for _ in range(60):
        said = [draws.choice(LISTED if draws.random() < 0.3 else OTHERS) for _ in range(8)]
        frames = frames_of(said, draws)
        (found,) = search(frames, torch.tensor([frames.size(1)]))
        reference = words_of([token for word in said for token in word])
        alignments.append(align(reference, words_of(found.tokens)))
    listed, others = errors_of_listed(alignments, {words_of([*word])[0] for word in LISTED})
    return listed.rate, others.rate


def test_listed_words_gain_and_others_lose_next_to_nothing() -> None:
    biased, unbiased = rates([])
    for phrases in (LISTED, [*LISTED, *ABSENT]):
        b_wer, u_wer = rates(phrases)
        assert b_wer <= 0.5 * biased
        assert u_wer <= unbiased + 0.1
    assert biased == pytest.approx(50, abs=10)
