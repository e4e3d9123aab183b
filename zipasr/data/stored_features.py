"""Stored features that are as long as their manifest says, or an error."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from lhotse import CutSet, Features
from lhotse.cut import Cut, MixedCut, MonoCut
from lhotse.utils import compute_num_frames

# lhotse makes up for one frame that rounding takes away.
_TOLERATED_FRAMES = 1


class WholeFeatures(Features):  # type: ignore[misc]
    """Features of a cut that are not taken where frames are missing.

    lhotse pads what is too short when it mixes in noise or joins cuts: the words would stay, the
    sound would be gone.
    """

    def load(
        self,
        start: float | None = None,
        duration: float | None = None,
        channel_id: int | list[int] = 0,
    ) -> np.ndarray:
        """Return (num_frames, num_features).

        Raises:
            ValueError: there are fewer frames than the manifest says.
        """
        if Path(self.storage_path).is_fifo():
            raise ValueError(f"{self.storage_path} is a named pipe, not a file of features")
        found: np.ndarray = super().load(start, duration, channel_id)
        wanted = compute_num_frames(
            self.duration if duration is None else duration, self.frame_shift, self.sampling_rate
        )
        if len(found) < wanted - _TOLERATED_FRAMES:
            raise ValueError(
                f"{self.storage_path} ({self.storage_key}) has {len(found)} of the {wanted} "
                "frames that its manifest says"
            )
        return found


def with_whole_features(cuts: CutSet) -> CutSet:
    """Return the cuts with ``WholeFeatures``."""
    return CutSet.from_cuts(_checked(cuts))


def _checked(cuts: CutSet) -> Iterator[Cut]:
    for cut in cuts:
        if isinstance(cut, MixedCut):
            tracks = [dataclasses.replace(t, cut=_one_checked(t.cut)) for t in cut.tracks]
            yield dataclasses.replace(cut, tracks=tracks)
        else:
            yield _one_checked(cut)


def _one_checked(cut: Any) -> Any:
    if not isinstance(cut, MonoCut) or cut.features is None:
        return cut
    fields = {
        field.name: getattr(cut.features, field.name) for field in dataclasses.fields(Features)
    }
    checked = dataclasses.replace(cut)
    checked.features = WholeFeatures(**fields)
    return checked
