"""Paths through a lattice: the best one, and some drawn by chance."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from zipasr.search.hypotheses import extend_fingerprints
from zipasr.search.lattice import Lattice
from zipasr.search.word_graph import NONE


class Heard(NamedTuple):
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


def drawn_paths(lattice: Lattice, num: int, scale: float) -> Tensor:
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


def distinct(lattice: Lattice, paths: Tensor) -> list[list[Heard]]:
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
    found: list[list[Heard]] = [[] for _ in range(lattice.num_utterances)]
    where = (~is_repeat).nonzero()
    tokens = lattice.tokens[paths.clamp(min=0)].masked_fill(paths == NONE, NONE)
    rows = (where[:, 0].tolist(), labels[~is_repeat].tolist(), tokens[~is_repeat].tolist())
    for owner, path_labels, path_tokens in zip(*rows, strict=True):
        found[owner].append(_heard(path_labels, path_tokens))
    return found


def _heard(labels: list[int], tokens: list[int]) -> Heard:
    places = [frame for frame, label in enumerate(labels) if label != NONE]
    last = places[-1] if places else -1
    frames = [frame for frame, token in enumerate(tokens[: last + 1]) if token != NONE]
    said = tuple(labels[frame] for frame in places)
    return Heard(said, [tokens[frame] for frame in frames], frames)
