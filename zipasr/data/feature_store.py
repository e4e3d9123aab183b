"""Extraction of log-mel features in tasks: archives, worker processes, resumption."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import lhotse
import numpy as np
import torch
from lhotse import CutSet, Fbank
from lhotse.augmentation import torchaudio as resampling
from lhotse.cut import Cut
from lhotse.features.base import Features
from lhotse.features.io import FeaturesWriter, LilcomChunkyWriter, MemoryRawWriter, NumpyFilesWriter
from lhotse.utils import fastcopy

from zipasr.base.constants import SAMPLING_RATE
from zipasr.base.errors import ResourceError
from zipasr.base.files import atomic_path, digest_of
from zipasr.data.config import NUM_MEL_BINS
from zipasr.data.filters import BROKEN_MANIFEST, Failure, failure_of_cut, reason_of_error
from zipasr.data.shards import ShardOfFeatures
from zipasr.data.worker_processes import prepare_worker

# lhotse resamples by a windowed sinc of its own that needs torch alone, but takes it only where
# torchaudio is installed, and else scipy's filter: the same recordings would have other features.
# Whatever reads cuts for features imports this module.
resampling.is_torchaudio_available = lambda: True


def fbank_extractor(num_mel_bins: int = NUM_MEL_BINS) -> Fbank:
    """Return lhotse's extractor: 16 kHz, 25 ms windows every 10 ms, no dither, 20 to 7600 Hz."""
    return Fbank(lhotse.FbankConfig(num_mel_bins=num_mel_bins, sampling_rate=SAMPLING_RATE))


_ORIGIN = "begun_from.json"
_CUTS = ".done.jsonl.gz"
_FAILURES = ".failed.json"


def begin_extraction(folder: Path, origin: Mapping[str, Any]) -> None:
    """Make the folder ready; what it holds is kept if it was begun from the same ``origin``."""
    record = folder / _ORIGIN
    text = json.dumps(origin, sort_keys=True)
    if not (record.is_file() and record.read_text(encoding="utf-8") == text):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with atomic_path(record) as temporary:
            temporary.write_text(text, encoding="utf-8")


class StoredArchive(NamedTuple):
    """What one archive holds.

    Attributes:
        cuts: with their features.
        failures: cuts of which the audio is of no use.
        digests: checksums of its files, or of its folder, by name.
    """

    cuts: list[Cut]
    failures: list[Failure]
    digests: dict[str, str]


def remember_archive(folder: Path, name: str, stored: StoredArchive) -> None:
    """Note that the archive ``name`` is whole, and what it holds."""
    about = {
        "failures": [list(failure) for failure in stored.failures],
        "digests": stored.digests,
    }
    with atomic_path(folder / f"{name}{_FAILURES}") as temporary:
        temporary.write_text(json.dumps(about), encoding="utf-8")
    # Last, and so a sign that all of it is there.
    with atomic_path(folder / f"{name}{_CUTS}") as temporary:
        CutSet.from_cuts(stored.cuts).to_file(temporary)


def remembered_archive(folder: Path, name: str, cuts: Sequence[Cut]) -> StoredArchive | None:
    """Return the record of the archive of these cuts; None when it is not done, or was damaged."""
    path = folder / f"{name}{_CUTS}"
    if not path.is_file():
        return None
    try:
        done = list(CutSet.from_file(path))
        about = json.loads((folder / f"{name}{_FAILURES}").read_text(encoding="utf-8"))
        failures, digests = [Failure(*row) for row in about["failures"]], about["digests"]
        intact = all(digest_of(folder / file) == digest for file, digest in digests.items())
    except BROKEN_MANIFEST:
        return None
    known = {cut.id for cut in done} | {failure.cut_id for failure in failures}
    # Other cuts may have gone into quarantine since.
    is_same = intact and known == {cut.id for cut in cuts}
    return StoredArchive(done, failures, digests) if is_same else None


def is_begun(folder: Path) -> bool:
    """Say whether any archive of the folder is done."""
    return next(folder.glob(f"*{_CUTS}"), None) is not None


def forget_archives(folder: Path) -> None:
    """Delete the notes: all archives are done."""
    for path in [folder / _ORIGIN, *folder.glob(f"*{_CUTS}"), *folder.glob(f"*{_FAILURES}")]:
        path.unlink(missing_ok=True)


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


