"""What a batch reads for its cuts: stored features, checked; or copies with noise of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from lhotse import CutSet, Fbank, Features, Recording
from lhotse.cut import Cut, MixedCut, MonoCut
from lhotse.dataset.input_strategies import BatchIO, OnTheFlyFeatures
from lhotse.features.base import register_extractor
from lhotse.utils import compute_num_frames
from torch import Tensor

from zipasr.audio.log_mel import AHEAD, MirroredSounds

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


@register_extractor
class FbankMixing(Fbank):  # type: ignore[misc]
    """Mixes log-mel features and computes none.

    lhotse makes an extractor for each cut that it mixes, and the tables of ``Fbank`` take longer
    than to mix.
    """

    name = "kaldi-fbank-mixing"

    def __init__(self, config: Any = None) -> None:
        """Make no tables."""


class HeldSounds(Fbank):  # type: ignore[misc]
    """Extractor that holds the sounds of a batch; their features are for a device to compute.

    Args:
        extractor: which features; it refuses sounds that are too short for a frame.
    """

    name = "kaldi-fbank-held"

    def __init__(self, extractor: Fbank) -> None:
        self.config, self._extractor = extractor.config, extractor
        self._sounds: list[np.ndarray] = []

    def extract(self, samples: np.ndarray, sampling_rate: int) -> np.ndarray:
        """Return zeros in the shape of the features."""
        sound = np.atleast_2d(samples)[0]
        if len(sound) < AHEAD or sampling_rate != self.config.sampling_rate:
            self._extractor.extract(samples, sampling_rate)
        self._sounds.append(sound)
        num_frames = compute_num_frames(
            len(sound) / sampling_rate, self.config.frame_shift, sampling_rate
        )
        return np.zeros((num_frames, self.feature_dim(sampling_rate)), np.float32)

    def read_by(self, read: OnTheFlyFeatures) -> OnTheFlyFeatures:
        """Return an input strategy that reads as ``read`` does, and leaves the sounds here."""
        return OnTheFlyFeatures(self, read.wave_transforms, use_batch_extract=False)

    def mirrored(self) -> MirroredSounds:
        """Return the sounds that were read, in their order."""
        return MirroredSounds.of(self._sounds)


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
        if checked.features.type == Fbank.name:
            checked.features.type = FbankMixing.name
    return checked


def fields_of(cls: Any, value: Any) -> dict[str, Any]:
    """Return the fields of the dataclass ``cls`` that ``value``, of it or below it, has."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(cls)}


class CopiedInputs(BatchIO):  # type: ignore[misc]
    """Input strategy that puts a batch together several times over.

    The copies of cuts c1, c2, ... are in the order c1, c2, ..., c1, c2, ... and are called
    ``c1_repeat0``, ``c2_repeat0``, ..., ``c1_repeat1``, ...

    Args:
        read: the input strategy of a single copy.
        num_copies: of each cut.
        noise: changes the cuts of all copies, before they are read; None leaves them alone.

    Source: icefall, pull request 2082, where each copy is read anew.
    """

    def __init__(
        self, read: BatchIO, num_copies: int, noise: Callable[[CutSet], CutSet] | None = None
    ) -> None:
        super().__init__()
        self._read, self._num_copies, self._noise = read, num_copies, noise

    def __call__(self, cuts: CutSet) -> tuple[Tensor, Tensor, CutSet]:
        """Return features (num_copies N, T, 80), their lengths, and the cuts that they are of."""
        copies = CutSet.from_cuts(_copies(list(cuts), self._num_copies))
        if self._noise is not None:
            copies = self._noise(copies)
        features, lens = self._read(copies)
        return features, lens, copies

    def supervision_intervals(self, cuts: CutSet) -> dict[str, Tensor]:
        """Return utterance, first frame and number of frames of each supervision of ``cuts``."""
        found: dict[str, Tensor] = self._read.supervision_intervals(cuts)
        return found


def _copies(cuts: list[Cut], num_copies: int) -> Iterator[Cut]:
    held = [change_tracks(cut, _read_once) for cut in cuts]
    for number in range(num_copies):
        for cut in held:
            yield dataclasses.replace(cut, id=f"{cut.id}_repeat{number}")


def _read_once(cut: MonoCut) -> MonoCut:
    """Return a cut whose features and sound are read when they are first asked for."""
    held = dataclasses.replace(cut)
    if cut.features is not None:
        held.features = _HeldFeatures(**fields_of(Features, cut.features))
    if cut.recording is not None:
        held.recording = _HeldRecording(**fields_of(Recording, cut.recording))
    return held


class _HeldFeatures(WholeFeatures):
    """Features that remember what was read."""

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self._held: dict[Any, np.ndarray] = {}

    def load(
        self,
        start: float | None = None,
        duration: float | None = None,
        channel_id: int | list[int] = 0,
    ) -> np.ndarray:
        """Return (num_frames, num_features), to be changed at will."""
        key = (start, duration, str(channel_id))
        if key not in self._held:
            self._held[key] = super().load(start, duration, channel_id)
        return self._held[key].copy()


class _HeldRecording(Recording):  # type: ignore[misc]
    """Sound that remembers what was read."""

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self._held: dict[Any, np.ndarray] = {}

    def load_audio(
        self, channels: Any = None, offset: float = 0.0, duration: float | None = None
    ) -> np.ndarray:
        """Return (channels, samples), to be changed at will."""
        key = (str(channels), offset, duration)
        if key not in self._held:
            self._held[key] = super().load_audio(channels, offset, duration)
        return self._held[key].copy()
