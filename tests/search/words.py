"""A small lexicon and grammar, and what searches find among all sentences written down."""

from __future__ import annotations

import math
from itertools import groupby, product
from typing import NamedTuple

import torch

from tests.lm.dictionary import lm_of
from zipasr.lm.ngram import NgramLm

from .tiny import log_add

# One word begins another, two are said alike, one is said in two ways, [1, 2] is read twice, and
# the grammar does not know "dab".
LEXICON = [
    ("a", [1]), ("b", [2]), ("ab", [1, 2]), ("bee", [2]), ("ab", [3, 3]), ("cab", [3, 1]),
    ("dab", [1, 1]),
]  # fmt: skip
GRAMMAR = lm_of(
    {
        ("<s>",): -99.0, ("</s>",): -0.9, ("a",): -0.7, ("b",): -1.1, ("ab",): -0.6,
        ("bee",): -1.0, ("cab",): -0.8, ("<unk>",): -1.5,
        ("<s>", "a"): -0.2, ("a", "bee"): -0.1, ("bee", "</s>"): -0.5,
    },
    {("<s>",): -0.3, ("a",): -0.2, ("b",): -0.1, ("bee",): -0.4, ("<unk>",): -0.1},
    2,
)  # fmt: skip
OTHER = lm_of(
    {
        ("<s>",): -99.0, ("</s>",): -0.7, ("a",): -1.7, ("b",): -0.4, ("ab",): -1.3,
        ("bee",): -0.9, ("cab",): -0.3, ("dab",): -0.8,
        ("b", "b"): -0.1, ("<s>", "b"): -0.9, ("cab", "</s>"): -1.4,
    },
    {("<s>",): -0.1, ("b",): -0.6, ("cab",): -0.2},
    2,
)  # fmt: skip


class Spoken(NamedTuple):
    """Logarithms of a sentence's probability: the sum of all alignments, and the best."""

    total: float
    best: float


def every_sentence(num_tokens: int) -> dict[tuple[int, ...], set[tuple[str, ...]]]:
    """Token sequences of up to some length that spell words, and the sentences that each spells."""
    found: dict[tuple[int, ...], set[tuple[str, ...]]] = {}
    for num_words in range(num_tokens + 1):
        for chosen in product(LEXICON, repeat=num_words):
            tokens = tuple(token for _, spelling in chosen for token in spelling)
            if len(tokens) <= num_tokens:
                found.setdefault(tokens, set()).add(tuple(word for word, _ in chosen))
    return found


def by_sentence(alignments: list[tuple[tuple[int, ...], float]]) -> dict[tuple[str, ...], Spoken]:
    """What is said to each sentence by alignments: the tokens and log-probability of each."""
    readings = every_sentence(max(len(tokens) for tokens, _ in alignments))
    found: dict[tuple[str, ...], Spoken] = {}
    for tokens, value in alignments:
        for words in readings.get(tokens, ()):
            total, best = found.get(words, (-math.inf, -math.inf))
            found[words] = Spoken(log_add(total, value), max(best, value))
    return found


def ctc_sentences(log_probs: torch.Tensor) -> dict[tuple[str, ...], Spoken]:
    """What a CTC head says to each sentence: log-probabilities (T, V) of all frames."""
    alignments = []
    for path in product(range(log_probs.size(1)), repeat=len(log_probs)):
        tokens = tuple(symbol for symbol, _ in groupby(path) if symbol != 0)
        alignments.append((tokens, sum(log_probs[t, s].item() for t, s in enumerate(path))))
    return by_sentence(alignments)


def with_grammar(
    spoken: dict[tuple[str, ...], Spoken], grammar: NgramLm, scale: float
) -> dict[tuple[str, ...], Spoken]:
    """Add the weighted grammar, ends included."""
    given = {words: scale * grammar.sentence(words) for words in spoken}
    return {words: Spoken(*(one + given[words] for one in spoken[words])) for words in spoken}
