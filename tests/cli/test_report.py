"""The report from the command line: files, comparison, and what is said when there is nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scoring.decoded import decoding
from zipasr.cli import report
from zipasr.scoring.decodings import write_decoding


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs, ``good`` and ``bad``, in the working directory, and a recipe that sets nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "recipe.toml").write_text(
        'corpus = "x"\n[splits]\ntrain = ["a"]\nvalid = ["b"]\ntest = ["c"]\n'
    )
    for name, rate in (("good", 0.1), ("bad", 0.6)):
        for seed, method in enumerate(("greedy_search", "modified_beam_search")):
            write_decoding(tmp_path / name / method, decoding(method, rate, seed))
    return tmp_path


def call(*words: str) -> int:
    return report.main(["--recipe", "./bare", *words])


def test_report_of_a_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--exp-dir", "good") == 0
    assert capsys.readouterr().out.split() == ["good/report.html", "good/report.md"]
    assert "<h2>test</h2>" in (runs / "good" / "report.html").read_text()
    assert (runs / "good" / "report.md").read_text().startswith("# good\n")


def test_comparison(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--exp-dir", "good", "--compare-with", "bad") == 0
    *lines, path = capsys.readouterr().out.splitlines()
    assert len(lines) == 2  # one for each method that both have
    assert all("second is better" in line for line in lines)
    assert path == "good/report-against-bad.html"
    assert "good against bad" in (runs / path).read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--exp-dir", "none"], "the folder none does not exist"),
        (["--exp-dir", "good", "--embed-audio-mb", "-1"], "must not be negative"),
    ],
)
@pytest.mark.usefixtures("runs")
def test_bad_input(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*words) == 2
    assert message in capsys.readouterr().err


def test_runs_without_a_common_test_set(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_decoding(runs / "other" / "greedy_search", decoding("greedy_search", 0.1, 1, "dev"))
    assert call("--exp-dir", "good", "--compare-with", "other") == 2
    assert "no test set in common" in capsys.readouterr().err
