"""Lattices: states and arcs a search kept, sums and maxima over them, best and random paths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from zipasr.search.beam_state import extend_fingerprints
from zipasr.search.lexicon_graph import NONE
from zipasr.search.protocol import not_finite


@dataclass(frozen=True)
class Lattice:
    """Paths of N utterances, frame by frame.

    States are numbered through: first the start of each utterance, then those after its first
    frame, and so on. An arc leads from a state to one after the next frame. An utterance ends with
    its last frame, where its states are final.

    Attributes:
        sources: (A,) state that each arc comes from; arcs stand in the order of the frames.
        targets: (A,) state that it leads to.
        tokens: (A,) token that it emits, or ``NONE``.
        words: (A,) number of the word that ends with it, or ``NONE``; ``None`` for no words.
        sound: (A,) float64, log-probability that the model gives.
        grammar: (A,) float64, scaled log-probability of the grammar.
        owners: (S,) utterance of each state.
        ends: (S,) float64, what the grammar gives to an end in this state; -inf for no end.
        alike: (S,) equal for states of an utterance and frame that differ in what the grammar
            remembers alone.
        arc_splits: where the arcs of each frame begin, and the end of the last.
        state_splits: where the states before each frame begin, and the end of those after the last.
    """

    sources: Tensor
    targets: Tensor
    tokens: Tensor
    words: Tensor | None
    sound: Tensor
    grammar: Tensor
    owners: Tensor
    ends: Tensor
    alike: Tensor
    arc_splits: list[int]
    state_splits: list[int]

    @property
    def num_frames(self) -> int:
        """Frames of the longest utterance."""
        return len(self.arc_splits) - 1

    @property
    def num_utterances(self) -> int:
        """N; as many states are starts."""
        return self.state_splits[1]

    @property
    def labels(self) -> Tensor:
        """(A,) what tells results apart: words where there are some, else tokens."""
        return self.tokens if self.words is None else self.words

    @property
    def scores(self) -> Tensor:
        """(A,) of model and grammar together."""
        return self.sound + self.grammar

    def arcs_of(self, frame: int) -> slice:
        """Which arcs lead through a frame."""
        return slice(self.arc_splits[frame], self.arc_splits[frame + 1])

    def states_before(self, frame: int) -> slice:
        """Which states are before a frame."""
        return slice(self.state_splits[frame], self.state_splits[frame + 1])

    def arrivals(self, scores: Tensor, *, summed: bool) -> Tensor:
        """(S,) score of all paths from the start to each state, added up, or of the best one."""
        found = torch.full_like(self.ends, -math.inf)
        found[: self.num_utterances] = 0.0
        for frame in range(self.num_frames):
            arcs, after = self.arcs_of(frame), self.states_before(frame + 1)
            values = found[self.sources[arcs]] + scores[arcs]
            found[after] = segment_reduce(
                values, self.targets[arcs] - after.start, after.stop - after.start, summed=summed
            )
        return found

    def departures(self, scores: Tensor, ends: Tensor, *, summed: bool) -> Tensor:
        """(S,) score of all paths from each state to an end, added up, or of the best one.

        ``scores`` (A, ...) and ``ends`` (S, ...) may be of several settings at once.
        """
        found = ends.clone()
        for frame in reversed(range(self.num_frames)):
            arcs, before = self.arcs_of(frame), self.states_before(frame)
            values = scores[arcs] + found[self.targets[arcs]]
            onward = segment_reduce(
                values, self.sources[arcs] - before.start, before.stop - before.start, summed=summed
            )
            found[before] = torch.maximum(found[before], onward)
        return found

    def within(self, beam: float) -> Lattice:
        """Keep the arcs of paths that are at most so much worse than the best of the utterance."""
        scores = self.scores
        before = self.arrivals(scores, summed=False)
        behind = self.departures(scores, self.ends, summed=False)
        through = before[self.sources] + scores + behind[self.targets]
        # A little more than exactly: rounding must not take the best path away.
        floor = behind[self.owners[self.sources]] - beam - 1e-6
        return self._only((through >= floor) & (through > -math.inf))

    def _only(self, keep: Tensor) -> Lattice:
        counts = torch.cat((keep.new_zeros(1, dtype=torch.int64), keep.cumsum(0)))
        splits = counts[torch.tensor(self.arc_splits, device=keep.device)].tolist()
        return replace(
            self,
            sources=self.sources[keep],
            targets=self.targets[keep],
            tokens=self.tokens[keep],
            words=None if self.words is None else self.words[keep],
            sound=self.sound[keep],
            grammar=self.grammar[keep],
            arc_splits=splits,
        )


def segment_reduce(values: Tensor, places: Tensor, size: int, *, summed: bool) -> Tensor:
    """Bring log-probabilities (A, ...) to their places (``size``, ...): added up, or the largest.

    Places (A,) that get nothing have -inf.
    """
    shape = (size, *values.shape[1:])
    nothing = torch.full(shape, -math.inf, dtype=values.dtype, device=values.device)
    spread = places.view(-1, *(1 for _ in shape[1:])).expand_as(values)
    largest = nothing.scatter_reduce(0, spread, values, "amax")
    if not summed:
        return largest
    base = largest.clamp(min=torch.finfo(values.dtype).min)
    shares = (values - base[places]).exp()
    return base + torch.zeros_like(nothing).index_add(0, places, shares).log()


@dataclass
class LatticeWriter:
    """Collects the arcs and states of a lattice while a search runs.

    Args:
        num_utterances: N.
        device: where the tensors are.
        has_words: whether arcs carry words.
    """

    num_utterances: int
    device: torch.device
    has_words: bool = False

    def __post_init__(self) -> None:
        self._arcs: list[tuple[Tensor, ...]] = []
        self._owners = [torch.arange(self.num_utterances, device=self.device)]
        self._alike = [torch.zeros_like(self._owners[0])]
        self._arc_splits, self._state_splits = [0], [0, self.num_utterances]

    def frame(
        self,
        sources: Tensor,
        targets: Tensor,
        labels: tuple[Tensor, Tensor | None],
        scores: tuple[Tensor, Tensor | None],
        owners: Tensor,
        alike: Tensor | None = None,
    ) -> None:
        """Add the arcs of one frame, and the states after it.

        Args:
            sources: (A,) counted from the first of the states before the frame.
            targets: (A,) counted from the first of the states after it.
            labels: (A,) tokens; (A,) words, if there are any.
            scores: (A,) of the model; (A,) of the grammar, if there is one.
            owners: (S,) utterance of each state after the frame.
            alike: (S,) see ``Lattice``; ``None`` where no two states are.
        """
        first, new = self._state_splits[-2], self._state_splits[-1]
        sound = scores[0].double()
        grammar = torch.zeros_like(sound) if scores[1] is None else scores[1]
        words = () if labels[1] is None else (labels[1],)
        self._arcs.append((sources + first, targets + new, labels[0], sound, grammar, *words))
        self._owners.append(owners)
        own = torch.arange(len(owners), device=self.device)
        self._alike.append(own if alike is None else alike)
        self._arc_splits.append(self._arc_splits[-1] + len(sources))
        self._state_splits.append(new + len(owners))

    def written(self, ends: Sequence[Tensor]) -> Lattice:
        """Return the lattice; ``ends`` are of the states before each frame, then of the last.

        Raises:
            NumericError: a score is no number, so that no path is the best.
        """
        columns = [torch.cat(parts) for parts in zip(*self._arcs, strict=True)]
        if not columns:
            none = torch.zeros(0, dtype=torch.int64, device=self.device)
            columns = [none, none, none, none.double(), none.double(), none]
        sources, targets, tokens, sound, grammar, *words = columns
        if bool((sound + grammar).isnan().any()):
            raise not_finite()
        return Lattice(
            sources,
            targets,
            tokens,
            words[0] if self.has_words else None,
            sound,
            grammar,
            torch.cat(self._owners),
            torch.cat(list(ends)),
            torch.cat(self._alike),
            self._arc_splits,
            self._state_splits,
        )


class NbestPath(NamedTuple):
    """What one or more paths recognised: labels, tokens, and the frame of each token."""

    labels: tuple[int, ...]
    tokens: list[int]
    frames: list[int]


# Of the draws: equal for every utterance, so that what is drawn does not depend on the batch.
_SEED = 20220101


def best_paths(lattice: Lattice) -> Tensor:
    """Arcs (N, T') of the best path of each utterance; ``NONE`` after its end.

    An utterance without any path has none of them.
    """
    return best_paths_by(lattice, lattice.scores[:, None], lattice.ends[:, None])[:, 0]


def best_paths_by(lattice: Lattice, scores: Tensor, ends: Tensor) -> Tensor:
    """Arcs (N, K, T') of the best paths under K settings; ``NONE`` after an end.

    Args:
        lattice: of the paths.
        scores: (A, K) of its arcs.
        ends: (S, K) of ending in its states.
    """
    onward = lattice.departures(scores, ends, summed=False)
    settings = torch.arange(scores.size(1), device=scores.device)
    starts = torch.arange(lattice.num_utterances, device=scores.device)
    states = starts[:, None].repeat(1, len(settings))
    path = states.new_full((*states.shape, lattice.num_frames), NONE)
    for frame in range(lattice.num_frames):
        arcs, before = lattice.arcs_of(frame), lattice.states_before(frame)
        sources, targets = lattice.sources[arcs], lattice.targets[arcs]
        is_best = scores[arcs] + onward[targets] == onward[sources]
        arc, setting = (is_best & (onward[sources] > -math.inf)).nonzero(as_tuple=True)
        chosen = states.new_full((before.stop - before.start, len(settings)), NONE)
        chosen[sources[arc] - before.start, setting] = arc + arcs.start
        is_here = (states >= before.start) & (states < before.stop)
        places = (states - before.start).clamp(0, len(chosen) - 1)
        taken = torch.where(is_here, chosen[places, settings], NONE)
        states = torch.where(taken == NONE, states, lattice.targets[taken.clamp(min=0)])
        path[:, :, frame] = taken
    return path


def random_paths(lattice: Lattice, num: int, scale: float) -> Tensor:
    """Arcs (N, num, T') of ``num`` paths of each utterance; ``NONE`` after its end.

    The first is the best path. The others are drawn, each with a probability in proportion to
    exp(``scale`` times its score): with a smaller scale they differ more. The same lattice gives
    the same paths.
    """
    best = best_paths(lattice)[:, None]
    scores, ends = scale * lattice.scores, scale * lattice.ends
    onward = lattice.departures(scores, ends, summed=True)
    starts = torch.arange(lattice.num_utterances, device=scores.device)
    states = starts[:, None].repeat(1, num - 1)
    path = states.new_full((*states.shape, lattice.num_frames), NONE)
    generator = torch.Generator().manual_seed(_SEED)
    for frame in range(lattice.num_frames):
        arcs = lattice.arcs_of(frame)
        sources, order = lattice.sources[arcs].sort(stable=True)
        share = scores[arcs] + onward[lattice.targets[arcs]] - onward[lattice.sources[arcs]]
        grown = share.nan_to_num(nan=-math.inf).exp()[order].cumsum(0)
        chance = torch.rand(num - 1, generator=generator, dtype=torch.float64).to(scores.device)
        first = torch.searchsorted(sources, states)
        last = torch.searchsorted(sources, states, right=True) - 1
        is_there = (last >= first) & (onward[states] > -math.inf)
        if not bool(is_there.any()):
            continue
        base = torch.cat((grown.new_zeros(1), grown))[first]
        reached = base + chance * (grown[last.clamp(min=0)] - base)
        place = torch.searchsorted(grown, reached, right=True)
        place = torch.minimum(torch.maximum(place, first), last).clamp(min=0)
        taken = torch.where(is_there, order[place] + arcs.start, NONE)
        states = torch.where(is_there, lattice.targets[taken.clamp(min=0)], states)
        path[:, :, frame] = taken
    return torch.cat((best, path), dim=1)


def distinct(lattice: Lattice, paths: Tensor) -> list[list[NbestPath]]:
    """Say what the paths (N, P, T') of each utterance recognised, each result once.

    A result stands where the best of its paths is, best first; the times are those of this path.
    A word that has not ended is left out, its tokens too.
    """
    values = lattice.scores[paths.clamp(min=0)].masked_fill(paths == NONE, 0.0).sum(dim=-1)
    order = values.argsort(dim=1, descending=True, stable=True)
    paths = paths.gather(1, order[:, :, None].expand_as(paths))
    labels = lattice.labels[paths.clamp(min=0)].masked_fill(paths == NONE, NONE)
    marks = torch.zeros_like(order)
    for frame in range(lattice.num_frames):
        now = labels[:, :, frame]
        marks = torch.where(now != NONE, extend_fingerprints(marks, now), marks)
    is_repeat = (marks[:, :, None] == marks[:, None, :]).tril(diagonal=-1).any(dim=-1)
    found: list[list[NbestPath]] = [[] for _ in range(lattice.num_utterances)]
    where = (~is_repeat).nonzero()
    tokens = lattice.tokens[paths.clamp(min=0)].masked_fill(paths == NONE, NONE)
    rows = (where[:, 0].tolist(), labels[~is_repeat].tolist(), tokens[~is_repeat].tolist())
    for owner, path_labels, path_tokens in zip(*rows, strict=True):
        found[owner].append(_nbest_path(path_labels, path_tokens))
    return found


def _nbest_path(labels: list[int], tokens: list[int]) -> NbestPath:
    places = [frame for frame, label in enumerate(labels) if label != NONE]
    last = places[-1] if places else -1
    frames = [frame for frame, token in enumerate(tokens[: last + 1]) if token != NONE]
    said = tuple(labels[frame] for frame in places)
    return NbestPath(said, [tokens[frame] for frame in frames], frames)
