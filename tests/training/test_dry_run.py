"""What ``--dry-run`` says of this machine and of the run in the folder."""

from __future__ import annotations

import re
import shutil
import types
from pathlib import Path

import pytest

from tests.cli.conftest import Call
from zipasr.base.errors import ResourceError
from zipasr.cli import train
from zipasr.training import dry_run, memory

GIB = 2**30


def line_of(said: str, name: str) -> str:
    return next(line for line in said.splitlines() if line.startswith(f"{name:11}"))


def updates_to_come(said: str) -> int:
    return int(re.search(r", (\d+) (?:in|to come)", line_of(said, "steps"))[1])  # type: ignore[index]


def test_it_says_whether_a_batch_fits_and_what_would(
    workdir: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said_with(room: float, *words: str) -> tuple[str, str]:
        monkeypatch.setattr(memory, "free_bytes", lambda device: int(room))
        said = call(train.main, workdir, "--dry-run", "1", *words)
        assert said.status == 0, said.err
        line = line_of(said.out, "memory")
        lines = said.out.splitlines()
        return line, lines[lines.index(line) + 1].strip()

    line, fit = said_with(64 * GIB)
    assert fit == "fits here: 64 GiB are free for a batch"
    # Processes on a CPU share it.
    assert said_with(64 * GIB, "--world-size", "2")[1].startswith("fits here: 32 GiB are free")
    model, batch = (float(number) * GIB for number in re.findall(r"([\d.e-]+) GiB", line))
    little = model / 2 + 0.6 * batch  # half of what the model takes is not there yet
    fit = said_with(little)[1]
    found = re.fullmatch(
        r"does not fit here, where .* GiB are free for a batch: "
        r"--max-duration (\d+) --accumulate (\d+)",
        fit,
    )
    assert found is not None, fit
    seconds, batches = map(int, found.groups())
    assert 10 - batches < seconds * batches <= 10  # the update is that of the recipe, 10 s
    assert said_with(little, "--max-duration", str(seconds))[1].startswith("fits here")
    assert "take a smaller model" in said_with(model / 2)[1]


@pytest.mark.parametrize(("free", "advice"), [(9 * GIB, ""), (1000, ": make room, or lower")])
def test_it_says_whether_the_disk_has_room(
    free: int, advice: str, workdir: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def usage(path: Path) -> types.SimpleNamespace:
        asked.append(path)
        return types.SimpleNamespace(free=free)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    said = call(train.main, workdir, "--dry-run", "1", "--exp-dir", "not/yet/there")
    line = line_of(said.out, "disk")
    assert re.search(r"about [\d.e-]+ GiB of checkpoints, and [\d.e-]+ GiB are free", line)
    assert (advice in line) if advice else line.endswith("free")
    assert asked == [workdir.resolve()]


def test_it_says_what_happens_to_the_run_in_the_folder(run_folder: Path, call: Call) -> None:
    def dry(*words: str) -> str:
        said = call(train.main, run_folder, "--dry-run", "1", *words)
        assert said.status == 0, said.err
        return said.out

    before = {path: path.stat().st_mtime_ns for path in run_folder.rglob("*")}
    anew = dry("--resume", "0", "--num-epochs", "4")
    assert "\nrun " not in anew
    said = dry("--num-epochs", "4")
    assert line_of(said, "run") == ("run        goes on from epoch 3 of 4, after exp/epoch-2.pt")
    assert updates_to_come(said) * 2 == updates_to_come(anew)  # two of four epochs
    said = dry("--num-epochs", "4", "--start-epoch", "2")
    assert "goes on from epoch 2 of 4, after exp/epoch-1.pt" in line_of(said, "run")
    said = dry("--num-epochs", "2")
    assert "is at its end: exp/epoch-2.pt is of epoch 2;" in line_of(said, "run")
    assert ", 0 to come" in line_of(said, "steps")
    # As the start would refuse it; the time is that of a new run.
    said = dry("--num-epochs", "4", "--downsampling-factor", "1,4")
    assert re.match(r"run +would not start\. .*Fix: ", line_of(said, "run"))
    assert updates_to_come(said) == updates_to_come(anew)
    assert {path: path.stat().st_mtime_ns for path in run_folder.rglob("*")} == before


def test_a_folder_in_use_is_told(
    run_folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise ResourceError(f"{folder} is in use.", "wait for it.")

    monkeypatch.setattr(dry_run, "check_unused", refuse)
    said = call(train.main, run_folder, "--dry-run", "1")
    assert line_of(said.out, "run") == (
        "run        would not start. exp is in use. Fix: wait for it."
    )
