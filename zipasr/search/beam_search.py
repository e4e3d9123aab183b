"""Beam search over any number of tokens per frame, and modified beam search with at most one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from zipasr.search.beam_of_one import advance_one
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
from zipasr.search.scorers import (
    Ranking,
    ScorerState,
    TokenScorer,
    scatter_state,
    scored,
    view_as_beams,
)
from zipasr.search.transducer_step import TransducerSteps, check_lens, longest_first

# A context that predicts itself with certainty would go on for ever. So many hypotheses are taken
# up at a frame at most; speech needs a few for each slot of the beam.
MAX_TAKEN_PER_FRAME = 400

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Hypothesis:
    """Tokens, the frame of each, and the log-probability of all ways to them that were seen."""

    tokens: Tokens
    frames: tuple[int, ...]
    log_prob: float

    def joined(self, other: _Hypothesis) -> _Hypothesis:
        """Add another way to the same tokens; the times are those of this one."""
        high, low = max(self.log_prob, other.log_prob), min(self.log_prob, other.log_prob)
        total = high + math.log1p(math.exp(low - high))
        return _Hypothesis(self.tokens, self.frames, total)


class _Bag:
    """Hypotheses by their tokens; one that is there already is joined."""

    def __init__(self) -> None:
        self.by_tokens: dict[Tokens, _Hypothesis] = {}

    def add(self, one: _Hypothesis) -> None:
        """Put a hypothesis in."""
        known = self.by_tokens.get(one.tokens)
        self.by_tokens[one.tokens] = one if known is None else known.joined(one)

    def take_best(self) -> _Hypothesis:
        """Take the most probable hypothesis out."""
        best = max(self.by_tokens.values(), key=lambda one: one.log_prob)
        del self.by_tokens[best.tokens]
        return best

    def best_log_prob(self) -> float:
        """Log-probability of the most probable one; -inf if there is none."""
        return max((one.log_prob for one in self.by_tokens.values()), default=-math.inf)


class _Scores:
    """Log-probabilities of the next symbol at one frame; each context is predicted once."""

    def __init__(self, steps: TransducerSteps, device: torch.device) -> None:
        self._steps, self._device = steps, device
        self._predictions: dict[Tokens, Tensor] = {}
        self._at_frame: dict[Tokens, Tensor] = {}
        self._frame = torch.empty(0)

    def go_to(self, frame: Tensor) -> None:
        """Answer for the projected frame (J,) from now on."""
        self._frame = frame[None]
        self._at_frame = {}

    def of(self, tokens: Tokens) -> Tensor:
        """(V,) log-probabilities after ``tokens``."""
        start = self._steps.start_contexts(1, self._device)[0].tolist()
        context = (*start, *tokens)[-len(start) :]
        if context not in self._at_frame:
            if context not in self._predictions:
                ids = torch.tensor([context], device=self._device)
                self._predictions[context] = self._steps.predict(ids)
            self._at_frame[context] = self._steps.next_scores(
                self._frame, self._predictions[context]
            )[0]
        return self._at_frame[context]


def beam_search(
    frames: Tensor, lens: Tensor, *, steps: TransducerSteps, beam_size: int = 4
) -> list[Utterance]:
    """Search with several hypotheses that may take any number of tokens at a frame.

    It is slow, and it is here to compare with: ``ModifiedBeamSearch`` is at least as good for
    models trained with pruned losses. A frame ends when ``beam_size`` hypotheses that took blank
    are more probable than all others, or after ``MAX_TAKEN_PER_FRAME`` hypotheses.

    Args:
        frames: (N, T', C), encoder output.
        lens: (N,) integers, valid frames of each utterance; 0 gives an empty result.
        steps: the transducer.
        beam_size: at least 1.

    Returns:
        N utterances, by log-probability per symbol, start symbols counted; ``log_prob`` is not
        normalised.

    Raises:
        ValueError: a length is negative or longer than the frames given.

    Source: Graves, "Sequence transduction with recurrent neural networks", 2012, section 2.6,
    without its prefix probabilities.
    """
    return [found[0] for found in beam_search_nbest(frames, lens, steps, beam_size)]


@torch.no_grad()
def beam_search_nbest(
    frames: Tensor, lens: Tensor, steps: TransducerSteps, beam_size: int
) -> list[list[Utterance]]:
    """The final hypotheses of ``beam_search``, best first."""
    check_lens(lens, frames.size(1))
    projected = steps.project(frames)
    return [
        _search(projected[row, :num], steps, beam_size) for row, num in enumerate(lens.tolist())
    ]


def _search(frames: Tensor, steps: TransducerSteps, beam_size: int) -> list[Utterance]:
    scores = _Scores(steps, frames.device)
    kept = [_Hypothesis((), (), 0.0)]
    for time, frame in enumerate(frames):
        scores.go_to(frame)
        kept = _take_frame(kept, scores, time, steps.blank_id, beam_size)
    kept.sort(key=lambda one: -one.log_prob / (len(one.tokens) + steps.context_size))
    return [Utterance(list(one.tokens), list(one.frames), one.log_prob) for one in kept]


def _take_frame(
    before: list[_Hypothesis], scores: _Scores, time: int, blank_id: int, beam_size: int
) -> list[_Hypothesis]:
    going, done = _Bag(), _Bag()
    for one in before:
        going.add(one)
    for _ in range(MAX_TAKEN_PER_FRAME):
        one = going.take_best()
        log_probs = scores.of(one.tokens)
        blank = one.log_prob + float(log_probs[blank_id])
        done.add(_Hypothesis(one.tokens, one.frames, blank))
        best = log_probs.topk(min(beam_size + 1, log_probs.numel()))
        for value, symbol in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            if symbol != blank_id:
                grown = (*one.tokens, symbol), (*one.frames, time)
                going.add(_Hypothesis(*grown, one.log_prob + value))
        bar = going.best_log_prob()
        ahead = [other for other in done.by_tokens.values() if other.log_prob > bar]
        if len(ahead) >= beam_size:
            break
    else:
        ahead = list(done.by_tokens.values())
    return sorted(ahead, key=lambda other: -other.log_prob)[:beam_size]


@dataclass(frozen=True, slots=True)
class ModifiedBeamSearch(Search[BeamSearchState[Beams]]):
    """Search with several hypotheses, all utterances and hypotheses of a frame at once.

    At each frame every hypothesis takes blank or one token; the ``beam_size`` best of all
    continuations of an utterance stay, and then those with equal tokens are merged by adding
    their probabilities, so a beam may become thinner than ``beam_size``. A merged hypothesis
    keeps the token times of its most probable part.

    A scorer (hot-words, language models) adds to the log-probability of a hypothesis with each
    token, after the best of a frame were chosen: it speaks from the next frame on. A ``Ranking``
    only takes part in the choice of the best.

    Args:
        steps: the transducer.
        beam_size: at least 1; may be above the number of hypotheses there are.
        scorer: what helps, or ``None``.

    Source: Kang et al., "Fast and parallel decoding for transducer", 2022, section 3.
    """

    steps: TransducerSteps
    beam_size: int = 4
    scorer: TokenScorer | None = None

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
        log_probs = beams.log_probs
        if self.scorer is not None:
            log_probs = scored(self.scorer, beams.scorer, log_probs)
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
        if len(lens) == 1 and self.scorer is None and frames.device.type == "cpu":
            check_lens(lens, frames.size(1))
            return advance_one(state, self.steps.project(frames[0, : int(lens)]), self.steps)
        batch = longest_first(self.steps.project(frames), lens)
        shape = len(batch.num_alive), len(batch.lens), self.beam_size
        history = BackPointers(*shape, self.steps.blank_id, frames.device)
        return search_frames(
            state, batch, history, partial(advance, steps=self.steps, scorer=self.scorer)
        )

    def hypotheses(self, state: BeamSearchState[Beams]) -> list[list[Utterance]]:
        """Hypotheses of each stream, by log-probability per symbol, best first.

        The ``context_size`` start symbols count as symbols, as in the published searches.
        """
        beams = state.beams
        log_probs = beams.log_probs
        if self.scorer is not None:
            log_probs = scored(self.scorer, beams.scorer, log_probs)
        norms = log_probs / (beams.num_tokens + self.steps.context_size)
        return ranked(state.partials, log_probs, norms)

    def search(self, frames: Tensor, lens: Tensor) -> list[list[Utterance]]:
        """Search whole utterances: encoder frames (N, T', C) to the N-best of each."""
        return self.hypotheses(self.advance(self.start(len(lens), frames.device), frames, lens))

    def results(self, state: BeamSearchState[Beams]) -> list[Utterance]:
        """Best hypothesis of each stream so far."""
        return [found[0] for found in self.hypotheses(state)]


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
        fingerprints=zeros,
        num_tokens=zeros,
        contexts=contexts.view(num, beam_size, contexts.size(-1)),
        predictions=predictions.view(num, beam_size, predictions.size(-1)),
        scorer=view_as_beams(state, num, beam_size),
    )


def advance(
    beams: Beams, frames: Tensor, steps: TransducerSteps, scorer: TokenScorer | None = None
) -> tuple[Beams, Tensor, Tensor]:
    """Take one frame.

    Args:
        beams: hypotheses of M utterances.
        frames: (M, J), the projected frame of each utterance.
        steps: the transducer.
        scorer: what helps, or ``None``.

    Returns:
        The new hypotheses, best first except where merging changed the order; (M, B) slot that
        each one came from; (M, B) symbol that it took.
    """
    num, beam_size, _ = beams.predictions.shape
    spread = frames.repeat_interleave(beam_size, dim=0)
    scores = steps.next_scores(spread, beams.predictions.flatten(0, 1))
    scores = scores.view(num, beam_size, scores.size(-1))
    candidates = scores + beams.log_probs[:, :, None]
    ranks = candidates
    if isinstance(scorer, Ranking):
        ranks = candidates + beams.scorer[0][:, :, None]
    chosen = ranks.flatten(start_dim=1).topk(beam_size, dim=-1).indices
    parents, tokens = chosen // scores.size(-1), chosen % scores.size(-1)
    is_token = tokens != steps.blank_id

    rows = torch.arange(num, device=parents.device)[:, None]
    scorer_state = tuple(part[rows, parents] for part in beams.scorer)
    log_probs = candidates.flatten(start_dim=1).gather(1, chosen)
    if scorer is not None:
        log_probs = log_probs + _bonuses(scorer, scorer_state, tokens, is_token, log_probs)
    fingerprints = beams.fingerprints.gather(1, parents)
    fingerprints = torch.where(is_token, extend_fingerprints(fingerprints, tokens), fingerprints)
    log_probs = merge_equal(log_probs, fingerprints)
    contexts, predictions = beams.contexts[rows, parents], beams.predictions[rows, parents]
    # The decoder is stateless: only the hypotheses with a new token need a new prediction.
    if scorer is None and parents.is_cuda:
        # All are predicted: to know which need it, the host would have to wait.
        grown = torch.cat((contexts[:, :, 1:], tokens[:, :, None]), dim=2)
        contexts = torch.where(is_token[:, :, None], grown, contexts)
        every = steps.predict(contexts.flatten(0, 1)).view_as(predictions)
        predictions = torch.where(is_token[:, :, None], every, predictions)
        num_tokens = beams.num_tokens.gather(1, parents) + is_token
        return Beams(log_probs, fingerprints, num_tokens, contexts, predictions), parents, tokens
    changed = (is_token & (log_probs > -math.inf)).nonzero(as_tuple=True)
    if changed[0].numel():
        grown = torch.cat((contexts[changed][:, 1:], tokens[changed][:, None]), dim=1)
        contexts[changed], predictions[changed] = grown, steps.predict(grown)
        if scorer is not None:
            news = scorer.extend(tuple(part[changed] for part in scorer_state), tokens[changed])
            scorer_state = scatter_state(scorer_state, changed, news)
    num_tokens = beams.num_tokens.gather(1, parents) + is_token
    grown_beams = Beams(log_probs, fingerprints, num_tokens, contexts, predictions, scorer_state)
    return grown_beams, parents, tokens


def _bonuses(
    scorer: TokenScorer, state: ScorerState, tokens: Tensor, is_token: Tensor, log_probs: Tensor
) -> Tensor:
    """Scores (M, B) of the tokens that hypotheses took; 0 for blank."""
    bonuses = torch.zeros_like(log_probs)
    where = (is_token & (log_probs > -math.inf)).nonzero(as_tuple=True)
    if where[0].numel():
        bonuses[where] = scorer.score(tuple(part[where] for part in state), tokens[where])
    return bonuses
