"""Ends of utterances in speech as it comes, by the three rules of sherpa-onnx."""

from __future__ import annotations

import numpy as np

from zipasr.encoder.protocol import SECONDS_PER_FEATURE_FRAME
from zipasr.recognition.config import EndpointConfig


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
