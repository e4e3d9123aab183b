"""The profile of the sound of a training set, as a model hears it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from lhotse.cut import Cut

from zipasr.audio.sound_profile import Measures, SoundProfile, measure, profile_of
from zipasr.base.errors import is_machine_fault
from zipasr.data.config import AugmentConfig

# Utterances that are measured, evenly spread; each takes some milliseconds.
_MOST_MEASURED = 100
# Utterances that are joined to one on average, and silence that a window may have then (seconds).
_JOINED, _MARGIN = 2.0, 0.2


def training_sound(
    cut_of: Callable[[int], Cut], num: int, augment: AugmentConfig
) -> SoundProfile | None:
    """Return the profile of a training set; ``None`` where its sound cannot be read any more.

    Args:
        cut_of: returns a cut by its number.
        num: of cuts.
        augment: pauses that are put into the training.
    """
    step = max(1, -(-num // _MOST_MEASURED))
    found = [_measured(cut_of(number)) for number in range(0, num, step)]
    known = [one for one in found if one is not None]
    if not known:
        return None
    profile = profile_of(known)
    if augment.join_prob > 0:
        pause = max(profile.pause, 0.5 * augment.longest_pause)
        profile = replace(profile, usual=_JOINED * profile.usual, pause=pause)
    if augment.silence_prob > 0:
        profile = replace(profile, margin=max(profile.margin, min(_MARGIN, augment.longest_pause)))
    return profile


def _measured(cut: Cut) -> Measures | None:
    try:
        return measure(np.asarray(cut.load_audio()[0], np.float32))
    except Exception as error:
        if is_machine_fault(error):
            raise
        logging.debug("cut %s has no sound: %s", cut.id, error)
        return None
