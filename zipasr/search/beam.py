"""Modified beam search: at most one token per frame, equal prefixes merged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from zipasr.search.fusion import Ranking, ScorerState, TokenScorer, in_slots, put, scored
from zipasr.search.hypotheses import Beams, History, extend_fingerprints, merge_equal, ranked
from zipasr.search.steps import TransducerSteps, longest_first
from zipasr.search.types import Utterance
from zipasr.search.walk import Standing, walk


@dataclass(frozen=True, slots=True)
class ModifiedBeamSearch:
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

    def start(self, num: int, device: torch.device) -> Standing[Beams]:
        """State of ``num`` streams of which nothing was heard."""
        beams = start_beams(num, self.beam_size, self.steps, device, self.scorer)
        return Standing.at_start(beams, num, self.beam_size)

    @torch.no_grad()
    def advance(self, state: Standing[Beams], frames: Tensor, lens: Tensor) -> Standing[Beams]:
        """Go on with the next frames (N, T', C) of each stream, ``lens`` (N,) of them valid.

        Raises:
            ValueError: a length is negative or longer than the frames given.
        """
        batch = longest_first(self.steps.project(frames), lens)
        shape = len(batch.num_alive), len(batch.lens), self.beam_size
        history = History(*shape, self.steps.blank_id).to(frames.device)
        return walk(state, batch, history, partial(advance, steps=self.steps, scorer=self.scorer))

    def nbest(self, state: Standing[Beams]) -> list[list[Utterance]]:
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
        return self.nbest(self.advance(self.start(len(lens), frames.device), frames, lens))

    def results(self, state: Standing[Beams]) -> list[Utterance]:
        """Best hypothesis of each stream so far."""
        return [hypotheses[0] for hypotheses in self.nbest(state)]


def modified_beam_search(
    frames: Tensor,
    lens: Tensor,
    *,
    steps: TransducerSteps,
    beam_size: int = 4,
    scorer: TokenScorer | None = None,
) -> list[Utterance]:
    """Search whole utterances; see ``ModifiedBeamSearch``.

    Args:
        frames: (N, T', C), encoder output.
        lens: (N,) integers, valid frames of each utterance; 0 gives an empty result.
        steps: the transducer.
        beam_size: at least 1.
        scorer: what helps, or ``None``.

    Returns:
        N utterances; ``log_prob`` is not normalised by length.

    Raises:
        ValueError: a length is negative or longer than the frames given.
    """
    search = ModifiedBeamSearch(steps, beam_size, scorer)
    return search.results(search.advance(search.start(len(lens), frames.device), frames, lens))


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
        scorer=in_slots(state, num, beam_size),
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
    changed = (is_token & (log_probs > -math.inf)).nonzero(as_tuple=True)
    if changed[0].numel():
        grown = torch.cat((contexts[changed][:, 1:], tokens[changed][:, None]), dim=1)
        contexts[changed], predictions[changed] = grown, steps.predict(grown)
        if scorer is not None:
            news = scorer.extend(tuple(part[changed] for part in scorer_state), tokens[changed])
            scorer_state = put(scorer_state, changed, news)
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