def store_archive(task: Archive) -> StoredArchive:
    """Compute the features of an archive and write it, unless it is there from an earlier call."""
    known = remembered_archive(task.folder, task.name, task.cuts)
    if known is not None:
        return known
    if task.storage == "none":
        return StoredArchive(task.cuts, [], {})
    if task.storage == "shar":
        return _store_shard(task)
    done: list[Cut] = []
    failures: list[Failure] = []
    with _WRITERS[task.storage](task.folder / task.name) as writer:
        for cut, features in _extracted(task, writer, failures):
            # The folder is renamed at the end; the manifest names it as it will be.
            path = task.final_folder / Path(features.storage_path).name
            done.append(fastcopy(cut, features=fastcopy(features, storage_path=str(path))))
    stored = StoredArchive(done, failures, _digests(task.folder, task.name))
    remember_archive(task.folder, task.name, stored)
    return stored


def _store_shard(task: Archive) -> StoredArchive:
    done: list[Cut] = []
    failures: list[Failure] = []
    with ShardOfFeatures(task.folder, int(task.name.rpartition("-")[2])) as shard:
        for cut, features in _extracted(task, MemoryRawWriter(), failures):
            done.append(shard.write(cut, features, task.final_folder))
    return StoredArchive(done, failures, {shard.name: digest_of(task.folder / shard.name)})


def _digests(folder: Path, name: str) -> dict[str, str]:
    """Return the checksum of an archive by the name of its file, or of its folder."""
    paths = [path for path in folder.glob(f"{name}*") if path.stem == name]
    return {path.name: digest_of(path) for path in paths}


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
            failures.append(failure_of_cut(cut, error))
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
        raise ValueError(reason_of_error(error)) from error
    if samples.size == 0:
        raise ValueError("no samples")
    if not np.isfinite(samples).all():
        raise ValueError("samples that are not finite")
    return samples


def process_context() -> BaseContext:
    """Return the cheapest safe way to start a process here.

    On Linux a fork costs milliseconds where a fresh interpreter needs seconds to import torch and
    lhotse, and it is safe because the children neither touch the GPU nor use more than one thread
    of torch. Elsewhere the system libraries do not survive a fork.
    """
    return multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")


T = TypeVar("T")
R = TypeVar("R")

_SECONDS_TO_CONNECT = 10


def run_tasks(
    work: Callable[[T], R], tasks: Sequence[T], *, num_jobs: int, scheduler: str | None = None
) -> Iterator[R]:
    """Yield the results in the order of the tasks.

    Args:
        work: a function that other processes can import.
        tasks: arguments, one for each call.
        num_jobs: processes on this machine.
        scheduler: address of a Dask scheduler, whose workers do the work instead; they need the
            same files under the same paths, and the same packages.

    Raises:
        ResourceError: a process was killed, or the scheduler cannot be reached.
    """
    if scheduler is not None:
        with dask_executor(scheduler) as executor:
            yield from executor.map(partial(_in_folder, work, Path.cwd()), tasks)
        return
    jobs = min(num_jobs, len(tasks))
    if jobs <= 1:
        yield from map(work, tasks)
        return
    try:
        with ProcessPoolExecutor(jobs, process_context(), initializer=prepare_worker) as pool:
            yield from pool.map(work, tasks)
    except BrokenProcessPool as error:
        raise ResourceError(
            "a process that computed features was killed, perhaps for lack of memory.",
            "run the stage again with a smaller --num-jobs",
        ) from error


@contextmanager
def dask_executor(scheduler: str) -> Iterator[Executor]:
    """Connect to a Dask scheduler; give the executor of its workers.

    Raises:
        ResourceError: the package is missing, or nobody answers.
    """
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError as problem:
        raise ResourceError(
            "--executor dask needs the package distributed, which is not installed.",
            "pip install distributed",
        ) from problem
    try:
        client = distributed.Client(scheduler, timeout=_SECONDS_TO_CONNECT)
    except (OSError, TimeoutError, ValueError) as problem:
        raise ResourceError(
            f"--scheduler {scheduler}: no Dask scheduler answers there.",
            "start one (dask scheduler), and workers (dask worker ADDRESS)",
        ) from problem
    with client:
        yield client.get_executor()


def _in_folder(work: Callable[[T], R], folder: Path, task: T) -> R:
    # Relative paths count from where the command was started, on every machine.
    os.chdir(folder)
    torch.set_num_threads(1)
    return work(task)
