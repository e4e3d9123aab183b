"""Commands called in this process, as their scripts call them, and what they said."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest


class Said(NamedTuple):
    """The end of a command."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The message of a command that failed: the one line on the error stream."""
        (line,) = self.err.splitlines()
        assert line.startswith("error: ")
        return line


Call = Callable[..., Said]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    """Run ``main`` in a folder; logging is put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def run(main: Callable[[list[str]], int], folder: Path, *words: str) -> Said:
        monkeypatch.chdir(folder)
        capsys.readouterr()
        status = main(["--recipe", "./tones", *words])
        return Said(status, *capsys.readouterr())

    yield run
    for handler in root.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.close()
    root.handlers, root.level = handlers, level


@pytest.fixture
def run_folder(trained: Path, tmp_path: Path) -> Path:
    """A copy of ``trained`` to write to."""
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    return folder


@pytest.fixture
def recipe_with(tmp_path: Path) -> Callable[[str], Path]:
    """Write a recipe called ``tones`` with these lines under [flags]; return the folder above."""

    def write(flags: str) -> Path:
        folder = tmp_path / "tones"
        folder.mkdir()
        (folder / "recipe.toml").write_text(
            'corpus = "manifests"\n[splits]\ntrain = ["train"]\nvalid = ["dev"]\ntest = ["test"]\n'
            f"[flags]\n{flags}\n"
        )
        return tmp_path

    return write
