"""Requirement files, the exact versions that are tested, and the script that installs them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.tones import ROOT

FILES = [
    "requirements.txt",
    "export-requirements.txt",
    "dask-requirements.txt",
    "egs/espeak/requirements.txt",
    "egs/gigaspeech/requirements.txt",
    "tests/requirements.txt",
]


def requirements(name: str, python: str) -> list[Requirement]:
    """What a file asks of a Python version."""
    lines = (line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    every = [Requirement(line) for line in lines if line]
    given = {"python_version": python}
    return [one for one in every if one.marker is None or one.marker.evaluate(given)]


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_every_requirement_has_one_exact_version_within_its_range(python: str) -> None:
    exact = requirements("constraints.txt", python)
    names = [one.name for one in exact]
    assert len(set(names)) == len(names)
    versions = {one.name: str(one.specifier) for one in exact}
    assert all(version.startswith("==") for version in versions.values())
    for name in FILES:
        for one in requirements(name, python):
            assert one.specifier.contains(versions[one.name].removeprefix("==")), one


def test_ranges_are_open_upwards() -> None:
    # The sound of the embedded corpus comes from one release of the synthesiser.
    others = [name for name in FILES if "espeak" not in name]
    found = [one for name in others for one in requirements(name, "3.10")]
    assert [str(one) for one in found if not str(one.specifier).startswith(">=")] == []
    assert any(str(one) == "torch>=2.6" for one in found)


PYTHON = """#!/usr/bin/env bash
if [ "$1" = -c ]; then exit 0; fi
if [ "$2" = venv ]; then mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; exit; fi
echo "$*" >> "$LOG"
"""


class Clone:
    """A copy of the script with requirements of its own, and a Python that notes its arguments."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        (folder / "local").mkdir()
        script = folder / "local" / "install.sh"
        script.write_text((ROOT / "local/install.sh").read_text())
        script.chmod(0o755)
        (folder / "python").write_text(PYTHON)
        (folder / "python").chmod(0o755)
        (folder / "a.txt").write_text("torch>=2.6\n")
        (folder / "constraints.txt").write_text("torch==2.11.0\n")

    def install(self, **variables: str) -> subprocess.CompletedProcess[str]:
        inherited = {k: v for k, v in os.environ.items() if k not in ("CONSTRAINTS", "VENV")}
        env = inherited | {"PYTHON": str(self.folder / "python"), "LOG": str(self.log)} | variables
        return subprocess.run(
            [self.folder / "local/install.sh", "a.txt"],
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )

    def installed(self, **variables: str) -> str:
        """Return what pip was called with; nothing if it was not."""
        self.log.unlink(missing_ok=True)
        done = self.install(**variables)
        assert done.returncode == 0, done.stderr
        return self.log.read_text().strip() if self.log.exists() else ""


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_the_exact_versions_are_installed_once(clone: Clone) -> None:
    assert clone.installed().endswith("-c constraints.txt -r a.txt")
    assert clone.installed() == ""


@pytest.mark.parametrize("name", ["constraints.txt", "a.txt"])
def test_a_changed_file_is_installed_anew(clone: Clone, name: str) -> None:
    clone.installed()
    with (clone.folder / name).open("a") as file:
        file.write("numpy>=1.26\n")
    assert clone.installed() != ""
    assert clone.installed() == ""


def test_without_constraints_the_ranges_alone_decide(clone: Clone) -> None:
    clone.installed()
    free = clone.installed(CONSTRAINTS="")
    assert free.endswith("-r a.txt")
    assert "-c" not in free.split()
    assert clone.installed(CONSTRAINTS="") == ""
    # The environment no longer has the exact versions.
    assert "-c constraints.txt" in clone.installed()


def test_constraints_that_are_not_there_are_told_in_one_line(clone: Clone) -> None:
    done = clone.install(CONSTRAINTS="mine.txt")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("install.sh: there is no file mine.txt. Fix: ")
    assert not clone.log.exists()
