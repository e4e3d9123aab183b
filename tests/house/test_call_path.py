"""Hops from an entry point to what computes, read off the stack of a real run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests import tones
from zipasr.cli import decode as decode_command
from zipasr.cli import train as train_command

pytestmark = [
    pytest.mark.skipif(
        sys.version_info < (3, 11), reason="code objects have no qualified name before Python 3.11"
    ),
]
LIBRARY = tones.ROOT / "zipasr"
Stack = list[tuple[str, str]]


def stack_of(frame: FrameType | None) -> Stack:
    """Return file and function of each call inside the library, outermost first.

    Decorators, comprehensions and nested functions are left out: a reader need not follow them.
    """
    calls: Stack = []
    while frame is not None:
        path, code = Path(frame.f_code.co_filename), frame.f_code
        is_named = not code.co_name.startswith("<") and "<locals>" not in code.co_qualname
        if path.is_relative_to(LIBRARY) and is_named:
            calls.append((path.relative_to(LIBRARY).as_posix(), code.co_name))
        frame = frame.f_back
    return calls[::-1]


def stacks_at(targets: set[tuple[str, str]], run: Callable[[], Any]) -> list[Stack]:
    """Run something; return the stacks at the first call of each target, a file and function."""
    found: dict[tuple[str, str], Stack] = {}
    names = {name for _, name in targets}

    def note(frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call" and frame.f_code.co_name in names:
            file = frame.f_code.co_filename.removeprefix(f"{LIBRARY}/")
            target = (file, frame.f_code.co_name)
            if target in targets and target not in found:
                found[target] = stack_of(frame)

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    assert set(found) == targets
    return sorted(found.values(), key=len)


def size(stack: Stack) -> tuple[int, int]:
    """Return how many calls and how many files."""
    return len(stack), len({file for file, _ in stack})


def shown(title: str, stack: Stack) -> str:
    calls, files = size(stack)
    lines = [f"  {file}: {name}" for file, name in stack]
    return "\n".join([f"\n{title}: {calls} calls, {files} files", *lines, ""])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("call-path")
    flags = 'num-workers = 0\nrehearse = 0\nctc-only-batches = 0\nrnnt-type = "regular"'
    tones.prepare(folder, tones.make_recipe(folder, train=12, evaluation=2, flags=flags))
    return folder


def test_from_train_py_to_the_loss(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("numba")
    monkeypatch.chdir(project)
    words = ["--recipe", "./tones", "--num-epochs", "1", "--rnnt-backend", "numba"]
    targets = {("losses/numba_backend.py", "forward"), ("model/transducer.py", "forward")}
    to_model, to_loss = stacks_at(targets, lambda: train_command.main(words))
    after_loop = to_model[[name for _, name in to_model].index("train_one_epoch") + 1 :]
    with capsys.disabled():
        sys.stdout.write(shown("from train.py to the loss kernel", to_loss))
        sys.stdout.write(shown("from the training loop to AsrModel.forward", after_loop))
    calls, files = size(to_loss)
    assert calls <= 12
    assert files <= 8
    assert size(after_loop) <= (3, 3)


def test_from_decode_py_to_the_word_errors(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run_folder)
    words = ["--recipe", "./tones", "--num-workers", "0"]
    targets = {
        ("encoder/zipformer/prepared.py", "encode"),
        ("search/greedy.py", "advance"),
        ("scoring/word_errors.py", "count_errors"),
    }
    stacks = stacks_at(targets, lambda: decode_command.main(words))
    with capsys.disabled():
        for stack in stacks:
            sys.stdout.write(shown(f"from decode.py to {': '.join(stack[-1])}", stack))
    for stack in stacks:
        calls, files = size(stack)
        assert calls <= 8
        assert files <= 6
