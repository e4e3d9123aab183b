"""Edit alignment of words, and the counts it gives.

A word is one of ``units_of``: where a script has no blanks between words, it is a character.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

import kaldialign

from zipasr.text.scripts import is_character, metric_of

GAP = ""
"""Stands where a word has no partner; a word made by splitting text is never empty."""


class AlignedPair(NamedTuple):
    """A word that was said and the word recognised in its place; ``GAP`` where there is none."""

    ref: str
    hyp: str

    @property
    def is_correct(self) -> bool:
        """Whether both words are the same."""
        return self.ref == self.hyp


class WordErrors(NamedTuple):
    """Errors of recognised words against the words that were said.

    Attributes:
        ins: words recognised that nobody said.
        dels: words said that were not recognised.
        subs: words recognised as another word.
        ref_words: words that were said.
        characters: how many of ``ref_words`` are characters of scripts without blanks.
    """

    ins: int
    dels: int
    subs: int
    ref_words: int
    characters: int = 0

    @property
    def metric(self) -> str:
        """Name of the rate: WER; CER where all text is characters; MER where some of it is."""
        return metric_of(self.characters, self.ref_words)

    @property
    def unit(self) -> str:
        """What is counted, for people."""
        return {"WER": "words", "CER": "characters"}.get(self.metric, "words and characters")

    @property
    def total(self) -> int:
        """All errors."""
        return self.ins + self.dels + self.subs

    @property
    def rate(self) -> float:
        """Error rate in percent of ``ref_words``; of one word where nothing was said."""
        return 100.0 * self.total / max(self.ref_words, 1)


def align(ref: Sequence[str], hyp: Sequence[str]) -> list[AlignedPair]:
    """Align two lists of non-empty words with the fewest edits."""
    return [AlignedPair(*pair) for pair in kaldialign.align(ref, hyp, GAP)]


def count_errors(pairs: Iterable[tuple[Sequence[str], Sequence[str]]]) -> WordErrors:
    """Sum the errors over utterances, each a pair of reference words and recognised words."""
    return errors_of(align(ref, hyp) for ref, hyp in pairs)


def errors_of(alignments: Iterable[Sequence[AlignedPair]]) -> WordErrors:
    """Sum the errors over alignments that are already there."""
    ins = dels = subs = ref_words = characters = 0
    for alignment in alignments:
        for pair in alignment:
            ref_words += pair.ref != GAP
            characters += is_character(pair.ref)
            if pair.ref == GAP:
                ins += 1
            elif pair.hyp == GAP:
                dels += 1
            else:
                subs += not pair.is_correct
    return WordErrors(ins, dels, subs, ref_words, characters)


def errors_of_listed(
    alignments: Iterable[Sequence[AlignedPair]], words: Container[str]
) -> tuple[WordErrors, WordErrors]:
    """Sum the errors in the words of a list, and those in all others.

    A pair belongs to the word that was said; an insertion to the word that was recognised.
    """
    listed: list[AlignedPair] = []
    others: list[AlignedPair] = []
    for alignment in alignments:
        for pair in alignment:
            (listed if (pair.ref or pair.hyp) in words else others).append(pair)
    return errors_of([listed]), errors_of([others])
