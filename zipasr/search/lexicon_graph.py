"""Words as a search walks through them: a lexicon as a trie of tokens, a grammar at its ends."""

from __future__ import annotations

import itertools
import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zipasr.lm.ngram import NgramLm, Places
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
    """

    first: Tensor
    tokens: Tensor
    nodes: Tensor
    words: Tensor


def trie_of(spellings: Iterable[tuple[int, Sequence[int]]]) -> Trie:
    """Build the trie of words, given by number, with the token ids of each.

    Raises:
        ValueError: a word has no tokens.
    """
    words, tokens, lens = _columns(spellings)
    if not lens.all():
        raise ValueError(f"word {words[lens == 0][0]} has no tokens")
    width = int(tokens.max(initial=0)) + 1
    starts = lens.cumsum() - lens
    at, here = np.zeros_like(words), np.arange(len(words))
    arcs, num_nodes = [], 1
    for depth in itertools.count(1):
        token = tokens[starts[here] + depth - 1]
        is_last = lens[here] == depth
        last = (part[is_last] for part in (at, token, words[here], here))
        arcs.append(_ends_of(np.stack([*last]), width))
        at, token, here = at[~is_last], token[~is_last], here[~is_last]
        if not len(here):
            break
        found, once, which = np.unique(at * width + token, return_index=True, return_inverse=True)
        nodes, none = num_nodes + np.arange(len(found)), np.full_like(found, NONE)
        arcs.append(np.stack((*np.divmod(found, width), nodes, none, here[once], none)))
        at, num_nodes = nodes[which], num_nodes + len(found)
    table = np.concatenate(arcs, axis=1)
    # Within a node in the order of the words: first what goes on, then by token what ends.
    table = table[:, np.lexsort((table[5], table[4], table[3] != NONE, table[0]))]
    first = torch.from_numpy(table[0].searchsorted(np.arange(num_nodes + 1)))
    columns = (torch.from_numpy(row.copy()) for row in table[1:4])
    return Trie(first, *columns)


def _ends_of(ends: Places, width: int) -> Places:
    """Arcs (6, A) with the last tokens of words; their order comes last."""
    at, token, word, order = ends
    pairs = np.stack((at * width + token, word))
    _, once = np.unique(pairs, axis=1, return_index=True)
    _, first, which = np.unique(pairs[0], return_index=True, return_inverse=True)
    root = np.full_like(at, _ROOT)
    return np.stack((at, token, root, word, order[first][which.ravel()], order))[:, once]


def _columns(spellings: Iterable[tuple[int, Sequence[int]]]) -> tuple[Places, Places, Places]:
    """Words, the tokens of all one after the other, and how many each has."""
    words, tokens, lens = array("q"), array("q"), array("q")
    for word, ids in spellings:
        words.append(word)
        tokens.extend(ids)
        lens.append(len(ids))
    columns = (np.array(column, dtype=np.int64) for column in (words, tokens, lens))
    return next(columns), next(columns), next(columns)


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

    @property
    def start(self) -> int:
        """Context of the first word."""
        return self.grammar.start if self.grammar else 0

    def starts(self, num: int, device: torch.device) -> Tensor:
        """Context (num,) of the first word of each utterance."""
        return torch.full((num,), self.start, dtype=torch.int64, device=device)

    def step(self, contexts: Tensor, words: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Read words (M,) after contexts (M,): one way each, or with back-off arcs several.

        Returns:
            For each way the place (A,) in what was asked, its score (A,) float64, and the context
            (A,) after the word.
        """
        if self.grammar is None:
            rows = torch.arange(len(words), device=words.device)
            return rows, torch.zeros_like(rows, dtype=torch.float64), contexts
        rows, log_probs, after = self.grammar.arcs(contexts, words)
        return rows, self.scale * log_probs, after

    def grammar_arrays(self) -> tuple[Any, ...]:
        """The grammar as ``zipasr.kernels.numba.word_search`` takes it."""
        if self.grammar is None:
            ids, values = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
            links = ids.astype(np.int32)
            return ids, ids, values, links, values, links, ids, 0, False, 1.0
        one = self.grammar
        tables = (one.keys, one.log_probs, one.contexts, one.backoffs, one.shorter, one.words)
        arrays = (table.numpy() for table in tables)
        return one.first_keys, *arrays, one.num_words, one.exact_backoff, float(self.scale)

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
