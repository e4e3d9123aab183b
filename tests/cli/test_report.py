"""The report from the command line: files, comparison, and what is said when there is nothing."""

from __future__ import annotations

import json
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


def test_watching_writes_the_report_again_when_something_is_new(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = runs / "good" / "report.html"
    seen = []

    def wait(seconds: float) -> None:
        assert seconds == 5.0
        seen.append(page.read_text())
        if len(seen) == 1:
            new = decoding("fast_beam_search", 0.2, 7)
            write_decoding(runs / "good" / "fast_beam_search", new)
        if len(seen) == 3:  # nothing was new the second time
            raise KeyboardInterrupt

    monkeypatch.setattr(report.time, "sleep", wait)
    assert call("--exp-dir", "good", "--watch", "5") == 130
    assert ['http-equiv="refresh" content="5.0"' in text for text in seen] == [True] * 3
    assert ["fast_beam_search" in text for text in seen] == [False, True, True]
    assert capsys.readouterr().out.count("report.html") == 2


def test_a_run_in_training_has_a_report_of_that(runs: Path) -> None:
    (runs / "new").mkdir()
    sessions = [{"started": "2026-11-30T05:00:00+00:00", "command": ["train.py"]}]
    (runs / "new" / "run.json").write_text(json.dumps({"sessions": sessions}))
    assert call("--exp-dir", "new") == 0
    text = (runs / "new" / "report.html").read_text()
    assert "nothing is decoded yet" in text
    assert "train.py" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--exp-dir", "none"], "the folder none does not exist"),
        (["--exp-dir", "good", "--embed-audio-mb", "-1"], "must not be negative"),
        (["--exp-dir", "good", "--watch", "-1"], "must not be negative"),
        (["--exp-dir", "good", "--watch", "1", "--compare-with", "bad"], "report of one run"),
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
