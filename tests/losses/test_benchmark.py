"""The benchmark of the losses: its table is held to ratios worked out by hand."""

import sys

import pytest

from benchmarks.transducer_loss import Cell, Result, described, main, table

SYSTEMS = ("k2", "fast_rnnt", "torch", "ours")


def result(wall: float, memory: float = 0.0) -> Result:
    """One system whose seconds of the processor are half of the wall time."""
    return Result([2 * wall, wall], [wall / 2, wall], memory, 0.0)


def test_the_ratio_is_to_the_stronger_peer_of_each_row() -> None:
    step = {
        name: result(wall, 10 * wall) for name, wall in zip(SYSTEMS, (12, 7, 6, 5), strict=True)
    }
    linear = {name: result(wall) for name, wall in zip(SYSTEMS[:3], (6, 4, 4), strict=True)}
    pruned = {name: result(wall) for name, wall in zip(SYSTEMS, (3, 4, 2, 1), strict=True)}
    measured = {
        Cell("pruned", "A", "1", "cpu"): pruned,
        Cell("step", "A", "1", "cpu"): step,
        Cell("linear", "A", "1", "cpu"): linear,
    }
    assert table(measured, SYSTEMS, "wall").splitlines()[2:] == [
        "| pruned | A | 1 | 3000 | 4000 | 2000 | 1000 | 3.00 | 2.00 | 0, 0 → 0 |",
        "| step | A | 1 | 12000 | 7000 | 6000 | 5000 | 1.40 | 1.20 | 120, 70 → 50 |",
        # 7 - 4, 6 - 4 and 5 - 4: ours multiplies as torch does.
        "| step-nolinear | A | 1 | 6000 | 3000 | 2000 | 1000 | 3.00 | 2.00 |  |",
    ]
    assert "| 1500 | 2000 |" in table(measured, SYSTEMS, "cpu").splitlines()[2]


def test_without_peers_there_is_no_ratio_to_them() -> None:
    measured = {Cell("pruned", "A", "1", "cpu"): {"torch": result(2.0), "ours": result(1.0, 5.0)}}
    (row,) = table(measured, ("torch", "ours"), "wall").splitlines()[2:]
    assert row == "| pruned | A | 1 | 2000 | 1000 |  | 2.00 | 5 |"


def test_an_interpreter_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--fast-rnnt-python", "nowhere/python"])
    assert ended.value.code == 2
    assert "--fast-rnnt-python nowhere/python is not a file" in capsys.readouterr().err


def test_an_interpreter_without_the_peer_is_refused() -> None:
    with pytest.raises(SystemExit, match="cannot import no_such_peer"):
        described({"no_such_peer": sys.executable})
