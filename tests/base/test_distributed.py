"""A group of processes in which one fails: all end, and it is said once."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests import tones
from zipasr.base import distributed
from zipasr.base.distributed import (
    INTERRUPTED,
    World,
    all_gather,
    all_reduce_sum,
    barrier,
    launch,
    listening_at,
    rank0_errors,
)
from zipasr.base.errors import DataError, ResourceError, UserError
from zipasr.training.loop import StopRequest

pytestmark = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two processes need two cores")
HANG = 300.0


def gathers_then_fails_in_rank_1(world: World, folder: Path) -> None:
    assert all_gather(world.rank, world) == [0, 1]
    assert float(all_reduce_sum(torch.tensor(1.0 + world.rank), world)) == 3.0
    (folder / str(world.rank)).touch()
    if world.rank == 1:
        raise DataError("rank 1 has no data.", "give it some.")
    time.sleep(HANG)  # as if it waited on a GPU: it takes no notice of a connection that broke
    (folder / "woke up").touch()


def waits(world: World, folder: str, seconds: float = HANG) -> None:
    with StopRequest() as stop:
        Path(folder, f"waits-{world.rank}").touch()
        while not stop.requested:
            time.sleep(0.05)
        Path(folder, f"asked-{world.rank}").touch()
        time.sleep(seconds)


def with_two_that_wait(script: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start a script whose two processes run ``waits``, and return when both do."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)], cwd=tones.ROOT, env=tones.environment()
    )
    while len(list(folder.iterdir())) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    return process


def is_killed_in_rank_1(world: World) -> None:
    if world.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    barrier(world)


def writes_cache_sizes(world: World, folder: Path) -> None:
    values = [os.environ[name] for name in distributed.CACHE_ENVIRONMENT]
    (folder / f"{world.size}-{world.rank}").write_text(" ".join(values))


def test_all_keep_few_products_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = distributed.CACHE_ENVIRONMENT
    monkeypatch.setenv(first, "7")  # what the user has set stays
    monkeypatch.setenv(second, "")
    monkeypatch.delenv(second)
    for size in (1, 2):
        launch(writes_cache_sizes, size, 12360, tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(
        ("1-0", "2-0", "2-1"), "7 256"
    )


def test_one_that_fails_ends_one_that_hangs_and_its_message_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^rank 1 has no data\. Fix: give it some\.$"):
        launch(gathers_then_fails_in_rank_1, 2, 12355, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1"}


def test_a_second_interrupt_ends_all_at_once(tmp_path: Path) -> None:
    # A shell without job control starts what runs behind it, such as these tests, to ignore SIGINT.
    script = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    script += "from tests.base.test_distributed import *; launch(waits, 2, 12358, sys.argv[1])"
    process = with_two_that_wait(script, tmp_path)
    process.send_signal(signal.SIGINT)  # each child notes it, and goes on waiting
    while len(list(tmp_path.iterdir())) < 4:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=HANG) == INTERRUPTED


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the death of a parent")
def test_where_the_parent_is_killed_the_others_are_asked_to_end(tmp_path: Path) -> None:
    script = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    script += "from tests.base.test_distributed import *; launch(waits, 2, 12359, sys.argv[1], 0.0)"
    process = with_two_that_wait(script, tmp_path)
    process.kill()
    process.wait()
    deadline = time.monotonic() + HANG
    while len(list(tmp_path.iterdir())) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_one_that_is_killed_ends_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "GRACE_SECONDS", 1.0)
    with pytest.raises(ResourceError, match=r"process 1 was ended from outside \(SIGKILL\)"):
        launch(is_killed_in_rank_1, 2, 12356)


def test_what_all_find_alike_is_said_by_the_first_on_each_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(DataError), rank0_errors():
        raise DataError("x")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(SystemExit) as ended, rank0_errors():
        raise DataError("x")
    assert ended.value.code == 3


def test_torchrun_says_it_once_too(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from zipasr.base.distributed import launch\n"
        "from zipasr.base.errors import DataError\n"
        "from zipasr.cli.entry import guarded\n"
        "def work(world):\n"
        "    raise DataError('no data.')\n"
        "@guarded\n"
        "def main(argv=None):\n"
        "    launch(work, 1, 12357)\n"
        "sys.exit(main())\n"
    )
    said = what_fails_under_torchrun(script)
    assert said.count("error: no data.") == 1
    assert "exitcode  : 3" in said


def what_fails_under_torchrun(script: Path) -> str:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launcher, str(script)],
        env=tones.environment() | {"PYTHONPATH": str(tones.ROOT)},
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
    )
    assert done.returncode != 0
    return done.stderr


AS_NCCL = """
import sys, time
import torch
import torch.distributed as dist
from zipasr.base import distributed
from zipasr.base.errors import DataError
from zipasr.cli.entry import guarded

