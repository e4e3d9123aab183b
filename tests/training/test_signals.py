"""What ends a run from outside, or does not: signals, a closed terminal, a folder that is gone."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import tones
from tests.training.kill_at import assert_same_training
from tests.training.short import train
from zipasr.base.distributed import INTERRUPTED
from zipasr.base.errors import ResourceError
from zipasr.training import loop
from zipasr.training.loop import SAVE_SIGNAL, StopRequest, nothing_to_save_yet
from zipasr.training.session import Session

FLAGS = "--save-every-n 1000 --max-duration 10 --valid-wer-cuts 0"


@pytest.fixture
def at_update(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[dict[int, Callable[[], object]]], None]:
    """Do something in the middle of an update."""

    def plan(deeds: dict[int, Callable[[], object]]) -> None:
        begin = loop.begin_update

        def begin_and_do(session: Session, batches: list[object]) -> None:
            begin(session, batches)  # type: ignore[arg-type]
            deeds.get(session.state.batch_idx_train, lambda: None)()

        monkeypatch.setattr(loop, "begin_update", begin_and_do)

    return plan


def send(number: signal.Signals) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


@pytest.fixture
def heeds_signals() -> Iterator[None]:
    """Heed what nohup, or a shell that started the tests in the background, tells to ignore."""
    kinds = (signal.SIGHUP, signal.SIGQUIT)
    before = [signal.signal(kind, signal.SIG_DFL) for kind in kinds]
    yield
    for kind, handler in zip(kinds, before, strict=True):
        signal.signal(kind, handler)


@pytest.mark.usefixtures("heeds_signals")
def test_a_request_to_save_and_a_closed_terminal(
    workdir: Path,
    monkeypatch: pytest.MonkeyPatch,
    at_update: Callable[[dict[int, Callable[[], object]]], None],
) -> None:
    monkeypatch.chdir(workdir)
    whole, parts = workdir / "whole", workdir / "parts"
    train(whole, FLAGS)
    at_update({2: send(signal.SIGUSR1), 4: send(signal.SIGHUP), 6: send(signal.SIGQUIT)})
    for batches in (4, 6):
        with pytest.raises(SystemExit) as end:
            train(parts, FLAGS)
        assert end.value.code == INTERRUPTED
        assert (parts / f"checkpoint-{batches}.pt").is_file()
    assert (parts / "checkpoint-2.pt").is_file()  # saved, and went on
    train(parts, FLAGS)
    # The loss of the epoch goes on, too.
    assert_same_training(parts / "epoch-1.pt", whole / "epoch-1.pt")


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_folder_that_is_renamed_ends_the_run(
    is_replaced: bool,
    workdir: Path,
    monkeypatch: pytest.MonkeyPatch,
    at_update: Callable[[dict[int, Callable[[], object]]], None],
) -> None:
    monkeypatch.chdir(workdir)
    exp = workdir / "exp"

    def rename() -> None:
        exp.rename(workdir / "elsewhere")
        if is_replaced:
            exp.mkdir()

    at_update({3: rename})
    with pytest.raises(ResourceError, match=r"exp was deleted or renamed while a run wrote to it"):
        train(exp, FLAGS + " --tensorboard 1")
    assert exp.exists() == is_replaced
    assert not is_replaced or not list(exp.iterdir())
    shutil.rmtree(workdir / "elsewhere")


def test_signals_that_are_ignored_stay_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.requested
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.requested
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_request_to_save_before_there_is_anything_does_nothing() -> None:
    with nothing_to_save_yet():
        os.kill(os.getpid(), SAVE_SIGNAL)
    assert signal.getsignal(SAVE_SIGNAL) == signal.SIG_DFL


@pytest.mark.slow
@pytest.mark.skipif(tones.processes() < 2, reason="needs two cores")
@pytest.mark.parametrize("to_all", [False, True])
def test_two_processes_with_loading_processes_end_when_asked(workdir: Path, to_all: bool) -> None:
    flags = ["--world-size", "2", "--num-workers", "1", "--num-epochs", "99", "--log-interval", "1"]
    log = workdir / "said"
    with (
        log.open("w") as said,
        subprocess.Popen(
            tones.command(workdir, "train.py", *flags),
            cwd=workdir,
            env=tones.environment(),
            stdout=said,
            stderr=said,
            start_new_session=True,
            # Where the tests run in the background of a script, it would be ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        ) as run,
    ):
        try:
            until = time.monotonic() + 300
            while "epoch 2/99" not in log.read_text() and time.monotonic() < until:
                time.sleep(0.2)
            # A terminal tells all of them, kill the one that it is given.
            os.killpg(run.pid, signal.SIGINT) if to_all else run.send_signal(signal.SIGINT)
            assert run.wait(timeout=60) == INTERRUPTED, log.read_text()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)
    assert "stopped and saved" in log.read_text()
