"""What several rooms share: a prepared corpus of tones and a model trained on it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tests import tones
from tests.captured_output import Call, Said
from tests.package.wheel import installed_wheel, wheel

__all__ = ["installed_wheel", "wheel"]

# No deadlines: a busy machine is no fault. The same examples every time: a red run can be repeated.
settings.register_profile("zipasr", deadline=None, derandomize=True)
settings.load_profile("zipasr")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the recipe ``tones``, prepared. Do not write to it: copy it."""
    folder = tmp_path_factory.mktemp("prepared")
    tones.prepare(folder, tones.make_recipe(folder))
    return folder


@pytest.fixture(scope="session")
def trained(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a run of two short epochs in ``exp``. Do not write to it: copy it."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    shutil.copytree(prepared, folder)
    done = tones.run(folder, "train.py")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def workdir(prepared: Path, tmp_path: Path) -> Path:
    """A copy of ``prepared`` to write to."""
    folder = tmp_path / "work"
    shutil.copytree(prepared, folder)
    return folder


@pytest.fixture(autouse=True)
def subnormal_numbers() -> None:
    """Undo what a training in this process, of a fixture too, sets: hypothesis checks for it."""
    torch.set_flush_denormal(False)


@pytest.fixture(autouse=True)
def usual_logging() -> Iterator[None]:
    """Undo what a training in this process, of a fixture too, sets for all of it."""
    _put_logging_back()
    yield
    _put_logging_back()


def _put_logging_back() -> None:
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if not type(handler).__module__.startswith("_pytest"):
            root.removeHandler(handler)
            handler.close()
    root.setLevel(logging.WARNING)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run ``main`` in a folder."""

    def run(main: Callable[[list[str]], int], folder: Path, *words: str) -> Said:
        monkeypatch.chdir(folder)
        capsys.readouterr()
        status = main(["--recipe", "./tones", *words])
        return Said(status, *capsys.readouterr())

    return run


@pytest.fixture
def run_folder(trained: Path, tmp_path: Path) -> Path:
    """A copy of ``trained`` to write to."""
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    return folder
