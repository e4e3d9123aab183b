"""Hot-words: phrases with a bonus, as an automaton and as tables."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from zipasr.nn.numerics import to_device
from zipasr.search.scorers import ScorerBase, ScorerState


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
        for node in self.by_depth():
            for token, child in node.children.items():
                suffix = self.root if node is self.root else self._reached(_fail(node), token)
                child.fail = suffix
                child.output = suffix if suffix.is_end else suffix.output
                if child.output is not None:
                    child.output_score += child.output.output_score

    def by_depth(self) -> Iterator[Node]:
        """Yield all nodes, those of shorter prefixes first."""
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


class _HotWordTable(NamedTuple):
    """A ``ContextGraph`` as numbers: where each token leads from each node, and what it gains.

    A bonus is a gain less the score of the node that was left. Most tokens lead from a node where
    they lead from the root, so only the others are listed.

    Attributes:
        keys: (K,) int64, sorted: node times W, plus the token, W tokens; the first is -1.
        targets: (K,) int64, nodes.
        gains: (K,) float64.
        first_targets: (W,) int64, where each token leads from the root; the last is for tokens of
            no phrase.
        first_gains: (W,) float64.
        scores: of each node, float64.
    """

    keys: Tensor
    targets: Tensor
    gains: Tensor
    first_targets: Tensor
    first_gains: Tensor
    scores: Tensor

    @classmethod
    def of(cls, graph: ContextGraph, *, strict: bool) -> _HotWordTable:
        """Build the table; a token leads from a node to where it leads from its longest suffix."""
        num_tokens = 2 + max(node.token for node in graph.nodes)
        known: dict[int, dict[int, tuple[int, float]]] = {}
        for node in graph.by_depth():
            own = {}
            for token in node.children:
                step = graph.step(node, token, strict=strict)
                own[token] = step.node.index, node.score + step.bonus
            is_below_root = node is not graph.root and node.fail is not graph.root
            known[node.index] = {**(known[_fail(node).index] if is_below_root else {}), **own}
        first = known.pop(graph.root.index)
        listed = sorted(
            (index * num_tokens + token, target, gain)
            for index, entries in known.items()
            for token, (target, gain) in entries.items()
        )
        keys, targets, gains = zip((-1, 0, 0.0), *listed, strict=True)
        nowhere = (graph.root.index, 0.0)
        first_targets, first_gains = zip(
            *(first.get(token, nowhere) for token in range(num_tokens)), strict=True
        )
        return cls(
            torch.tensor(keys),
            torch.tensor(targets),
            torch.tensor(gains, dtype=torch.float64),
            torch.tensor(first_targets),
            torch.tensor(first_gains, dtype=torch.float64),
            torch.tensor([node.score for node in graph.nodes], dtype=torch.float64),
        )

    def step(self, nodes: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Bonuses (M,) of the tokens (M,) after the nodes (M,), and the nodes behind them."""
        num_tokens = len(self.first_targets)
        tokens = tokens.clamp(max=num_tokens - 1)
        key = nodes * num_tokens + tokens
        place = torch.searchsorted(self.keys, key).clamp(max=len(self.keys) - 1)
        is_listed = self.keys[place] == key
        gains = torch.where(is_listed, self.gains[place], self.first_gains[tokens])
        targets = torch.where(is_listed, self.targets[place], self.first_targets[tokens])
        return (gains - self.scores[nodes]).float(), targets


class HotWords(ScorerBase):
    """Scores of a ``ContextGraph``, as a search asks for them.

    Args:
        graph: of the phrases.
        strict: see ``ContextGraph.step``; the published transducer searches use False, the CTC
            prefix search True.
    """

    def __init__(self, graph: ContextGraph, *, strict: bool = False) -> None:
        self.graph = graph
        self.strict = strict
        self._table = _HotWordTable.of(graph, strict=strict)

    def start(self, num: int, device: torch.device) -> ScorerState:
        """State of ``num`` hypotheses without tokens: numbers of nodes."""
        self._table = _HotWordTable(*(to_device(part, device) for part in self._table))
        return (torch.zeros(num, dtype=torch.int64, device=device),)

    def step(self, state: ScorerState, tokens: Tensor) -> tuple[Tensor, ScorerState]:
        """Return both: bonuses (M,) of the tokens (M,), and the state after them."""
        bonuses, nodes = self._table.step(state[0], tokens)
        return bonuses, (nodes,)

    def finish(self, state: ScorerState) -> Tensor:
        """Bonuses (M,) of ending here, at most 0: an unfinished match is taken back."""
        return -self._table.scores[state[0]].float()
