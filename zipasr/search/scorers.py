"""Scores of tokens beside the model's: sums of several scorers, and hot-words."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from zipasr.search.batched_state import pad_last_dim

ScorerState: TypeAlias = tuple[Tensor, ...]
"""What a scorer remembers of M hypotheses: tensors (M, ...), the same number for every M.

The last dimension of a tensor may grow with the hypotheses; shorter rows are padded.
"""


class TokenScorer(Protocol):
    """Scores of the next token, for many hypotheses at once; a state belongs to one hypothesis."""

    def start(self, num: int, device: torch.device) -> ScorerState:
        """State of ``num`` hypotheses without tokens."""

    def score(self, state: ScorerState, tokens: Tensor) -> Tensor:
        """Scores (M,) of the tokens (M,) that follow, float32."""

    def extend(self, state: ScorerState, tokens: Tensor) -> ScorerState:
        """State after the tokens (M,)."""

    def finish(self, state: ScorerState) -> Tensor:
        """Scores (M,) of ending here, float32."""


@dataclass(frozen=True)
class Sum:
    """Several scorers as one: their scores are added."""

    scorers: Sequence[TokenScorer]

    def start(self, num: int, device: torch.device) -> ScorerState:
        """State of ``num`` hypotheses without tokens."""
        return tuple(part for scorer in self.scorers for part in scorer.start(num, device))

    def score(self, state: ScorerState, tokens: Tensor) -> Tensor:
        """Scores (M,) of the tokens (M,) that follow."""
        total = torch.zeros(tokens.size(0), device=tokens.device)
        for scorer, own in self._parts(state, tokens.device):
            total = total + scorer.score(own, tokens)
        return total

    def extend(self, state: ScorerState, tokens: Tensor) -> ScorerState:
        """State after the tokens (M,)."""
        return tuple(
            part
            for scorer, own in self._parts(state, tokens.device)
            for part in scorer.extend(own, tokens)
        )

    def finish(self, state: ScorerState) -> Tensor:
        """Scores (M,) of ending here."""
        total = torch.zeros(state[0].size(0), device=state[0].device)
        for scorer, own in self._parts(state, total.device):
            total = total + scorer.finish(own)
        return total

    def _parts(
        self, state: ScorerState, device: torch.device
    ) -> list[tuple[TokenScorer, ScorerState]]:
        parts, place = [], 0
        for scorer in self.scorers:
            width = len(scorer.start(0, device))
            parts.append((scorer, state[place : place + width]))
            place += width
        return parts


@dataclass(frozen=True)
class Ranking:
    """A scorer whose sum so far says which hypotheses stay, but is no part of their score."""

    scorer: TokenScorer

    def start(self, num: int, device: torch.device) -> ScorerState:
        """State of ``num`` hypotheses without tokens."""
        return (torch.zeros(num, device=device), *self.scorer.start(num, device))

    def score(self, state: ScorerState, tokens: Tensor) -> Tensor:
        """Nothing (M,)."""
        return torch.zeros_like(tokens, dtype=state[0].dtype)

    def extend(self, state: ScorerState, tokens: Tensor) -> ScorerState:
        """State after the tokens (M,)."""
        total, *own = state
        more = self.scorer.score(tuple(own), tokens)
        return (total + more, *self.scorer.extend(tuple(own), tokens))

    def finish(self, state: ScorerState) -> Tensor:
        """Nothing (M,)."""
        return torch.zeros_like(state[0])


def view_as_beams(state: ScorerState, num: int, slots: int) -> ScorerState:
    """Lay out the state of ``num * slots`` hypotheses as (num, slots, ...)."""
    return tuple(part.view(num, slots, *part.shape[1:]) for part in state)


def scatter_state(state: ScorerState, where: tuple[Tensor, ...], news: ScorerState) -> ScorerState:
    """Return a state in which the hypotheses at the indices ``where`` have another one.

    The tensors of ``state`` are written to.
    """
    pairs = [
        pad_last_dim(pair) if pair[1].dim() > 1 else pair for pair in zip(state, news, strict=True)
    ]
    for part, new in pairs:
        part[where] = new
    return tuple(part for part, _ in pairs)


def scored(scorer: TokenScorer, state: ScorerState, scores: Tensor) -> Tensor:
    """Add to the scores (N, B) of hypotheses what the scorer gives to their end."""
    flat = tuple(part.flatten(0, 1) for part in state)
    return scores + scorer.finish(flat).view_as(scores) if scores.numel() else scores


def sum_scorers(scorers: Sequence[TokenScorer]) -> TokenScorer | None:
    """Return one scorer for several; ``None`` for none."""
    return scorers[0] if len(scorers) == 1 else Sum(tuple(scorers)) if scorers else None


@dataclass(eq=False)
class Node:
    """A prefix of some phrases.

    Attributes:
        token: the last one of the prefix.
        token_score: bonus for that token.
        score: bonus for the whole prefix.
        is_end: whether a phrase ends here.
        output_score: bonus that is kept when the match goes no further: of all phrases that end
            here.
        children: by the next token.
        fail: the longest proper suffix that is a prefix of a phrase.
        output: the longest proper suffix that is a phrase.
    """

    token: int
    token_score: float = 0.0
    score: float = 0.0
    is_end: bool = False
    output_score: float = 0.0
    children: dict[int, Node] = field(default_factory=dict)
    fail: Node | None = None
    output: Node | None = None
    index: int = 0


class Step(NamedTuple):
    """What one token does: its bonus, the node after it, and the phrase that ended, if any."""

    bonus: float
    node: Node
    matched: Node | None


class ContextGraph:
    """Phrases as an automaton.

    Args:
        phrases: token ids of each phrase; an empty one has no effect.
        context_score: bonus for each token.
        scores: bonus for each token of a phrase, instead; 0 stands for ``context_score``.

    The prefix that phrases share has the largest of their bonuses. A node that was there before
    keeps its score when one above it is raised: as in the published graph, results depend on the
    order of the phrases.

    Source: Aho and Corasick, "Efficient string matching", 1975.
    """

    def __init__(
        self,
        phrases: Sequence[Sequence[int]],
        context_score: float,
        scores: Sequence[float] | None = None,
    ) -> None:
        self.root = Node(-1)
        self.root.fail = self.root
        self.nodes = [self.root]
        for phrase, own in zip(phrases, scores or [0.0] * len(phrases), strict=True):
            self._insert(phrase, own or context_score)
        self._link()

    def step(self, node: Node, token: int, *, strict: bool) -> Step:
        """Follow one token.

        Args:
            node: where the match stands.
            token: the next one.
            strict: add the bonus of a phrase once more when it ends, and go on matching; else
                a phrase that ends is settled, and matching begins anew.
        """
        reached = self._reached(node, token)
        bonus = reached.score - node.score
        if reached is node.children.get(token):
            bonus = reached.token_score
        matched = reached if reached.is_end else reached.output
        if strict:
            return Step(bonus + reached.output_score, reached, matched)
        if matched is None:
            return Step(bonus, reached, None)
        return Step(bonus + matched.score - reached.score, self.root, matched)

    def finish(self, node: Node) -> float:
        """Bonus for ending here: what an unfinished match was given is taken back."""
        return -node.score

    def _insert(self, phrase: Sequence[int], score: float) -> None:
        node = self.root
        for place, token in enumerate(phrase, start=1):
            child = node.children.get(token)
            if child is None:
                child = Node(token, token_score=score, index=len(self.nodes))
                node.children[token] = child
                self.nodes.append(child)
            child.token_score = max(child.token_score, score)
            child.score = node.score + child.token_score
            child.is_end = child.is_end or place == len(phrase)
            child.output_score = child.score if child.is_end else 0.0
            node = child

    def _link(self) -> None:
        for node in self._by_depth():
            for token, child in node.children.items():
                suffix = self.root if node is self.root else self._reached(_fail(node), token)
                child.fail = suffix
                child.output = suffix if suffix.is_end else suffix.output
                if child.output is not None:
                    child.output_score += child.output.output_score

    def _by_depth(self) -> Iterator[Node]:
        queue = deque([self.root])
        while queue:
            node = queue.popleft()
            yield node
            queue.extend(node.children.values())

    def _reached(self, node: Node, token: int) -> Node:
        """Return the longest suffix of what was matched, and the token, that is in the graph."""
        while token not in node.children and node is not self.root:
            node = _fail(node)
        return node.children.get(token, self.root)


def _fail(node: Node) -> Node:
    assert node.fail is not None, "the graph is linked breadth-first"
    return node.fail


class HotWords:
    """Scores of a ``ContextGraph``, as a search asks for them.

    Args:
        graph: of the phrases.
        strict: see ``ContextGraph.step``; the published transducer searches use False, the CTC
            prefix search True.
    """

    def __init__(self, graph: ContextGraph, *, strict: bool = False) -> None:
        self.graph = graph
        self.strict = strict
        self._steps: dict[tuple[int, int], Step] = {}

    def start(self, num: int, device: torch.device) -> ScorerState:
        """State of ``num`` hypotheses without tokens: numbers of nodes."""
        return (torch.zeros(num, dtype=torch.int64, device=device),)

    def score(self, state: ScorerState, tokens: Tensor) -> Tensor:
        """Bonuses (M,) of the tokens (M,)."""
        bonuses = [step.bonus for step in self._walk(state, tokens)]
        return torch.tensor(bonuses, dtype=torch.float32, device=tokens.device)

    def extend(self, state: ScorerState, tokens: Tensor) -> ScorerState:
        """State after the tokens (M,)."""
        nodes = [step.node.index for step in self._walk(state, tokens)]
        return (torch.tensor(nodes, dtype=torch.int64, device=tokens.device),)

    def finish(self, state: ScorerState) -> Tensor:
        """Bonuses (M,) of ending here, at most 0."""
        nodes = [self.graph.nodes[index] for index in state[0].tolist()]
        ends = [self.graph.finish(node) for node in nodes]
        return torch.tensor(ends, dtype=torch.float32, device=state[0].device)

    def _walk(self, state: ScorerState, tokens: Tensor) -> list[Step]:
        return [
            self._step(index, token)
            for index, token in zip(state[0].tolist(), tokens.tolist(), strict=True)
        ]

    def _step(self, index: int, token: int) -> Step:
        known = self._steps.get((index, token))
        if known is None:
            known = self.graph.step(self.graph.nodes[index], token, strict=self.strict)
            self._steps[index, token] = known
        return known
