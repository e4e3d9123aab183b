"""When tokens were said, by the CTC head."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torchaudio
from torch import Tensor


class Span(NamedTuple):
    """Encoder frames of a token: from ``start`` up to, but not with, ``end``."""

    start: int
    end: int


def ctc_spans(log_probs: Tensor, tokens: Sequence[int], blank: int = 0) -> list[Span] | None:
    """Align tokens with the frames on the best CTC path.

    Args:
        log_probs: (T', V) of the CTC head.
        tokens: ids without blanks.
        blank: id.

    Returns:
        A span for each token; ``None`` if there are too few frames for the tokens.
    """
    repeats = sum(left == right for left, right in pairwise(tokens))
    if len(tokens) + repeats > log_probs.size(0):
        return None
    if not tokens:
        return []
    targets = torch.tensor([list(tokens)], dtype=torch.int32, device=log_probs.device)
    path, scores = torchaudio.functional.forced_align(
        log_probs.float().unsqueeze(0), targets, blank=blank
    )
    merged = torchaudio.functional.merge_tokens(path[0], scores[0], blank=blank)
    return [Span(int(one.start), int(one.end)) for one in merged]
