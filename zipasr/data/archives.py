"""Features of some cuts in one file: the work of one process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lhotse.cut import Cut
from lhotse.features.base import Features
from lhotse.features.io import FeaturesWriter, LilcomChunkyWriter, MemoryRawWriter, NumpyFilesWriter
from lhotse.utils import fastcopy

from zipasr.audio.loading import SAMPLING_RATE
from zipasr.data.extractor import fbank_extractor
from zipasr.data.failures import Failure, failure_of, reason_of
from zipasr.data.shards import ShardOfFeatures
from zipasr.data.unfinished import remember, remembered

_WRITERS: dict[str, type[FeaturesWriter]] = {
    "lilcom_chunky": LilcomChunkyWriter,
    "numpy_files": NumpyFilesWriter,
}


class Archive(NamedTuple):
    """Cuts that are stored in one file (or one folder).

    Attributes:
        cuts: what is to be read.
        name: of the file, without its ending.
        folder: where it is written.
        final_folder: where it will be when all are whole.
        storage: how, see ``FbankConfig``.
        num_mel_bins: C of the features.
    """

    cuts: list[Cut]
    name: str
    folder: Path
    final_folder: Path
    storage: str
    num_mel_bins: int


_Stored = tuple[list[Cut], list[Failure]]


def store_archive(task: Archive) -> _Stored:
    """Compute the features of an archive and write it, unless it is there from an earlier call.

    Returns:
        The cuts with their features, and those of which the audio is of no use.
    """
    known = remembered(task.folder, task.name, task.cuts)
    if known is not None:
        return known
    if task.storage == "none":
        return task.cuts, []
    if task.storage == "shar":
        return _store_shard(task)
    done: list[Cut] = []
    failures: list[Failure] = []
    with _WRITERS[task.storage](task.folder / task.name) as writer:
        for cut, features in _extracted(task, writer, failures):
            # The folder is renamed at the end; the manifest names it as it will be.
            path = task.final_folder / Path(features.storage_path).name
            done.append(fastcopy(cut, features=fastcopy(features, storage_path=str(path))))
    remember(task.folder, task.name, done, failures)
    return done, failures


def _store_shard(task: Archive) -> _Stored:
    done: list[Cut] = []
    failures: list[Failure] = []
    with ShardOfFeatures(task.folder, int(task.name.rpartition("-")[2])) as shard:
        for cut, features in _extracted(task, MemoryRawWriter(), failures):
            done.append(shard.write(cut, features, task.final_folder))
    return done, failures


def _extracted(
    task: Archive, writer: FeaturesWriter, failures: list[Failure]
) -> Iterator[tuple[Cut, Features]]:
    """Yield the cuts with their features, which the writer has; note those that have none."""
    extractor = fbank_extractor(task.num_mel_bins)
    for cut in task.cuts:
        try:
            features = extractor.extract_from_samples_and_store(
                _samples(cut), writer, SAMPLING_RATE, offset=cut.start, channel=cut.channel
            )
        except _UNUSABLE as error:
            failures.append(failure_of(cut, error))
            continue
        yield cut, features


# What the extractor raises on audio that it cannot use. A full disk (OSError) is none of these.
_UNUSABLE = (ValueError, RuntimeError, AssertionError)


def _samples(cut: Cut) -> np.ndarray[Any, Any]:
    """Return the audio of a cut.

    Raises:
        ValueError: it cannot be decoded, whatever the decoder raised; or it holds no numbers.
    """
    try:
        samples: np.ndarray[Any, Any] = cut.load_audio()
    except Exception as error:
        raise ValueError(reason_of(error)) from error
    if samples.size == 0:
        raise ValueError("no samples")
    if not np.isfinite(samples).all():
        raise ValueError("samples that are not finite")
    return samples
