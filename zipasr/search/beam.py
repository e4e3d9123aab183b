"""Modified beam search: at most one token per frame, equal prefixes merged."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zipasr.search.hypotheses import Beams, History, extend_fingerprints, merge_equal
from zipasr.search.steps import TransducerSteps, longest_first
from zipasr.search.types import Utterance


@torch.no_grad()
def modified_beam_search(
    frames: Tensor, lens: Tensor, *, steps: TransducerSteps, beam_size: int = 4
) -> list[Utterance]:
    """Search with several hypotheses, all utterances and hypotheses of a frame at once.

    At each frame every hypothesis takes blank or one token; the ``beam_size`` best of all
    continuations of an utterance stay, and then those with equal tokens are merged by adding
    their probabilities, so a beam may become thinner than ``beam_size``. A merged hypothesis
    keeps the token times of its most probable part. The final choice is by log-probability
    per symbol, start symbols counted.

    Args:
        frames: (N, T', C), encoder output.
        lens: (N,) integers, valid frames of each utterance; 0 gives an empty result.
        steps: the transducer.
        beam_size: at least 1; may be above the number of hypotheses there are.

    Returns:
        N utterances; ``log_prob`` is not normalised by length.

    Raises:
        ValueError: a length is negative or longer than the frames given.

    Source: Kang et al., "Fast and parallel decoding for transducer", 2022, section 3.
    """
    batch = longest_first(steps.project(frames), lens)
    beams = start_beams(len(batch.lens), beam_size, steps, frames.device)
    history = History(len(batch.num_alive), beams, steps.blank_id)
    for frame, num_alive in enumerate(batch.num_alive):
        beams, parents, tokens = advance(
            beams.first(num_alive), batch.frames[:num_alive, frame], steps
        )
        history.record(frame, beams, parents, tokens)
    return batch.restore(history.winners(batch.lens, steps.context_size))


def start_beams(num: int, beam_size: int, steps: TransducerSteps, device: torch.device) -> Beams:
    """Beams of ``num`` utterances that hold the empty hypothesis and nothing else."""
    log_probs = torch.full((num, beam_size), -math.inf, device=device)
    log_probs[:, 0] = 0.0
    zeros = torch.zeros(num, beam_size, dtype=torch.int64, device=device)
    contexts = steps.start_contexts(num * beam_size, device)
    predictions = steps.predict(contexts)
    return Beams(
        log_probs,
        fingerprints=zeros,
        num_tokens=zeros,
        contexts=contexts.view(num, beam_size, contexts.size(-1)),
        predictions=predictions.view(num, beam_size, predictions.size(-1)),
    )


def advance(beams: Beams, frames: Tensor, steps: TransducerSteps) -> tuple[Beams, Tensor, Tensor]:
    """Take one frame.

    Args:
        beams: hypotheses of M utterances.
        frames: (M, J), the projected frame of each utterance.
        steps: the transducer.

    Returns:
        The new hypotheses, best first except where merging changed the order; (M, B) slot that
        each one came from; (M, B) symbol that it took.
    """
    num, beam_size, _ = beams.predictions.shape
    spread = frames.repeat_interleave(beam_size, dim=0)
    scores = steps.next_scores(spread, beams.predictions.flatten(0, 1))
    scores = scores.view(num, beam_size, scores.size(-1))
    candidates = (scores + beams.log_probs[:, :, None]).flatten(start_dim=1)
    best = candidates.topk(beam_size, dim=-1)
    parents, tokens = best.indices // scores.size(-1), best.indices % scores.size(-1)
    is_token = tokens != steps.blank_id

    fingerprints = beams.fingerprints.gather(1, parents)
    fingerprints = torch.where(is_token, extend_fingerprints(fingerprints, tokens), fingerprints)
    log_probs = merge_equal(best.values, fingerprints)
    rows = torch.arange(num, device=parents.device)[:, None]
    contexts, predictions = beams.contexts[rows, parents], beams.predictions[rows, parents]
    # The decoder is stateless: only the hypotheses with a new token need a new prediction.
    changed = (is_token & (log_probs > -math.inf)).nonzero(as_tuple=True)
    if changed[0].numel():
        grown = torch.cat((contexts[changed][:, 1:], tokens[changed][:, None]), dim=1)
        contexts[changed], predictions[changed] = grown, steps.predict(grown)
    num_tokens = beams.num_tokens.gather(1, parents) + is_token
    return Beams(log_probs, fingerprints, num_tokens, contexts, predictions), parents, tokens
