"""Words as a search walks through them: a lexicon as a trie of tokens, a grammar at its ends."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from zipasr.lm.ngram import NgramLm
from zipasr.lm.ngram_table import NgramTable, ngram_table

NONE = -1
"""Stands for no token and for no word."""

_ROOT = 0


@dataclass(frozen=True)
class Trie:
    """A lexicon as a tree: a node is what words begin with, an arc is one token more.

    Words may share beginnings, and whole pronunciations; one word may be the beginning of another.
    The last token of a word leads back to the root, by an arc of its own for each word.

    Attributes:
        first: (D + 1,) where the arcs of each node begin; the root is node 0.
        tokens: (E,) token of each arc.
        nodes: (E,) node it leads to.
        words: (E,) number of the word that ends with it, or ``NONE``.
        num_root_arcs: how many arcs leave the root; they are the first.
    """

    first: Tensor
    tokens: Tensor
    nodes: Tensor
    words: Tensor
    num_root_arcs: int

    def arcs(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """All arcs from ``nodes`` (M,): for each, the place in ``nodes``, and its number."""
        return spread(self.first[nodes], self.first[nodes + 1])

    def to(self, device: torch.device) -> Trie:
        """Return the same on a device."""
        parts = (self.first, self.tokens, self.nodes, self.words)
        first, tokens, nodes, words = (part.to(device) for part in parts)
        return Trie(first, tokens, nodes, words, self.num_root_arcs)


def trie_of(spellings: Iterable[tuple[int, Sequence[int]]]) -> Trie:
    """Build the trie of words, given by number, with the token ids of each.

    Raises:
        ValueError: a word has no tokens.
    """
    children: list[dict[int, int]] = [{}]
    ends: list[dict[int, list[int]]] = [{}]
    for word, tokens in spellings:
        if not tokens:
            raise ValueError(f"word {word} has no tokens")
        node = _ROOT
        for token in tokens[:-1]:
            if token not in children[node]:
                children[node][token] = len(children)
                children.append({})
                ends.append({})
            node = children[node][token]
        here = ends[node].setdefault(tokens[-1], [])
        if word not in here:
            here.append(word)
    first, arcs = [0], []
    for inside, whole in zip(children, ends, strict=True):
        arcs += [(token, child, NONE) for token, child in inside.items()]
        arcs += [(token, _ROOT, word) for token, words in whole.items() for word in words]
        first.append(len(arcs))
    table = torch.tensor(arcs, dtype=torch.int64).view(-1, 3)
    tokens, nodes, words = table.T.contiguous()
    return Trie(torch.tensor(first), tokens, nodes, words, first[1])


class WordSteps(NamedTuple):
    """Ways to read the words (M,) that were asked for, A of them.

    Attributes:
        rows: (A,) place in what was asked.
        scores: (A,) float64, scaled log-probabilities.
        contexts: (A,) contexts after the words.
    """

    rows: Tensor
    scores: Tensor
    contexts: Tensor


@dataclass(frozen=True)
class WordGraph:
    """A lexicon, and a grammar over its words, which counts a word where its last token is.

    A state is a node of the trie and a context of the grammar. What leads from state to state is
    asked for many states at once.

    Attributes:
        words: the words, in the order of their numbers.
        trie: their tokens.
        grammar: its words are ``words``; ``None`` for all words alike.
        scale: weight of its log-probabilities.
    """

    words: Sequence[str]
    trie: Trie
    grammar: NgramTable | None = None
    scale: float = 1.0

    def starts(self, num: int, device: torch.device) -> Tensor:
        """Context (num,) of the first word of each utterance."""
        start = self.grammar.start if self.grammar else 0
        return torch.full((num,), start, dtype=torch.int64, device=device)

    def step(self, contexts: Tensor, words: Tensor) -> WordSteps:
        """Read words (M,) after contexts (M,): one way each, or with back-off arcs several.

        Where there is no word (``NONE``), nothing is added, and the context stays.
        """
        rows = torch.arange(len(words), device=words.device)
        scores = torch.zeros_like(rows, dtype=torch.float64)
        if self.grammar is None:
            return WordSteps(rows, scores, contexts)
        silent, says = rows[words == NONE], rows[words != NONE]
        arcs = self.grammar.arcs(contexts[says], words[says])
        return WordSteps(
            torch.cat((silent, says[arcs.rows])),
            torch.cat((scores[silent], self.scale * arcs.log_probs)),
            torch.cat((contexts[silent], arcs.contexts)),
        )

    def ends(self, nodes: Tensor, contexts: Tensor) -> Tensor:
        """Scaled log-probabilities (M,) float64 of the best end there; -inf inside a word."""
        ends = torch.zeros(len(nodes), dtype=torch.float64, device=nodes.device)
        if self.grammar is not None:
            ends = self.scale * self.grammar.ends(contexts)
        return ends.masked_fill(nodes != _ROOT, -math.inf)

    def finish(self, contexts: Tensor) -> Tensor:
        """Scaled log-probabilities (M,) float64 of the end of the sentence after contexts (M,)."""
        return self.ends(torch.zeros_like(contexts), contexts)

    def scaled(self, scale: float) -> WordGraph:
        """Return the same with another weight of the grammar; all else is shared."""
        return replace(self, scale=scale)

    def to(self, device: torch.device) -> WordGraph:
        """Return the same on a device."""
        grammar = self.grammar.to(device) if self.grammar else None
        return WordGraph(self.words, self.trie.to(device), grammar, self.scale)


def word_graph(
    lexicon: Sequence[tuple[str, Sequence[int]]],
    grammar: NgramLm | None = None,
    scale: float = 1.0,
    *,
    exact_backoff: bool = False,
) -> WordGraph:
    """Build the graph of a lexicon.

    Args:
        lexicon: words with the token ids of each, at least one; a word may come several times.
        grammar: over the words; one that it does not know counts as its ``<unk>``.
        scale: weight of the grammar.
        exact_backoff: no path of the grammar backs off where there is an n-gram.

    Raises:
        ValueError: a word has no tokens.
    """
    words = list(dict.fromkeys(word for word, _ in lexicon))
    numbers = {word: number for number, word in enumerate(words)}
    trie = trie_of((numbers[word], tokens) for word, tokens in lexicon)
    if grammar is None:
        return WordGraph(words, trie, None, scale)
    table = ngram_table(grammar, words, exact_backoff=exact_backoff)
    return WordGraph(words, trie, table, scale)


def spread(first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """List the numbers from ``first`` (M,) to before ``last`` (M,): the place of each, and it."""
    counts = last - first
    places = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    before = counts.cumsum(0) - counts
    within = torch.arange(len(places), device=counts.device) - before[places]
    return places, first[places] + within
