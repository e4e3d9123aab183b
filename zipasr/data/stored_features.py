"""Stored features that are as long as their manifest says, or an error."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from lhotse import CutSet, Features
from lhotse.cut import MixedCut, MonoCut
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
    return CutSet.from_cuts(change_tracks(cut, _checked) for cut in cuts)


def change_tracks(cut: Any, change: Callable[[MonoCut], MonoCut]) -> Any:
    """Return a cut with ``change`` done to it, or to each cut that it is mixed or joined of.

    Args:
        cut: of any kind; padding and cuts of several channels stay as they are.
        change: returns a copy.
    """
    if isinstance(cut, MixedCut):
        tracks = [dataclasses.replace(t, cut=change_tracks(t.cut, change)) for t in cut.tracks]
        return dataclasses.replace(cut, tracks=tracks)
    return change(cut) if isinstance(cut, MonoCut) else cut


def _checked(cut: MonoCut) -> MonoCut:
    checked = dataclasses.replace(cut)
    if cut.features is not None:
        checked.features = WholeFeatures(**fields_of(Features, cut.features))
    return checked


def fields_of(cls: Any, value: Any) -> dict[str, Any]:
    """Return the fields of the dataclass ``cls`` that ``value``, of it or below it, has."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(cls)}
