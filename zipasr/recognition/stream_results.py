"""Results of a stream: where an utterance ends, and partial results that do not flicker."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from zipasr.encoder.protocol import SECONDS_PER_FEATURE_FRAME
from zipasr.recognition.config import EndpointConfig
from zipasr.search.protocol import Utterance


def is_end_point(rules: EndpointConfig, num_frames: int, silence: int) -> bool:
    """Say whether an utterance has ended.

    Args:
        rules: of which one is enough.
        num_frames: feature frames that were searched since the last end point.
        silence: feature frames since the last token; all of them if there is none.
    """
    if not rules.enable_endpoint:
        return False
    # In single precision, as sherpa-onnx computes them: 120 frames are a little less than 1.2 s.
    frame = np.float32(SECONDS_PER_FEATURE_FRAME)
    length, trailing = np.float32(num_frames) * frame, np.float32(silence) * frame
    is_silent = bool(trailing >= np.float32(rules.rule1_min_trailing_silence))
    has_ended = bool(trailing >= np.float32(rules.rule2_min_trailing_silence))
    is_long = bool(length >= np.float32(rules.rule3_min_utterance_length))
    return is_silent or (silence < num_frames and has_ended) or is_long


def steady(shown: Utterance, hypotheses: Sequence[Utterance]) -> Utterance:
    """Choose what is shown next, so that words change no more than they must.

    The best hypothesis is shown where it goes on from what is shown. Where another one does, what
    is shown stays as it is: the search may come back to it. Only where none does it was wrong.

    Args:
        shown: before; nothing at the beginning.
        hypotheses: that the search keeps, best first.

    Returns:
        The best hypothesis, or what was shown. No word changes more often than if the best
        hypothesis were always shown.
    """
    num, best = len(shown.tokens), hypotheses[0]
    if best.tokens[:num] == shown.tokens:
        return best
    is_alive = any(one.tokens[:num] == shown.tokens for one in hypotheses[1:])
    # Of a lattice no path may end with this frame; then there is no result, and none is wrong.
    is_result = best.log_prob > -math.inf
    return shown if is_alive or not is_result else best


@dataclass(slots=True)
class ShownWords:
    """Words that a reader of partial results sees.

    Attributes:
        words: that are shown.
        since: for each of them, when it was there for good.
        changed: how many words were replaced or taken back after they were shown; the last one
            may grow at its end.
    """

    words: list[str] = field(default_factory=list)
    since: list[float] = field(default_factory=list)
    changed: int = 0

    def show(self, words: Sequence[str], now: float) -> None:
        """Show other words from the moment ``now`` on."""
        pairs = enumerate(zip(self.words, words, strict=False))
        shorter = min(len(self.words), len(words))
        same = next((n for n, (old, new) in pairs if old != new), shorter)
        self.changed += len(self.words) - same
        is_last = same == len(self.words) - 1
        if is_last and same < len(words) and words[same].startswith(self.words[same]):
            self.changed -= 1
        self.since = self.since[:same] + [now] * (len(words) - same)
        self.words = list(words)
