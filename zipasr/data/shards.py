"""Features in shards (lhotse's Shar): large files that are read sequentially."""

from __future__ import annotations

import logging
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from lhotse import Features
from lhotse.cut import Cut
from lhotse.features.io import FeaturesReader, register_reader
from lhotse.shar import SharWriter
from lhotse.shar.readers.tar import TarIterator
from lhotse.utils import fastcopy

logger = logging.getLogger(__name__)

SHARD = "zipasr_shard"
# Most that a process holds, compressed: a shard of 200 utterances is about 20 MB.
SHARDS_HELD = 18


class ShardOfFeatures:
    """Writes cuts and their features as one shard.

    Args:
        folder: of the shards.
        number: of this one.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self.name = f"features.{number:06d}.tar"
        self._writer = SharWriter(
            str(folder),
            fields={"features": "lilcom"},
            shard_size=None,
            shard_suffix=f".{number:06d}",
            warn_unused_fields=False,
        )

    def __enter__(self) -> ShardOfFeatures:
        self._writer.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.close()

    def write(self, cut: Cut, features: Features, folder: Path) -> Cut:
        """Add a cut; return it with features that are found in the shard.

        Args:
            cut: without features.
            features: in memory.
            folder: where the shard is going to be.
        """
        self._writer.write(fastcopy(cut, features=features))
        there = fastcopy(
            features,
            storage_type=SHARD,
            storage_path=str(folder / self.name),
            storage_key=cut.id,
        )
        return fastcopy(cut, features=there)


@register_reader
class ShardReader(FeaturesReader):  # type: ignore[misc]  # lhotse has no types
    """Reads features of a shard; lhotse makes one for each cut.

    Args:
        storage_path: the shard.
    """

    name = SHARD

    def __init__(self, storage_path: str, *_args: Any, **_kwargs: Any) -> None:
        self._path = str(storage_path)

    def read(
        self,
        key: str,
        left_offset_frames: int = 0,
        right_offset_frames: int | None = None,
    ) -> np.ndarray[Any, Any]:
        """Return (T, 80) of a cut."""
        features: np.ndarray[Any, Any] = _HELD.taken(self._path, key).load()
        return features[left_offset_frames:right_offset_frames]


def shard_of(cut: Cut) -> str:
    """Return the shard with the features of a cut; empty when they are not in one."""
    features = getattr(cut, "features", None)
    if features is None or features.storage_type != SHARD:
        return ""
    return str(features.storage_path)


class _HeldShards:
    """Shards read front to back, and what is still to come of them, compressed.

    What is taken is given up: an epoch asks for it once. So the few utterances that wait for others
    of their length keep no whole shards in memory.
    """

    def __init__(self) -> None:
        self._shards: OrderedDict[str, dict[str, Features]] = OrderedDict()
        self._largest = 0

    def taken(self, path: str, key: str) -> Features:
        """Return the features of an utterance; the shard is read where they are not held."""
        held = self._shards.pop(path, {})
        if key not in held:
            held = _read(path)
            self._largest = max(self._largest, len(held))
        features = held.pop(key)
        if held:
            self._shards[path] = held
        # Where a plan does not say who reads what: the one that was used last goes last.
        while sum(map(len, self._shards.values())) > SHARDS_HELD * self._largest:
            self._shards.popitem(last=False)
        return features


_HELD = _HeldShards()


def _read(path: str) -> dict[str, Features]:
    """Return the compressed features of a shard by the names of their cuts."""
    logger.debug("reading %s", path)
    return {
        str(name.parent / name.stem): manifest
        for manifest, name in TarIterator(path)
        if manifest is not None
    }
