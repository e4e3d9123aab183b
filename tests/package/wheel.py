"""The wheel, and an environment outside the checkout in which it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tones import ROOT, check, environment

SOURCES = (
    "pyproject.toml",
    "setup.py",
    "README.md",
    "LICENSE",
    "NOTICE",
    "requirements.txt",
    "export-requirements.txt",
    "dask-requirements.txt",
    "vad-requirements.txt",
    "tests/requirements.txt",
    "zipasr",
    "egs",
)


@dataclass(frozen=True, slots=True)
class InstalledWheel:
    """An environment with the wheel and, from the environment of the tests, all it depends on.

    Attributes:
        folder: of the environment; the checkout is not on its path.
    """

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def command(self) -> Path:
        """The command ``zipasr``."""
        return self.folder / "bin" / "zipasr"

    def zipasr(self, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the command in a folder."""
        return self._run([str(self.command), *words], cwd)

    def program(self, cwd: Path, text: str) -> subprocess.CompletedProcess[str]:
        """Run a program of Python in a folder."""
        return self._run([str(self.python), "-c", text], cwd)

    def _run(self, words: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
        return subprocess.run(
            words, cwd=cwd, env=kept, capture_output=True, text=True, timeout=900, check=False
        )


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built without a network from a copy of the sources."""
    pytest.importorskip("build", reason="tests/requirements.txt is not installed")
    import setuptools

    if int(setuptools.__version__.split(".")[0]) < 77:
        pytest.skip("setuptools is older than tests/requirements.txt asks for")
    sources, out = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("dist")
    for name in SOURCES:
        _copy(ROOT / name, sources / name)
    words = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(sources)]
    _python(*words)
    (file,) = out.glob("*.whl")
    return file


@pytest.fixture(scope="session")
def installed_wheel(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> InstalledWheel:
    """The wheel in an environment of its own, outside the checkout. Do not install into it."""
    installed = InstalledWheel(tmp_path_factory.mktemp("environment") / "venv")
    _python("-m", "venv", "--without-pip", str(installed.folder))
    (site,) = installed.folder.glob("lib/python*/site-packages")
    # What it depends on is not downloaded again.
    (site / "of_the_tests.pth").write_text("".join(f"{path}\n" for path in _site_packages()))
    install = ["install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    _python("-m", "pip", "--python", str(installed.python), *install, str(wheel))
    return installed


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def _site_packages() -> Iterator[str]:
    for path in sys.path:
        if Path(path).name in ("site-packages", "dist-packages"):
            yield path


def _python(*words: str) -> None:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    check(
        subprocess.run(
            [sys.executable, *words],
            cwd=Path(sys.prefix),
            env=kept,
            capture_output=True,
            text=True,
            check=False,
        )
    )
