"""Modified beam search: several hypotheses of each utterance, at most one token per frame.

``choose`` is the search: which hypotheses a frame leaves. On a CPU, ``advance`` takes a frame of
all utterances that have one, and does the rest for those hypotheses that took a token; one
utterance alone is left to ``single_utterance_beam``. On a GPU nothing may depend on which these
are, as the host would have to wait: ``take_frames`` does everything for all of them, in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from zipasr.nn.cuda_graph import Recent, Replay, power_of_two
from zipasr.nn.numerics import to_device
from zipasr.search import triton_steps
from zipasr.search.beam_state import (
    BackPointers,
    Beams,
    BeamSearchState,
    extend_fingerprints,
    fingerprints_of,
    merge_equal,
    ranked,
    search_frames,
)
from zipasr.search.protocol import Search, Utterance
from zipasr.search.scorers import TokenScorer, scored, step_all, step_where, view_as_beams
from zipasr.search.single_utterance_beam import advance_one
from zipasr.search.transducer_step import (
    ScoreSettings,
    TransducerSteps,
    adjusted_log_probs,
    check_lens,
    longest_first,
)

#: Frames that a CUDA graph takes; a stream whose chunks are shorter has one for its chunks.
GRAPH_FRAMES = 32


@dataclass(frozen=True, slots=True)
class ModifiedBeamSearch(Search[BeamSearchState[Beams]]):
    """Search with several hypotheses, all utterances and hypotheses of a frame at once.

    At each frame every hypothesis takes blank or one token; the ``beam_size`` best of all
    continuations of an utterance stay, and then those with equal tokens are merged by adding
    their probabilities, so a beam may become thinner than ``beam_size``. A merged hypothesis
    keeps the token times of its most probable part.

    A scorer (hot-words, language models) adds to the log-probability of a hypothesis with each
    token, after the best of a frame were chosen: it speaks from the next frame on.

    Args:
        steps: the transducer.
        beam_size: at least 1; may be above the number of hypotheses there are.
        scorer: what helps, or ``None``.
        ranks_only: whether the scorer only takes part in the choice of the best, and is no part of
            their log-probabilities.
        cuda_graphs: whether a GPU replays the work of a block of frames.

    Source: Kang et al., "Fast and parallel decoding for transducer", 2022, section 3.
    """

    steps: TransducerSteps
    beam_size: int = 4
    scorer: TokenScorer | None = None
    ranks_only: bool = False
    cuda_graphs: bool = True
    _blocks: Recent[_Block] = field(default_factory=Recent, init=False, compare=False, repr=False)

    def start(self, num: int, device: torch.device) -> BeamSearchState[Beams]:
        """State of ``num`` streams of which nothing was heard."""
        beams = start_beams(num, self.beam_size, self.steps, device, self.scorer)
        return BeamSearchState.at_start(beams, num, self.beam_size)

    @torch.no_grad()
    def restart(
        self, state: BeamSearchState[Beams], device: torch.device
    ) -> BeamSearchState[Beams]:
        """State after the end of an utterance; the decoder goes on from the last tokens.

        Every hypothesis leaves its last tokens and its probability beside that of the best one;
        scorers begin anew.
        """
        beams = state.beams
        fresh = self.start(len(beams.log_probs), device)
        # Hypotheses with the same last tokens cannot be told apart any more.
        marks = fingerprints_of(*beams.contexts.flatten(0, 1).unbind(dim=-1))
        marks = marks.view_as(beams.fingerprints)
        log_probs = self._totals(beams)
        log_probs = merge_equal(log_probs - log_probs.amax(dim=-1, keepdim=True), marks)
        going = replace(
            fresh.beams,
            log_probs=log_probs,
            fingerprints=marks,
            contexts=beams.contexts,
            predictions=beams.predictions,
        )
        return replace(fresh, beams=going)

    @torch.no_grad()
    def advance(
        self, state: BeamSearchState[Beams], frames: Tensor, lens: Tensor
    ) -> BeamSearchState[Beams]:
        """Go on with the next frames (N, T', C) of each stream, ``lens`` (N,) of them valid.

        Raises:
            ValueError: a length is negative or longer than the frames given.
        """
        check_lens(lens, frames.size(1))
        if frames.is_cuda and (self.scorer is None or not self.scorer.on_host):
            return self._advance_on_device(state, frames, lens)
        if len(lens) == 1 and self.scorer is None:
            return advance_one(state, self.steps.project(frames[0, : int(lens)]), self.steps)
        batch = longest_first(self.steps.project(frames), lens)
        shape = len(batch.num_alive), len(batch.lens), self.beam_size
        history = BackPointers.with_room(*shape, self.steps.blank_id, frames.device)
        return search_frames(
            state, batch, history, partial(advance, steps=self.steps, scorer=self.scorer)
        )

    def hypotheses(self, state: BeamSearchState[Beams]) -> list[list[Utterance]]:
        """Hypotheses of each stream, by log-probability per symbol, best first.

        The ``context_size`` start symbols count as symbols, as in the published searches.
        """
        log_probs = self._totals(state.beams)
        norms = log_probs / (state.beams.num_tokens + self.steps.context_size)
        return ranked(state.partials, log_probs, norms)

    def search(self, frames: Tensor, lens: Tensor) -> list[list[Utterance]]:
        """Search whole utterances: encoder frames (N, T', C) to the N-best of each."""
        return self.hypotheses(self.advance(self.start(len(lens), frames.device), frames, lens))

    def results(self, state: BeamSearchState[Beams]) -> list[Utterance]:
        """Best hypothesis of each stream so far."""
        return [found[0] for found in self.hypotheses(state)]

    def _totals(self, beams: Beams) -> Tensor:
        """Log-probabilities (N, B) of hypotheses that end here."""
        if self.scorer is None or self.ranks_only:
            return beams.log_probs
        return scored(self.scorer, beams.scorer, beams.log_probs + beams.bonuses)

    def _advance_on_device(
        self, state: BeamSearchState[Beams], frames: Tensor, lens: Tensor
    ) -> BeamSearchState[Beams]:
        """Do as ``advance`` with one wait for the device, for the back-pointers at the end."""
        num_frames = int(lens.max()) if lens.numel() else 0
        if num_frames == 0:
            return state
        frames = self.steps.project(frames[:, :num_frames])
        on_device = to_device(lens, frames.device)
        beams, records = state.beams.map(_copied), _no_records(num_frames, state.beams)
        if self.cuda_graphs:
            shape = power_of_two(len(lens)), min(GRAPH_FRAMES, power_of_two(num_frames))
            key = (*shape, frames.dtype, frames.device)
            block = self._blocks.get(key, lambda: _Block(self._take, beams, frames, shape))
            block.take(beams, frames, on_device, records)
        else:
            self._take(beams, frames, on_device, records)
        history = BackPointers(*records, self.steps.blank_id)
        seen = [before + num for before, num in zip(state.num_frames, lens.tolist(), strict=True)]
        return BeamSearchState(beams, history.grown(state.partials, state.num_frames), seen)

    def _take(self, beams: Beams, frames: Tensor, lens: Tensor, records: Records) -> None:
        take_frames(beams, frames, lens, records, self.steps, self.scorer)


@torch.no_grad()
def start_beams(
    num: int,
    beam_size: int,
    steps: TransducerSteps,
    device: torch.device,
    scorer: TokenScorer | None = None,
) -> Beams:
    """Beams of ``num`` utterances that hold the empty hypothesis and nothing else."""
    log_probs = torch.full((num, beam_size), -math.inf, device=device)
    log_probs[:, 0] = 0.0
    zeros = torch.zeros(num, beam_size, dtype=torch.int64, device=device)
    contexts = steps.start_contexts(num * beam_size, device)
    predictions = steps.predict(contexts)
    state = () if scorer is None else scorer.start(num * beam_size, device)
    return Beams(
        log_probs,
        bonuses=torch.zeros_like(log_probs),
        fingerprints=zeros,
        num_tokens=zeros,
        contexts=contexts.view(num, beam_size, contexts.size(-1)),
        predictions=predictions.view(num, beam_size, predictions.size(-1)),
        scorer=view_as_beams(state, num, beam_size),
    )


class Chosen(NamedTuple):
    """What a frame leaves.

    Attributes:
        beams: best first except where merging changed the order; predictions and the state of the
            scorer are still those before the frame.
        parents: (M, B), slot that each hypothesis came from.
        symbols: (M, B), symbol that it took.
    """

    beams: Beams
    parents: Tensor
    symbols: Tensor


def choose(beams: Beams, scores: Tensor, blank_id: int) -> Chosen:
    """Let every hypothesis take every symbol, keep the best, and merge those that are equal.

    Args:
        beams: hypotheses of M utterances.
        scores: (M, B, V), log-probabilities of the symbols.
        blank_id: id of blank.
    """
    candidates = scores + beams.log_probs[:, :, None]
    ranks = (candidates + beams.bonuses[:, :, None]).flatten(start_dim=1)
    chosen = ranks.topk(scores.size(1), dim=-1).indices
    parents, symbols = chosen // scores.size(-1), chosen % scores.size(-1)
    is_token = symbols != blank_id
    fingerprints = beams.fingerprints.gather(1, parents)
    fingerprints = torch.where(is_token, extend_fingerprints(fingerprints, symbols), fingerprints)
    log_probs = candidates.flatten(start_dim=1).gather(1, chosen)
    contexts = beams.contexts.gather(1, parents[:, :, None].expand_as(beams.contexts))
    grown = torch.cat((contexts[:, :, 1:], symbols[:, :, None]), dim=2)
    left = replace(
        beams,
        log_probs=merge_equal(log_probs, fingerprints),
        bonuses=beams.bonuses.gather(1, parents),
        fingerprints=fingerprints,
        num_tokens=beams.num_tokens.gather(1, parents) + is_token,
        contexts=torch.where(is_token[:, :, None], grown, contexts),
    )
    return Chosen(left, parents, symbols)


def advance(
    beams: Beams, frames: Tensor, steps: TransducerSteps, scorer: TokenScorer | None = None
) -> Chosen:
    """Take one frame.

    Args:
        beams: hypotheses of M utterances.
        frames: (M, J), the projected frame of each utterance.
        steps: the transducer.
        scorer: what helps, or ``None``.
    """
    num, beam_size, _ = beams.predictions.shape
    spread = frames.repeat_interleave(beam_size, dim=0)
    scores = steps.next_scores(spread, beams.predictions.flatten(0, 1))
    left, parents, symbols = choose(
        beams, scores.view(num, beam_size, scores.size(-1)), steps.blank_id
    )

    rows = torch.arange(num, device=parents.device)[:, None]
    predictions, is_token = beams.predictions[rows, parents], symbols != steps.blank_id
    # The decoder is stateless: only the hypotheses with a new token need a new prediction.
    is_new = is_token & (left.log_probs > -math.inf)
    if predictions.is_cuda:  # to know which these are, the host would have to wait
        every = steps.predict(left.contexts.flatten(0, 1)).view_as(predictions)
        predictions = torch.where(is_new[:, :, None], every, predictions)
    elif (changed := is_new.nonzero(as_tuple=True))[0].numel():
        predictions[changed] = steps.predict(left.contexts[changed])
    left = replace(left, predictions=predictions)
    if scorer is not None:
        state = tuple(part[rows, parents] for part in beams.scorer)
        bonuses, state = step_where(scorer, state, symbols, is_new)
        left = replace(left, bonuses=left.bonuses + bonuses, scorer=state)
    return Chosen(left, parents, symbols)


Records = tuple[Tensor, Tensor]
"""Parents and symbols (T, N, B) int64 of every frame, see ``Chosen``."""

TakeFrames = Callable[[Beams, Tensor, Tensor, Records], None]


def _no_records(num_frames: int, beams: Beams) -> Records:
    shape = (num_frames, *beams.log_probs.shape)
    parents = torch.empty(shape, dtype=torch.int64, device=beams.log_probs.device)
    return parents, torch.empty_like(parents)


def take_frames(
    beams: Beams,
    frames: Tensor,
    lens: Tensor,
    records: Records,
    steps: TransducerSteps,
    scorer: TokenScorer | None = None,
) -> None:
    """Take frames without ever waiting for the device; shapes depend on those given alone.

    Args:
        beams: hypotheses of N utterances; its tensors are changed.
        frames: (N, T, J), projected.
        lens: (N,) int64; an utterance stays as it is from the frame of its length on.
        records: are written.
        steps: the transducer.
        scorer: what helps, or ``None``.
    """
    take = triton_steps.take_frame if triton_steps.KERNELS.work_on(frames.device) else take_frame
    predictions = beams.predictions
    for time in range(frames.size(1)):
        now = records[0][time], records[1][time]
        logits = steps.logits(frames[:, time, None], predictions)
        take(logits, beams, lens, now, time, steps.settings)
        if scorer is not None:
            _add_bonuses(beams, now, scorer, steps.blank_id)
        predictions = steps.predict(beams.contexts.flatten(0, 1)).view_as(predictions)
    beams.predictions.copy_(predictions)


def take_frame(
    logits: Tensor,
    beams: Beams,
    lens: Tensor,
    records: Records,
    time: int,
    settings: ScoreSettings,
) -> None:
    """Change beams but for predictions and the state of the scorer; see ``choose``.

    This is the meaning of the kernel that ``triton_steps.take_frame`` launches.

    Args:
        logits: (N, B, V), of the joiner.
        beams: of N utterances; its tensors are changed.
        lens: (N,) int64.
        records: (N, B) parents and symbols, are written.
        time: the frame.
        settings: from logits to log-probabilities.
    """
    scores = adjusted_log_probs(logits, *settings)
    left, parents, symbols = choose(beams, scores, settings.blank_id)
    is_here = (lens > time)[:, None]
    slots = torch.arange(parents.size(1), device=parents.device)
    records[0].copy_(torch.where(is_here, parents, slots))
    records[1].copy_(torch.where(is_here, symbols, settings.blank_id))
    for old, new in zip(beams.books(), left.books(), strict=True):
        old.copy_(torch.where(is_here if old.dim() == 2 else is_here[:, :, None], new, old))


def _add_bonuses(beams: Beams, records: Records, scorer: TokenScorer, blank_id: int) -> None:
    """Let the scorer speak of the tokens that were taken, and go on with its state."""
    parents, symbols = records
    is_token = symbols != blank_id
    rows = torch.arange(len(parents), device=parents.device)[:, None]
    state = tuple(part[rows, parents] for part in beams.scorer)
    bonuses, after = step_all(scorer, state, symbols, is_token)
    beams.bonuses.add_(bonuses)
    for old, new in zip(beams.scorer, after, strict=True):
        old.copy_(new)


class _Block:
    """A block of frames, and beams, that stay in their places, as a CUDA graph needs them.

    Args:
        take: what is to be replayed.
        beams: some, for their shapes.
        frames: likewise.
        shape: of the block, utterances and frames.
    """

    def __init__(
        self, take: TakeFrames, beams: Beams, frames: Tensor, shape: tuple[int, int]
    ) -> None:
        rows, self.num_frames = shape
        with torch.inference_mode(False):  # it is changed in other modes, too
            self.beams = beams.map(lambda part: part.new_zeros(rows, *part.shape[1:]))
            self.frames = frames.new_zeros(*shape, frames.size(2))
            self.lens = torch.zeros(rows, dtype=torch.int64, device=frames.device)
            self.records = _no_records(self.num_frames, self.beams)
        self._replay = Replay(lambda: take(self.beams, self.frames, self.lens, self.records))

    def take(self, beams: Beams, frames: Tensor, lens: Tensor, records: Records) -> None:
        """Do as ``take_frames``, block by block."""
        num = len(lens)
        self.lens.zero_()  # utterances that are not there have no frames
        _copy(beams, self.beams.map(lambda part: part[:num]))
        for first in range(0, frames.size(1), self.num_frames):
            part = frames[:, first : first + self.num_frames]
            self.frames[:num, : part.size(1)].copy_(part)
            self.lens[:num].copy_(lens - first)
            self._replay()
            for mine, all_of_them in zip(self.records, records, strict=True):
                all_of_them[first : first + part.size(1)].copy_(mine[: part.size(1), :num])
        _copy(self.beams.map(lambda part: part[:num]), beams)


def _copied(part: Tensor) -> Tensor:
    return part.clone(memory_format=torch.contiguous_format)


def _copy(source: Beams, target: Beams) -> None:
    for theirs, mine in zip(source.tensors(), target.tensors(), strict=True):
        mine.copy_(theirs)
