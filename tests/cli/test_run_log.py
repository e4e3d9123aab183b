"""run.json says what a training was made from and how it ended."""

from __future__ import annotations

import hashlib
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from lhotse import CutSet

import zipasr
from tests import tones
from tests.cli.conftest import Call
from zipasr.base.errors import CheckpointError, DataError
from zipasr.checkpoint.checkpoint_file import load_checkpoint
from zipasr.cli import decode, run_log, train
from zipasr.scoring.training_facts import training_facts
from zipasr.training.metrics import metric_series


def sessions(exp: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((exp / "run.json").read_text())["sessions"]
    return found


def test_a_run_says_what_it_was_made_from(trained: Path) -> None:
    (session,) = sessions(trained / "exp")
    assert session["exit"] == "finished"
    assert session["started"] < session["ended"]
    assert session["command"] == ["train.py", "--recipe", "./tones"]
    assert (session["recipe"], session["seed"], session["world_size"]) == ("tones", 42, 1)
    model = (trained / "data/tones/lang_bpe/bpe.model").read_bytes()
    assert session["tokenizer"]["sha256"] == hashlib.sha256(model).hexdigest()
    assert session["data"].keys() == {"train", "valid"}
    for use, split in (("train", "train"), ("valid", "dev")):
        (found,) = session["data"][use]
        path = trained / found["manifest"]
        assert found["manifest"] == f"data/tones/fbank/manifests_cuts_{split}.jsonl.gz"
        assert found["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        cuts = CutSet.from_file(path)
        assert found["cuts"] == len(list(cuts))
        assert found["hours"] == pytest.approx(sum(c.duration for c in cuts) / 3600, abs=1e-4)
    assert session["config"]["zipformer"]["encoder_dim"] == [32, 40]
    assert session["environment"]["zipasr"] == zipasr.__version__
    assert session["environment"].keys() >= {"torch", "revision", "device", "cuda"}
    assert str(trained) not in (trained / "exp" / "run.json").read_text()
    assert str(tones.ROOT) not in (trained / "exp" / "run.json").read_text()


def test_sessions_follow_one_another(tmp_path: Path) -> None:
    for number, reason in ((1, "finished"), (2, None), (3, "interrupted")):
        facts = {"started": str(number), "ended": None, "exit": None}
        run_log.begin(tmp_path, facts)
        if reason:
            run_log.end(tmp_path, facts, reason)
    assert [one["exit"] for one in sessions(tmp_path)] == [
        "finished",
        "ended from outside",
        "interrupted",
    ]
    # Of a run that never began here, because another one holds the folder.
    run_log.end(tmp_path, {"started": "9"}, "error")
    assert sessions(tmp_path)[-1]["exit"] == "interrupted"


def test_a_start_that_is_refused_does_not_take_over_the_run(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run_folder)
    text = (run_folder / "tones" / "recipe.toml").read_text()
    text = text.replace('test = ["test"]', 'test = ["dev"]')
    (run_folder / "other").mkdir()
    (run_folder / "other" / "recipe.toml").write_text(text.replace('"32,40"', '"32,48"'))
    before = training_facts(run_folder / "exp").rows
    words = ["--recipe", "./other", "--exp-dir", "exp", "--num-epochs", "3"]
    assert train.main(words) == CheckpointError.exit_code
    capsys.readouterr()
    assert [one["trained"] for one in sessions(run_folder / "exp")] == [True, False]
    assert training_facts(run_folder / "exp").rows == before
    assert decode.main(["--exp-dir", "exp", "--num-workers", "0"]) == 0, capsys.readouterr().err
    assert [*(run_folder / "exp" / "greedy_search").glob("wer-summary-test-*")]


@pytest.mark.parametrize("text", ["", '{"sessions": ', "[]", '{"sessions": 3}'])
def test_a_damaged_file_is_begun_anew(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(text)
    run_log.begin(tmp_path, {"started": "1", "exit": None})
    assert len(sessions(tmp_path)) == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SystemExit(130), "interrupted"),
        (SystemExit(-signal.SIGKILL), "exit status -9"),
        (KeyboardInterrupt(), "interrupted"),
        (DataError("no data.", "make some."), "error: no data."),
        (ZeroDivisionError("division"), "ZeroDivisionError: division"),
    ],
)
def test_every_end_has_a_reason(error: BaseException, reason: str, tmp_path: Path) -> None:
    facts = {"started": "1", "ended": None, "exit": None}
    run_log.begin(tmp_path, facts)
    with pytest.raises(type(error)), run_log.with_end(tmp_path, facts):
        raise error
    assert sessions(tmp_path)[-1]["exit"] == reason


def test_paths_are_those_of_any_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert run_log.portable(str(tmp_path / "exp" / "a")) == "exp/a"
    assert run_log.portable("/home/somebody/data") == "~/data"
    assert run_log.portable("/data/corpus") == "/data/corpus"
    assert run_log.portable("--seed") == "--seed"
    assert run_log.portable(f"--exp-dir={tmp_path}/exp/a") == "--exp-dir=exp/a"
    # Without a slash, a recipe would be one of that name in egs.
    assert run_log.portable(str(tmp_path / "my")) == "./my"


def test_the_rate_after_an_epoch_is_the_one_that_decode_finds(run_folder: Path, call: Call) -> None:
    steps, rates = metric_series(run_folder / "exp" / "metrics.jsonl", "wer", "valid")
    assert len(steps) == len(rates) == 2
    words = ["--epoch", "2", "--avg", "1", "--use-averaged-model", "0", "--test-sets", "dev"]
    said = call(decode.main, run_folder, "--num-workers", "0", *words)
    assert said.status == 0, said.err
    (summary,) = (run_folder / "exp" / "greedy_search").glob("wer-summary-dev-*")
    assert f"{rates[-1]:.2f}" == summary.read_text().split()[-1]
    best = rates.index(min(rates))
    found = load_checkpoint(run_folder / "exp" / "best-dev-wer.pt")

    assert (found["best_wer"], found["best_wer_epoch"]) == (rates[best], best + 1)
    assert found["cur_epoch"] == best + 1
