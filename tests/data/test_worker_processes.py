"""Worker processes that are killed, stopped, silent or short of memory: batches, or a sentence."""

from __future__ import annotations

import logging
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from tests import tones
from tests.data.conftest import TinyCorpus
from zipasr.base.environment import memory_of, return_free_memory
from zipasr.base.errors import DataError, ResourceError
from zipasr.data import worker_processes
from zipasr.data.config import AugmentConfig, DataConfig
from zipasr.data.cuts import in_memory
from zipasr.data.dataset import Batch
from zipasr.data.feature_store import process_context
from zipasr.data.loaders import EpochPosition, Loader, batching_of, train_loader
from zipasr.data.worker_processes import (
    LoadingStoppedError,
    ToldFaults,
    batches_of_workers,
    check_open_files,
    prepare_worker,
    to_share,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and forks")


class WithoutItsThread:
    """Torch's loader whose thread, which pins batches for a GPU, has ended."""

    def __init__(self) -> None:
        self._workers: list[Any] = []
        self._pin_memory_thread = SimpleNamespace(is_alive=lambda: False)

    def __iter__(self) -> WithoutItsThread:
        return self

    def __next__(self) -> Any:
        raise RuntimeError("DataLoader timed out after 5.0 seconds")


def test_a_thread_that_pins_no_more_is_a_lost_worker() -> None:
    loading = batches_of_workers(lambda _: WithoutItsThread(), lambda: False)  # type: ignore[arg-type, return-value]
    with pytest.raises(ResourceError, match="for the second time"):
        next(loading)


def loader_of(corpus: TinyCorpus, num_workers: int) -> Loader:
    data = DataConfig(max_duration=4.0, num_workers=num_workers, drop_last=False)
    augment = AugmentConfig(enable_musan=False)
    place = EpochPosition(layout=batching_of(data, 1), seed=1, epoch=1)
    return train_loader(in_memory(corpus.cuts)[0], data, augment, place)


def workers() -> list[int]:
    """The child processes of this process that load data."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in children]


def assert_same(batches: list[Batch], expected: list[Batch]) -> None:
    assert [batch.index for batch in batches] == [batch.index for batch in expected]
    for batch, other in zip(batches, expected, strict=True):
        assert torch.equal(batch.features, other.features)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("sent", ["nothing", "what it shares", "half a batch"])
def test_a_lost_worker_is_replaced_once_and_the_batches_are_the_same(
    number: signal.Signals,
    sent: str,
    corpus: TinyCorpus,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, value in (("TICK_SECONDS", 0.2), ("STOPPED_SECONDS", 0.4)):
        monkeypatch.setattr(worker_processes, name, value)
    monkeypatch.setattr("zipasr.data.loaders.TICK_SECONDS", 0.2)
    expected = list(loader_of(corpus, 0))
    assert len(expected) > 6
    if sent == "half a batch":
        monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    before = set(workers())
    found = []
    for batch in loader_of(corpus, 1):
        found.append(batch)
        if len(found) == 2:
            if sent != "nothing":  # the worker waits for us to take what is in the pipe
                time.sleep(1.0)
            (worker,) = set(workers()) - before
            os.kill(worker, number)
    assert_same(found, expected)
    assert "it is replaced, once" in caplog.text
    assert set(workers()) == before
    with pytest.raises(ResourceError, match=r"for the second time\. Fix: .* lower --num-workers"):
        kill_all_workers(loader_of(corpus, 1))
    assert set(workers()) == before


def kill_all_workers(loader: Loader) -> None:
    before = set(workers())
    for _ in loader:
        for worker in set(workers()) - before:
            os.kill(worker, signal.SIGKILL)


class Items:
    """A dataset that does something else for each number."""

    def __getitem__(self, number: int) -> Any:
        if number == 1:
            time.sleep(100)
        if number == 2:
            raise DataError("the second is bad.", "mend it.")
        if number == 3:
            raise OSError(24, "Too many open files")
        if number == 4:
            raise KeyError("a fault of the program")
        return number


def items(*numbers: int) -> Callable[[int], DataLoader[Any]]:
    def start(first: int) -> DataLoader[Any]:
        return DataLoader(
            ToldFaults(Items()),
            sampler=numbers[first:],  # type: ignore[arg-type]
            batch_size=None,
            num_workers=1,
            collate_fn=to_share,
            worker_init_fn=prepare_worker,
            multiprocessing_context=process_context(),
            timeout=0.2,
        )

    return start


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        (2, DataError, r"^the second is bad\. Fix: mend it\.$"),
        (3, ResourceError, "Too many open files.*ulimit -n 4096"),
        (4, RuntimeError, "a fault of the program"),
    ],
)
def test_what_goes_wrong_in_a_worker_is_said_here(
    number: int, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        list(batches_of_workers(items(0, number, 0), lambda: False))
    assert list(batches_of_workers(items(0, 5), lambda: False)) == [0, 5]


def _private_megabytes(prepared: bool, answer: Any) -> None:
    if prepared:
        prepare_worker()
    answer.put(memory_of(["self"]) / 1e6)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives free pages back")
def test_a_worker_keeps_no_gaps_of_its_parent() -> None:
    blocks = [torch.ones(25_000) for _ in range(4000)]
    kept = blocks[::50]
    blocks.clear()
    found = []
    for prepared in (False, True):
        answer = process_context().SimpleQueue()
        worker = process_context().Process(target=_private_megabytes, args=(prepared, answer))
        worker.start()
        found.append(answer.get())
        worker.join()
    return_free_memory()
    assert len(kept) == 80
    # As they are shared with this process, half of them count.
    assert found[0] - found[1] > 150


def test_one_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_processes, "SLOW_SECONDS", 0.3)
    monkeypatch.setattr(worker_processes, "SILENT_SECONDS", 0.6)
    before = set(workers())
    with pytest.raises(ResourceError, match="no batch came for"):
        list(batches_of_workers(items(0, 1), lambda: False))
    assert "waiting for a batch since" in caplog.text
    with pytest.raises(LoadingStoppedError):
        list(batches_of_workers(items(0, 1), lambda: True))
    assert set(workers()) == before


def full(_tensor: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("unable to write to file </torch_1>: No space left on device (28)")


def test_without_room_in_shared_memory_batches_come_through_a_pipe(
    corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    expected = list(loader_of(corpus, 0))
    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    assert_same(list(loader_of(corpus, 1)), expected)
    assert caplog.text.count("shared memory (/dev/shm) has no room") == 1


def test_few_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"now": (24, 30)}
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits["now"])
    monkeypatch.setattr(resource, "setrlimit", lambda which, pair: limits.update(now=pair))
    with pytest.raises(ResourceError, match=r"30 open files; .* needs 64\. Fix: ulimit -n 4096"):
        check_open_files()
    limits["now"] = (24, 100_000)
    check_open_files()
    assert limits["now"] == (4096, 100_000)


LIVE = """
import sys
from tests.data.test_worker_processes import batches_of_workers, items
waiting = batches_of_workers(items(0, 1), lambda: False)
next(waiting)
{end}
"""


@pytest.mark.parametrize(("end", "status"), [("sys.exit(3)", 3), ("1 / 0", 1)])
def test_a_program_with_live_workers_ends(end: str, status: int) -> None:
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", LIVE.format(end=end)],
        cwd=tones.ROOT,
        env=tones.environment(),
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == status, done.stderr
    logging.info("it took %.1f s", time.monotonic() - begun)
