"""Two runs in one folder: the second is refused, whatever became of an earlier one."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import tones
from zipasr.base.errors import ResourceError
from zipasr.base.lock import LOCK_FILE, check_unused, only_run_in

HOLD = """
import sys, time
from pathlib import Path
from zipasr.base.lock import only_run_in
with only_run_in(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start a process that holds ``tmp_path``."""
    started = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path)],
            cwd=tones.ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_folder_is_held_by_one_process(
    hold: Callable[[], subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = hold()
    refusal = rf"is in use by another run \(process {process.pid}, started 20\d\d-.*Fix: wait for"
    for _ in range(2):
        with pytest.raises(ResourceError, match=refusal), only_run_in(tmp_path):
            pass
        with pytest.raises(ResourceError, match=refusal):
            check_unused(tmp_path)
    process.communicate()
    assert list(tmp_path.iterdir()) == []
    check_unused(tmp_path)


def test_what_a_killed_process_left_is_in_nobodys_way(
    hold: Callable[[], subprocess.Popen[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    process = hold()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert (tmp_path / LOCK_FILE).is_file()
    check_unused(tmp_path)
    caplog.set_level(logging.INFO)
    with only_run_in(tmp_path):
        assert f"(process {process.pid}, started 20" in caplog.text
        assert str(os.getpid()) in (tmp_path / LOCK_FILE).read_text()
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_anything_in_it_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text("[1")
    check_unused(tmp_path)
    with pytest.raises(KeyError), only_run_in(tmp_path):
        raise KeyError
    assert list(tmp_path.iterdir()) == []
