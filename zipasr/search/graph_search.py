"""Frame-synchronous search through a lexicon graph with scores of a CTC head or a transducer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zipasr.lm.ngram import Floats, Places
from zipasr.search.lattice import Lattice
from zipasr.search.lexicon_graph import NONE, WordGraph
from zipasr.search.partial_lattice import PartialLattice
from zipasr.search.protocol import not_finite
from zipasr.search.transducer_step import TransducerSteps

Doubles: TypeAlias = NDArray[np.float64]


class Memory(NamedTuple):
    """What a sound model remembers: the last tokens of a path, as one number.

    Attributes:
        bits: of each token.
        size: how many tokens.
        repeats: whether a token may go on for more frames; then it may not follow itself at once.
        blank_id: id of blank, which also fills the memory at the start. With ``repeats`` it takes
            the place of the token.
    """

    bits: int
    size: int
    repeats: bool
    blank_id: int

    @property
    def start(self) -> int:
        """A memory of blanks."""
        return sum(self.blank_id << (self.bits * place) for place in range(self.size))


class AcousticScorer(Protocol):
    """What a model says to the frames of a batch, and which symbols may follow each other."""

    @property
    def lens(self) -> Tensor:
        """(N,) frames of each utterance, on the CPU."""

    @property
    def memory(self) -> Memory:
        """What it remembers."""

    def log_probs(self, frame: int, owners: Places, memories: Places) -> tuple[Tensor, Places]:
        """Log-probabilities (R, V) at a frame, and which row (S,) is that of each state."""


@dataclass(frozen=True, slots=True)
class GraphLimits:
    """How much is kept of each frame of an utterance.

    Attributes:
        beam: in nats, below the best.
        max_states: at most so many states.
        max_memories: at most so many different things to remember; ``None`` for any number.
        output_beam: the lattice has the arcs of paths that are at most so much worse than the best
            of the utterance.
    """

    beam: float
    max_states: int
    max_memories: int | None = None
    output_beam: float = math.inf


@torch.no_grad()
def graph_search(sound: AcousticScorer, graph: WordGraph, limits: GraphLimits) -> Lattice:
    """Follow all paths of each utterance that spell words and stay within limits.

    Paths that stand at the same node, context and memory meet in one state; limits see the best of
    them. After each frame go: the states worse by more than the beam than the best of their
    utterance, all but the ``max_states`` best, and all that remember none of the ``max_memories``
    best memories. A path may end where its last word does. Where no path of an utterance ends so,
    all that are there may end, within their words.

    The model computes where it is, the search on the CPU.

    Raises:
        NumericError: the model gives scores that are no numbers.

    Source: Young, Russell and Thornton, "Token passing", 1989; the lattice keeps what meets.
    """
    lens = sound.lens.numpy()
    num = len(lens)
    states = np.zeros((num, 4), dtype=np.int64)
    states[:, 0] = np.arange(num)
    states[:, 2], states[:, 3] = graph.start, sound.memory.start
    scores = np.zeros(num)
    lattice = PartialLattice(states, limits.output_beam)
    step = _FrameSearch(sound.memory, graph, limits)
    for frame in range(int(lens.max(initial=0))):
        is_over = lens[states[:, 0]] == frame
        some_end = bool(is_over.any())
        if some_end:
            lattice.end(_ends(graph, states, is_over))
            alive = np.flatnonzero(~is_over)
            states, scores = states[alive], scores[alive]
        table, rows = sound.log_probs(frame, states[:, 0], states[:, 3])
        # One symbol tells of all: they come from a softmax.
        if bool(table[:, 0].isnan().any()):
            raise not_finite()
        arcs, given, states, scores = step(states, scores, table.float().cpu().numpy(), rows)
        if some_end:
            arcs[:, 0] = alive[arcs[:, 0]]
        lattice.frame(arcs, given, states, scores)
    lattice.end(_ends(graph, states, np.ones(len(states), dtype=np.bool_)))
    return lattice.written()


def _ends(graph: WordGraph, states: Places, is_over: NDArray[np.bool_]) -> Floats:
    """(S,) float64, score of ending in each state; -inf where an utterance goes on."""
    ends = torch.full((len(states),), -math.inf, dtype=torch.float64)
    over = torch.from_numpy(np.flatnonzero(is_over))
    if len(over):
        owners, nodes, contexts, _ = torch.from_numpy(states)[over].T
        ends[over] = graph.ends(nodes, contexts)
        can_end = torch.zeros(int(owners.max()) + 1, dtype=torch.bool)
        can_end[owners[ends[over] > -math.inf]] = True
        ends[over[~can_end[owners]]] = 0.0
    found: Floats = ends.numpy()
    return found


class _FrameSearch:
    """Steps through frames by the compiled loop, with room for what they find.

    Args:
        memory: of the model.
        graph: of the words.
        limits: what is kept.
    """

    def __init__(self, memory: Memory, graph: WordGraph, limits: GraphLimits) -> None:
        self._loop = import_module("zipasr.kernels.numba.word_search").search_frame
        most = -1 if limits.max_memories is None else limits.max_memories
        trie = graph.trie
        self._given = (
            (trie.first.numpy(), trie.tokens.numpy(), trie.nodes.numpy(), trie.words.numpy()),
            graph.grammar_arrays(),
            (memory.bits, (1 << memory.bits * memory.size) - 1, memory.repeats, memory.blank_id),
            (float(limits.beam), limits.max_states, most),
        )
        self._room = _room(1 << 12)

    def __call__(
        self, states: Places, scores: Doubles, table: Floats, rows: Places
    ) -> tuple[Places, Doubles, Places, Doubles]:
        """Return arcs (A, 5), what they give (A, 2), and the states (S, 4) and scores (S,) after.

        Args:
            states: (S, 4) utterance, node, context and memory.
            scores: (S,).
            table: (R, V) log-probabilities.
            rows: (S,) row of each state.
        """
        while True:
            found = self._loop(states, scores, table, rows, *self._given, self._room)
            num_arcs, num_states = found.tolist()
            if num_arcs >= 0:
                break
            self._room = _room(2 * len(self._room[0]))
        arcs, values, after, best = self._room[:4]
        return (
            arcs[:num_arcs].copy(),
            values[:num_arcs].copy(),
            after[:num_states].copy(),
            best[:num_states].copy(),
        )


def _room(num: int) -> tuple[NDArray[Any], ...]:
    """Arrays for so many arcs and states."""
    return (
        np.empty((num, 5), dtype=np.int64),
        np.empty((num, 2)),
        np.empty((num, 4), dtype=np.int64),
        np.empty(num),
        np.full(2 * num, NONE, dtype=np.int32),
        np.empty(num, dtype=np.int32),
    )


_BITS = 62  # of a whole number that is not negative, to spare


class CtcAcousticScorer:
    """A CTC head: it remembers the last token, or that a blank came after it.

    Args:
        log_probs: (N, T', V), of all frames.
        lens: (N,) valid frames.
        blank_id: id of blank.
    """

    def __init__(self, log_probs: Tensor, lens: Tensor, blank_id: int = 0) -> None:
        self._log_probs, self.lens = log_probs.cpu(), lens.cpu()
        self.memory = Memory(_BITS, 1, True, blank_id)

    def log_probs(self, frame: int, owners: Places, _: Places) -> tuple[Tensor, Places]:
        """One row for each utterance that goes on."""
        is_first = np.diff(owners, prepend=-1) != 0  # those of an utterance stand together
        there = torch.from_numpy(owners[is_first])
        return self._log_probs[there, frame], is_first.cumsum() - 1


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
        self.lens = (lens - 1).clamp(min=0).cpu()
        size = steps.context_size
        self.memory = Memory(_BITS // size, size, False, steps.blank_id)

    def log_probs(self, frame: int, owners: Places, memories: Places) -> tuple[Tensor, Places]:
        """One row for each context of an utterance."""
        bits, size, *_ = self.memory
        found, rows = np.unique(np.stack((owners, memories)), axis=1, return_inverse=True)
        shifts = bits * np.arange(size - 1, -1, -1)
        contexts = (found[1][:, None] >> shifts) & ((1 << bits) - 1)
        device = self._frames.device
        predictions = self._steps.predict(torch.from_numpy(contexts).to(device))
        there = torch.from_numpy(found[0]).to(device)
        return self._steps.next_scores(self._frames[there, frame], predictions), rows.ravel()
