"""Greedy transducer search: take the best symbol, frame by frame."""

from __future__ import annotations

import torch
from torch import Tensor

from zipasr.search.steps import TransducerSteps, longest_first
from zipasr.search.types import Utterance


@torch.no_grad()
def greedy_search(
    frames: Tensor, lens: Tensor, *, steps: TransducerSteps, max_sym_per_frame: int = 1
) -> list[Utterance]:
    """Follow the most probable symbol of each frame, all utterances at once.

    A blank moves on to the next frame; so does the ``max_sym_per_frame``-th token of a frame,
    without a blank. The result does not depend on what else is in the batch. The decoder
    runs only for utterances that have just emitted a token.

    Args:
        frames: (N, T', C), encoder output.
        lens: (N,) integers, valid frames of each utterance; 0 gives an empty result.
        steps: the transducer.
        max_sym_per_frame: at least 1.

    Returns:
        N utterances; ``log_prob`` is the sum over all symbols taken, blanks included.

    Raises:
        ValueError: a length is negative or longer than the frames given.

    Source: Graves, "Sequence transduction with recurrent neural networks", 2012, section 2.
    """
    batch = longest_first(steps.project(frames), lens)
    device, num_rows = frames.device, len(batch.lens)
    contexts = steps.start_contexts(num_rows, device)
    predictions = steps.predict(contexts)
    log_probs = torch.zeros(num_rows, device=device)
    emitted: list[list[tuple[int, int]]] = [[] for _ in range(num_rows)]
    for frame, num_alive in enumerate(batch.num_alive):
        rows = torch.arange(num_alive, device=device)
        for _ in range(max_sym_per_frame):
            scores = steps.next_scores(batch.frames[rows, frame], predictions[rows])
            best = scores.max(dim=-1)
            log_probs[rows] += best.values
            is_token = best.indices != steps.blank_id
            rows, tokens = rows[is_token], best.indices[is_token]
            if rows.numel() == 0:
                break
            contexts[rows] = torch.cat((contexts[rows, 1:], tokens[:, None]), dim=1)
            predictions[rows] = steps.predict(contexts[rows])
            for row, token in zip(rows.tolist(), tokens.tolist(), strict=True):
                emitted[row].append((token, frame))
    utterances = [
        Utterance([token for token, _ in pairs], [frame for _, frame in pairs], log_prob)
        for pairs, log_prob in zip(emitted, log_probs.tolist(), strict=True)
    ]
    return batch.restore(utterances)
