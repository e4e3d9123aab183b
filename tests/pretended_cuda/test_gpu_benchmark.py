"""``benchmarks.gpu`` on a CPU: the whole program, and what becomes of parts that fail."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu import Part, main, peak_of, table
from benchmarks.gpu_parts import Counted, Measured, Place, Work
from benchmarks.roofline import KNOWN, Peak, known_peak
from tests.pretended_cuda.test_pretended_cuda import needs_numba, needs_pretended_device

SMALL = ("--device", "cpu", "--tiny", "1", "--patience", "50")


def rows_of(text: str) -> dict[str, list[str]]:
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    return {row[0]: row[1:] for row in cells if len(row) == 9}


@needs_numba
@needs_pretended_device
def test_the_whole_program_runs_on_a_cpu(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "folder" / "gpu.md"
    status = main([*SMALL, "--table", str(path)])
    said = capfd.readouterr()
    text = path.read_text()
    assert status == 0, said.err + text
    assert text in said.out
    assert "as measured" in text
    rows = rows_of(text)
    assert all(row[-1].startswith(("well", "short", "the brake")) for row in [*rows.values()][2:])
    steps = {f"step, {name}" for name in ("small", "medium", "large", "Zapformer")}
    counted = {*steps, "transducer loss", "ScaledAdam", "BatchedRubik", "fast_beam_search"}
    assert {*counted, "copy", "product of matrices", "loading, 1 workers"} <= rows.keys()
    for name in counted:
        difference, tolerated, milliseconds, _, launches, roofline, *_ = rows[name]
        assert float(difference) <= float(tolerated)
        assert float(milliseconds) > 0
        assert int(launches) > 0
        assert float(roofline) > 0


def good(name: str) -> Work:
    return Work(name=name, run=lambda: None, difference=lambda: 0.5, tolerance=1.0, speech=2.0)


def fails(_place: Place) -> Iterator[Work]:
    def broken() -> float:
        raise RuntimeError("no such kernel\nand more")

    yield Work(name="broken", run=None, difference=broken, tolerance=1.0)
    yield good("after it")


def is_killed(_place: Place) -> Iterator[Work]:
    yield good("before the end")
    os.abort()


def hangs(_place: Place) -> Iterator[Work]:
    yield good("before the wait")
    time.sleep(1000)


def is_wrong(_place: Place) -> Iterator[Work]:
    for number in (0.9, 1.1, float("nan")):
        yield Work(name=f"{number}", run=None, difference=lambda n=number: n, tolerance=1.0)


def test_parts_that_fail_are_told_and_the_next_ones_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    functions = {"fails": fails, "killed": is_killed, "hangs": hangs, "wrong": is_wrong}
    limits = {"hangs": 1}
    parts = [
        Part(name, works, limits.get(name, 1000), counted=False)
        for name, works in functions.items()
    ]
    path = tmp_path / "gpu.md"
    assert main([*SMALL[:4], "--patience", "10", "--table", str(path)], parts) == 1
    verdicts = {name: row[-1] for name, row in rows_of(path.read_text()).items()}
    assert verdicts["broken"] == "FAILED: RuntimeError: no such kernel"
    assert verdicts["after it"] == verdicts["before the end"] == verdicts["before the wait"]
    assert verdicts["after it"] == "well"
    assert verdicts["killed"] == "FAILED: ended with status -6"
    assert verdicts["hangs"] == "FAILED: did not end within 10 s"
    assert [verdicts[name] for name in ("0.9", "1.1", "nan")] == ["well", "WRONG", "WRONG"]
    capfd.readouterr()
    assert main([*SMALL, "--only", "none", "--table", str(path)], parts) == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gpu.md"
    assert main(["--table", str(path)]) == 2
    said = capsys.readouterr()
    assert said.err == "error: torch sees no GPU; --device cpu --tiny 1 tries the program.\n"
    assert not said.out
    assert not path.exists()


def test_devices_are_known_by_the_names_that_torch_gives_them() -> None:
    assert known_peak("NVIDIA H100 80GB HBM3") == KNOWN["H100"]
    assert known_peak("NVIDIA H100 PCIe") == KNOWN["H100 PCIe"]
    assert known_peak("NVIDIA A100-SXM4-80GB") == KNOWN["A100-SXM4-80GB"]
    assert known_peak("NVIDIA GeForce RTX 4090") == KNOWN["RTX 4090"]
    assert known_peak("NVIDIA L40S") == KNOWN["L40S"]
    assert known_peak("NVIDIA A1000") is None
    # 4.8 GB take a millisecond, 989 GFLOP too; together they overlap.
    assert KNOWN["H200"].milliseconds(4.8e9, 0.5 * 989e9) == pytest.approx(1.0)
    assert KNOWN["H200"].milliseconds(0.0, 2 * 989e9) == pytest.approx(2.0)


def test_what_falls_short_of_the_device_is_named() -> None:
    peak = Peak(1e12, 1e14)
    measured = [
        Measured(name="step, small", milliseconds=10.0, speech=100.0),
        Measured(name="near", milliseconds=10.0, cost=(8e9, 0.0)),
        Measured(name="loading, 2 workers", milliseconds=1000.0, speech=9000.0),
        Measured(name="copy", milliseconds=2.0, cost=(1e9, 0.0)),
    ]
    rows = rows_of(
        table(measured, {"step, small": Counted("step, small", 1000, (1e9, 4e11))}, peak)
    )
    assert rows["step, small"][2:] == [
        "10", "10000", "1000", "4", "40%", "short of the limit, 10.0 us a launch",
    ]  # fmt: skip
    assert rows["near"][5:] == ["8", "80%", "well"]
    assert rows["loading, 2 workers"][-1] == "the brake: the small step takes 10000 s of speech/s"
    # Of a device that is not listed, the copy is the limit of memory.
    product = Measured(name="product", milliseconds=4.0, cost=(1e6, 1e12))
    assert peak_of("Nobody's", [*measured[3:], product]) == Peak(5e11, 2.5e14)
    assert peak_of("Nobody's", measured[3:]) is None
    assert peak_of("NVIDIA H200", []) == KNOWN["H200"]
    assert gpu.PARTS[0].name == "device"
