"""The profile of the sound of a training set, as a model hears it."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
from lhotse.cut import Cut

from zipasr.audio.sound_profile import Measures, SoundProfile, measure, profile_of
from zipasr.base.errors import is_machine_fault

# Utterances that are measured, evenly spread; each takes some milliseconds.
_MOST_MEASURED = 100


def training_sound(cut_of: Callable[[int], Cut], num: int) -> SoundProfile | None:
    """Return the profile of a training set; ``None`` where its sound cannot be read any more.

    Utterances count as they are: a model that was trained with some of them joined still hears
    best what is as long as one.

    Args:
        cut_of: returns a cut by its number.
        num: of cuts.
    """
    step = max(1, -(-num // _MOST_MEASURED))
    found = [_measured(cut_of(number)) for number in range(0, num, step)]
    known = [one for one in found if one is not None]
    return profile_of(known) if known else None


def _measured(cut: Cut) -> Measures | None:
    try:
        return measure(np.asarray(cut.load_audio()[0], np.float32))
    except Exception as error:
        if is_machine_fault(error):
            raise
        logging.debug("cut %s has no sound: %s", cut.id, error)
        return None