by_gloo = dist.init_process_group

def join(backend, timeout, **others):
    assert (backend, timeout) == ("nccl", distributed.GROUP_TIMEOUT)
    by_gloo("gloo", timeout=timeout, **others)

dist.init_process_group = join
# To leave the group, and to read a tensor, it waits for all that was asked of the others.
dist.destroy_process_group = lambda *_: time.sleep(1000)
torch.cuda.set_device = lambda device: None
distributed.device_for = lambda number: torch.device("cuda", number)

def work(world):
    if world.rank == 1:
        raise DataError("process 1 has no data.")
    time.sleep(1000)

@guarded
def main(argv=None):
    distributed.launch(work, 1, 12357)

sys.exit(main())
"""


def test_one_that_fails_ends_those_that_wait_for_it_on_a_gpu(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(AS_NCCL)
    said = what_fails_under_torchrun(script)
    assert said.count("error: process 1 has no data.") == 1
    assert "AssertionError" not in said


def looks_who_listens(world: World, folder: Path) -> None:
    if world.is_main:
        mine = set()
        for path in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                mine.add(str(path.readlink()).removeprefix("socket:[").rstrip("]"))
        lines = [
            line.split()
            for table in ("tcp", "tcp6")
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        ]
        found = [words[1] for words in lines if words[3] == "0A" and words[9] in mine]
        (folder / "listening").write_text("\n".join(found))
    barrier(world)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_processes_of_one_machine_listen_to_it_alone(tmp_path: Path) -> None:
    launch(looks_who_listens, 2, 12361, tmp_path)
    addresses = {line.split(":")[0] for line in (tmp_path / "listening").read_text().split()}
    assert addresses == {"0100007F"}


def is_stopped_in_rank_1(world: World) -> None:
    if world.rank == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    barrier(world)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_one_that_is_stopped_ends_all_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "STOPPED_SECONDS", 2)
    with pytest.raises(ResourceError, match=r"process 1 was stopped from outside \(SIGSTOP\)"):
        launch(is_stopped_in_rank_1, 2, 12362)


def test_a_run_that_is_paused_as_a_whole_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    group = SimpleNamespace(processes=[SimpleNamespace(pid=1), SimpleNamespace(pid=2)])
    states = {1: "T", 2: "T"}
    monkeypatch.setattr(distributed, "process_state", lambda pid: states[pid])
    assert distributed._stopped_for(group, 100) == 0  # type: ignore[arg-type]
    states[2] = "S"
    assert distributed._stopped_for(group, 4) == 5  # type: ignore[arg-type]
    states[1] = "R"
    assert distributed._stopped_for(group, 5) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rank", "said"), [("x", "RANK='x', which is no number"), ("2", "do not go together")]
)
def test_numbers_of_a_launcher_that_are_none(
    rank: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("RANK", rank), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=said):
        launch(barrier, 1, 12363)


def test_a_port_is_taken_from_the_moment_it_is_chosen() -> None:
    with listening_at(0) as first:
        wanted = first.getsockname()[1]
        with listening_at(wanted) as second:
            assert second.getsockname()[1] != wanted
    with listening_at(wanted) as again:
        assert again.getsockname()[1] == wanted
