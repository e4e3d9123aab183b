"""Frame by frame through a graph of words: all paths within a beam, as a lattice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from zipasr.search.hypotheses import fingerprints_of
from zipasr.search.lattice import Lattice, LatticeWriter, gathered
from zipasr.search.word_graph import NONE, Trie, WordGraph


class Places(NamedTuple):
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

    def rows(self, rows: Tensor) -> Places:
        """Take some of them."""
        return Places(*(part[rows] for part in self))


class Sound(Protocol):
    """What a model says to the frames of a batch, and which symbols may follow each other."""

    @property
    def lens(self) -> Tensor:
        """(N,) frames of each utterance."""

    def starts(self, num: int) -> Tensor:
        """What it remembers (num,) before the first frame."""

    def log_probs(self, frame: int, places: Places) -> tuple[Tensor, Tensor]:
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


class Moves(NamedTuple):
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
    places: Places
    tokens: Tensor
    words: Tensor
    sound: Tensor
    grammar: Tensor

    def rows(self, rows: Tensor) -> Moves:
        """Take some of them."""
        sources, places, *others = self
        return Moves(sources[rows], places.rows(rows), *(part[rows] for part in others))


@torch.no_grad()
def graph_search(sound: Sound, graph: WordGraph, limits: GraphLimits) -> Lattice:
    """Follow all paths of each utterance that spell words and stay within limits.

    Paths that stand at the same node, context and memory meet in one state; limits see the best of
    them. After each frame go: the states worse by more than the beam than the best of their
    utterance, all but the ``max_states`` best, and all that remember none of the ``max_memories``
    best memories. A path may end where its last word does. Where no path of an utterance ends so,
    all that are there may end, within their words.

    Source: Young, Russell and Thornton, "Token passing", 1989; the lattice keeps what meets.
    """
    lens = sound.lens
    num, device = len(lens), lens.device
    zeros = torch.zeros(num, dtype=torch.int64, device=device)
    places = Places(torch.arange(num, device=device), zeros, zeros + graph.start, sound.starts(num))
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


def _ends(graph: WordGraph, places: Places, is_over: Tensor, num: int) -> Tensor:
    """(M,) float64, score of ending in each place; -inf where an utterance goes on."""
    ends = graph.ends(places.nodes, places.contexts).masked_fill(~is_over, -math.inf)
    can_end = torch.zeros(num, dtype=torch.bool, device=ends.device)
    can_end[places.owners[ends > -math.inf]] = True
    return ends.masked_fill(is_over & ~can_end[places.owners], 0.0)


def _moves(
    sound: Sound, graph: WordGraph, frame: int, places: Places, scores: Tensor, beam: float
) -> Moves:
    """List the steps through a frame that may stay within the beam."""
    table, rows = sound.log_probs(frame, places)
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
    there = Places(places.owners[sources], graph.trie.nodes[arcs], contexts, memories)
    growing = Moves(sources, there, tokens, words, said, grammar)
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


def _waiting(places: Places, who: Tensor, symbols: Tensor, said: Tensor, memories: Tensor) -> Moves:
    none = torch.full_like(symbols, NONE)
    there = places.rows(who)._replace(memories=memories)
    return Moves(who, there, none, none, said, torch.zeros_like(said, dtype=torch.float64))


def _together(moves: list[Moves]) -> Moves:
    places = Places(*(torch.cat(parts) for parts in zip(*(m.places for m in moves), strict=True)))
    parts = [torch.cat([getattr(one, name) for one in moves]) for name in Moves._fields[2:]]
    return Moves(torch.cat([one.sources for one in moves]), places, *parts)


def _met(
    moves: Moves, values: Tensor, limits: GraphLimits, num: int
) -> tuple[Tensor, Tensor, Places, Tensor]:
    """Let moves to the same place meet, and prune.

    Returns:
        Which moves are kept; where each of them leads, a number of a new state; places (S,) and
        scores (S,) of the new states, by utterance.
    """
    owners = moves.places.owners
    best = gathered(values, owners, num, summed=False)
    inside = (values >= (best - limits.beam)[owners]).nonzero().squeeze(1)
    places, values = moves.places.rows(inside), values[inside]
    found, numbers = torch.unique(fingerprints_of(*places), return_inverse=True)
    scores = gathered(values, numbers, len(found), summed=False)
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


def _best_of(states: Places, scores: Tensor, limits: GraphLimits) -> Tensor:
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
