"""Frame-synchronous search through a lexicon graph with scores of a CTC head or a transducer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from zipasr.search.beam_state import fingerprints_of
from zipasr.search.lattice import Lattice, LatticeWriter, segment_reduce
from zipasr.search.lexicon_graph import NONE, Trie, WordGraph
from zipasr.search.protocol import not_finite
from zipasr.search.transducer_step import TransducerSteps


class GraphStates(NamedTuple):
    """Where paths stand, M of them.

    Attributes:
        owners: (M,) utterance.
        nodes: (M,) node of the trie.
        contexts: (M,) context of the grammar.
        memories: (M,) what the sound model remembers, as a number.
    """

    owners: Tensor
    nodes: Tensor
    contexts: Tensor
    memories: Tensor

    def rows(self, rows: Tensor) -> GraphStates:
        """Take some of them."""
        return GraphStates(*(part[rows] for part in self))


class AcousticScorer(Protocol):
    """What a model says to the frames of a batch, and which symbols may follow each other."""

    @property
    def lens(self) -> Tensor:
        """(N,) frames of each utterance."""

    def starts(self, num: int) -> Tensor:
        """What it remembers (num,) before the first frame."""

    def log_probs(self, frame: int, places: GraphStates) -> tuple[Tensor, Tensor]:
        """Log-probabilities (R, V) at a frame, and which row (M,) is that of each place."""

    def waits(self, memories: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Ways to take no new token: who can (places), the symbol, and what is remembered then."""

    def grown(self, memories: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Whether the tokens (M,) may follow, and what is remembered then (M,)."""


@dataclass(frozen=True, slots=True)
class GraphLimits:
    """How much is kept of each frame of an utterance.

    Attributes:
        beam: in nats, below the best.
        max_states: at most so many states.
        max_memories: at most so many different things to remember; ``None`` for any number.
    """

    beam: float
    max_states: int
    max_memories: int | None = None


class GraphArcs(NamedTuple):
    """Steps from the places before a frame: one arc of the lattice each.

    Attributes:
        sources: (A,) place that it comes from.
        places: where it leads.
        tokens: (A,) new token, or ``NONE``.
        words: (A,) word that ends, or ``NONE``.
        sound: (A,) log-probability of the symbol.
        grammar: (A,) float64, what the grammar gives.
    """

    sources: Tensor
    places: GraphStates
    tokens: Tensor
    words: Tensor
    sound: Tensor
    grammar: Tensor

    def rows(self, rows: Tensor) -> GraphArcs:
        """Take some of them."""
        sources, places, *others = self
        return GraphArcs(sources[rows], places.rows(rows), *(part[rows] for part in others))


@torch.no_grad()
def graph_search(sound: AcousticScorer, graph: WordGraph, limits: GraphLimits) -> Lattice:
    """Follow all paths of each utterance that spell words and stay within limits.

    Paths that stand at the same node, context and memory meet in one state; limits see the best of
    them. After each frame go: the states worse by more than the beam than the best of their
    utterance, all but the ``max_states`` best, and all that remember none of the ``max_memories``
    best memories. A path may end where its last word does. Where no path of an utterance ends so,
    all that are there may end, within their words.

    Raises:
        NumericError: the model gives scores that are no numbers.

    Source: Young, Russell and Thornton, "Token passing", 1989; the lattice keeps what meets.
    """
    lens = sound.lens
    num, device = len(lens), lens.device
    zeros = torch.zeros(num, dtype=torch.int64, device=device)
    places = GraphStates(
        torch.arange(num, device=device), zeros, graph.starts(num, device), sound.starts(num)
    )
    scores = torch.zeros(num, dtype=torch.float64, device=device)
    writer = LatticeWriter(num, device, has_words=True)
    ends = []
    for frame in range(int(lens.max()) if num else 0):
        is_over = lens[places.owners] == frame
        ends.append(_ends(graph, places, is_over, num))
        alive = (~is_over).nonzero().squeeze(1)
        moves = _moves(sound, graph, frame, places.rows(alive), scores[alive], limits.beam)
        values = scores[alive][moves.sources] + moves.sound + moves.grammar
        kept, targets, places, scores = _met(moves, values, limits, num)
        labels = (moves.tokens[kept], moves.words[kept])
        given = (moves.sound[kept], moves.grammar[kept])
        alike = fingerprints_of(places.nodes, places.memories)
        writer.frame(alive[moves.sources[kept]], targets, labels, given, places.owners, alike)
    ends.append(_ends(graph, places, torch.ones_like(places.owners, dtype=torch.bool), num))
    return writer.written(ends)


def _ends(graph: WordGraph, places: GraphStates, is_over: Tensor, num: int) -> Tensor:
    """(M,) float64, score of ending in each place; -inf where an utterance goes on."""
    ends = graph.ends(places.nodes, places.contexts).masked_fill(~is_over, -math.inf)
    can_end = torch.zeros(num, dtype=torch.bool, device=ends.device)
    can_end[places.owners[ends > -math.inf]] = True
    return ends.masked_fill(is_over & ~can_end[places.owners], 0.0)


def _moves(
    sound: AcousticScorer,
    graph: WordGraph,
    frame: int,
    places: GraphStates,
    scores: Tensor,
    beam: float,
) -> GraphArcs:
    """List the steps through a frame that may stay within the beam."""
    table, rows = sound.log_probs(frame, places)
    # One symbol tells of all: they come from a softmax.
    if bool(table[rows, 0].isnan().any()):
        raise not_finite()
    waiting = [
        _waiting(places, who, symbols, table[rows[who], symbols], memories)
        for who, symbols, memories in sound.waits(places.memories)
    ]
    floor = torch.full((len(sound.lens),), -math.inf, dtype=torch.float64, device=scores.device)
    for moves in waiting:
        values = scores[moves.sources] + moves.sound
        floor.scatter_reduce_(0, moves.places.owners, values, "amax")
    # The grammar only takes away: what is out of the beam without it need not be asked for.
    sources, arcs, said = _fitting(graph.trie, places.nodes, scores, (floor - beam)[places.owners],
                                   (table, rows))  # fmt: skip
    tokens = graph.trie.tokens[arcs]
    may, memories = sound.grown(places.memories[sources], tokens)
    sources, arcs, tokens, said, memories = (
        part[may] for part in (sources, arcs, tokens, said, memories)
    )
    words = graph.trie.words[arcs]
    rows, grammar, contexts = graph.step(places.contexts[sources], words)
    sources, arcs, tokens, words, said, memories = (
        part[rows] for part in (sources, arcs, tokens, words, said, memories)
    )
    there = GraphStates(places.owners[sources], graph.trie.nodes[arcs], contexts, memories)
    growing = GraphArcs(sources, there, tokens, words, said, grammar)
    return _together([*waiting, growing])


def _fitting(
    trie: Trie, nodes: Tensor, scores: Tensor, floor: Tensor, said: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """List the arcs from ``nodes`` (M,) whose scores are not below ``floor`` (M,).

    Args:
        trie: of the arcs.
        nodes: (M,).
        scores: (M,) before the arcs.
        floor: (M,).
        said: log-probabilities (R, V), and the row (M,) of each node.

    Returns:
        For each arc the place in ``nodes``, its number, and the log-probability of its token.
    """
    table, rows = said
    # Most arcs leave the root, and most of these are hopeless: they are looked at as a block.
    rooted, inside = (nodes == 0).nonzero().squeeze(1), (nodes != 0).nonzero().squeeze(1)
    block = table[:, trie.tokens[: trie.num_root_arcs]][rows[rooted]]
    fits = block >= (floor - scores)[rooted, None]
    who, arcs = fits.nonzero(as_tuple=True)
    others, more = trie.arcs(nodes[inside])
    others = inside[others]
    values = table[rows[others], trie.tokens[more]]
    good = values >= (floor - scores)[others]
    return (
        torch.cat((rooted[who], others[good])),
        torch.cat((arcs, more[good])),
        torch.cat((block[fits], values[good])),
    )


def _waiting(
    places: GraphStates, who: Tensor, symbols: Tensor, said: Tensor, memories: Tensor
) -> GraphArcs:
    none = torch.full_like(symbols, NONE)
    there = places.rows(who)._replace(memories=memories)
    return GraphArcs(who, there, none, none, said, torch.zeros_like(said, dtype=torch.float64))


def _together(moves: list[GraphArcs]) -> GraphArcs:
    places = GraphStates(
        *(torch.cat(parts) for parts in zip(*(m.places for m in moves), strict=True))
    )
    parts = [torch.cat([getattr(one, name) for one in moves]) for name in GraphArcs._fields[2:]]
    return GraphArcs(torch.cat([one.sources for one in moves]), places, *parts)


def _met(
    moves: GraphArcs, values: Tensor, limits: GraphLimits, num: int
) -> tuple[Tensor, Tensor, GraphStates, Tensor]:
    """Let moves to the same place meet, and prune.

    Returns:
        Which moves are kept; where each of them leads, a number of a new state; places (S,) and
        scores (S,) of the new states, by utterance.
    """
    owners = moves.places.owners
    best = segment_reduce(values, owners, num, summed=False)
    inside = (values >= (best - limits.beam)[owners]).nonzero().squeeze(1)
    places, values = moves.places.rows(inside), values[inside]
    found, numbers = torch.unique(fingerprints_of(*places), return_inverse=True)
    scores = segment_reduce(values, numbers, len(found), summed=False)
    example = numbers.new_zeros(len(found)).scatter(
        0, numbers, torch.arange(len(numbers), device=numbers.device)
    )
    states = places.rows(example)
    chosen = _best_of(states, scores, limits)
    place = torch.full_like(found, NONE)
    place[chosen] = torch.arange(len(chosen), device=chosen.device)
    targets = place[numbers]
    is_kept = targets != NONE
    return inside[is_kept], targets[is_kept], states.rows(chosen), scores[chosen]


def _best_of(states: GraphStates, scores: Tensor, limits: GraphLimits) -> Tensor:
    """Which states stay, by utterance, best first."""
    order = scores.argsort(descending=True, stable=True)
    order = order[states.owners[order].argsort(stable=True)]
    order = order[_ranks(states.owners[order]) < limits.max_states]
    if limits.max_memories is None:
        return order
    # Each memory stands where its best state does.
    marks = fingerprints_of(states.owners, states.memories)[order]
    found, numbers = torch.unique(marks, return_inverse=True)
    place = torch.arange(len(order), device=order.device)
    first = torch.full_like(found, len(order)).scatter_reduce(0, numbers, place, "amin")
    firsts = first.sort().values
    rank = torch.empty_like(found)
    rank[first.argsort()] = _ranks(states.owners[order[firsts]])
    return order[rank[numbers] < limits.max_memories]


def _ranks(owners: Tensor) -> Tensor:
    """Place of each (M,) among those of the same owner; ``owners`` are sorted."""
    return torch.arange(len(owners), device=owners.device) - torch.searchsorted(owners, owners)


_BITS = 62  # of a whole number that is not negative, to spare


@dataclass(frozen=True)
class CtcAcousticScorer:
    """A CTC head: it remembers the last token, or that a blank came after it.

    Attributes:
        all_log_probs: (N, T', V), of all frames.
        lens: (N,) valid frames.
        blank_id: id of blank.
    """

    all_log_probs: Tensor
    lens: Tensor
    blank_id: int = 0

    def starts(self, num: int) -> Tensor:
        """Nothing, which is as good as a blank."""
        return torch.full((num,), self.blank_id, device=self.lens.device)

    def log_probs(self, frame: int, places: GraphStates) -> tuple[Tensor, Tensor]:
        """One row for each utterance."""
        return self.all_log_probs[:, frame], places.owners

    def waits(self, memories: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Blank, or the last token once more."""
        everyone = torch.arange(len(memories), device=memories.device)
        blank = torch.full_like(memories, self.blank_id)
        again = (memories != self.blank_id).nonzero().squeeze(1)
        return [(everyone, blank, blank), (again, memories[again], memories[again])]

    def grown(self, memories: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Any token but the last one; that one only after a blank."""
        return memories != tokens, tokens


class TransducerAcousticScorer:
    """A transducer with at most one token a frame: it remembers the last tokens of its context.

    As in ``FastBeamSearch``, it starts from blanks, and the frame of an utterance's end counts
    nothing.

    Args:
        steps: the transducer.
        frames: (N, T', C), encoder output.
        lens: (N,) valid frames.
    """

    def __init__(self, steps: TransducerSteps, frames: Tensor, lens: Tensor) -> None:
        self._steps, self._frames = steps, steps.project(frames)
        self.lens = (lens - 1).clamp(min=0).to(frames.device)
        # A context as one number: as many bits for each of its tokens.
        self._bits = _BITS // steps.context_size

    def starts(self, num: int) -> Tensor:
        """A context of blanks."""
        blanks = torch.full((num, self._steps.context_size), self._steps.blank_id)
        return self._numbers(blanks.to(self.lens.device))

    def log_probs(self, frame: int, places: GraphStates) -> tuple[Tensor, Tensor]:
        """One row for each context of an utterance."""
        pairs = torch.stack((places.owners, places.memories), dim=1)
        found, rows = torch.unique(pairs, dim=0, return_inverse=True)
        shifts = self._bits * torch.arange(self._steps.context_size - 1, -1, -1)
        contexts = (found[:, 1:] >> shifts.to(found.device)) & ((1 << self._bits) - 1)
        predictions = self._steps.predict(contexts)
        return self._steps.next_scores(self._frames[found[:, 0], frame], predictions), rows

    def waits(self, memories: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Blank, which changes nothing."""
        everyone = torch.arange(len(memories), device=memories.device)
        return [(everyone, torch.full_like(memories, self._steps.blank_id), memories)]

    def grown(self, memories: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Any token, which drives out the oldest."""
        mask = (1 << (self._bits * self._steps.context_size)) - 1
        return torch.ones_like(tokens, dtype=torch.bool), ((memories << self._bits) | tokens) & mask

    def _numbers(self, contexts: Tensor) -> Tensor:
        numbers = torch.zeros_like(contexts[:, 0])
        for token in contexts.T:
            numbers = (numbers << self._bits) | token
        return numbers
