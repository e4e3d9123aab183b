"""Cuts of rows as stage 2 writes them, made without lhotse's checks, which take most of the time.

lhotse's objects are filled with the values of the row. They have what lhotse would have given them,
but for defaults that are made for each object: enough to judge a cut, not to train on it.
"""

from __future__ import annotations

from typing import Any, TypeVar

from lhotse import Features, MonoCut, Recording, SupervisionSegment
from lhotse.audio import AudioSource
from lhotse.augmentation import AudioTransform
from lhotse.cut import Cut

T = TypeVar("T")

# Names that lhotse needs in a row, and those that it takes as they are.
_CUT = {"id", "start", "duration", "channel", "supervisions", "type"}
_CUT_MORE = _CUT | {"features", "recording", "custom"}
_FEATURES = {"type", "num_frames", "num_features", "frame_shift", "sampling_rate", "start"}
_FEATURES |= {"duration", "storage_type", "storage_path", "storage_key"}
_FEATURES_MORE = _FEATURES | {"recording_id", "channels"}
_RECORDING = {"id", "sources", "sampling_rate", "num_samples", "duration", "channel_ids"}
_RECORDING_MORE = _RECORDING | {"transforms"}
_TRANSFORM = {"name", "kwargs"}
_SOURCE = {"type", "channels", "source"}
_SEGMENT = {"id", "recording_id", "start", "duration"}
_SEGMENT_MORE = _SEGMENT | {"channel", "text", "language", "speaker", "gender", "custom"}


class _UnusualError(Exception):
    """A row that lhotse has to read."""


def plain_cut(row: Any) -> Cut | None:
    """Return the cut of a row; None where only lhotse can tell what it is, or what is wrong.

    Args:
        row: what a line of a manifest holds; left as it is.
    """
    try:
        return _cut(row)
    except _UnusualError:
        return None


def _cut(row: Any) -> Cut:
    values = _values(row, _CUT, _CUT_MORE)
    if values.pop("type") != "MonoCut":
        raise _UnusualError
    (segment,) = _items(values["supervisions"], 1)
    said = _values(segment, _SEGMENT, _SEGMENT_MORE)
    values["supervisions"] = [_filled(SupervisionSegment, said)]
    if "features" in values:
        features = _values(values["features"], _FEATURES, _FEATURES_MORE)
        values["features"] = _filled(Features, features)
    if "recording" in values:
        values["recording"] = _recording(values["recording"])
    return _filled(MonoCut, values)


def _recording(row: Any) -> Recording:
    values = _values(row, _RECORDING, _RECORDING_MORE)
    (source,) = _items(values["sources"], 1)
    values["sources"] = [_filled(AudioSource, _values(source, _SOURCE, _SOURCE))]
    _items(values["channel_ids"])
    if "transforms" in values:
        values["transforms"] = [_transform(one) for one in _items(values["transforms"])]
    return _filled(Recording, values)


def _transform(row: Any) -> AudioTransform:
    values = _values(row, _TRANSFORM, _TRANSFORM)
    _check_flat(values["kwargs"])
    return AudioTransform.from_dict(values)


def _values(row: Any, needed: set[str], known: set[str]) -> dict[str, Any]:
    """Return a copy of an object of JSON that has the names that are needed, and no strange one."""
    if type(row) is not dict or not needed <= row.keys() <= known:
        raise _UnusualError
    if "custom" in row:
        _check_flat(row["custom"])
    return row.copy()


def _check_flat(row: Any) -> None:
    if type(row) is not dict or any(type(value) in (dict, list) for value in row.values()):
        raise _UnusualError


def _items(row: Any, count: int | None = None) -> list[Any]:
    if type(row) is not list or (count is not None and len(row) != count):
        raise _UnusualError
    return row


def _filled(kind: type[T], values: dict[str, Any]) -> T:
    made = kind.__new__(kind)
    made.__dict__.update(values)  # not by assignment, which lhotse watches
    return made
