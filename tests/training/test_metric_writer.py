"""The file of numbers: whole lines, and nothing of a run that did not come to be."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import disk
from zipasr.base.errors import UserError
from zipasr.base.log import _PatientFile
from zipasr.training import metrics as scalars
from zipasr.training.metrics import (
    MetricWriter,
    append_line,
    metric_series,
    read_metrics,
    wandb_sender,
)


def written(folder: Path, steps: int) -> MetricWriter:
    writer = MetricWriter(folder, 0, tensorboard=False)
    for step in range(1, steps + 1):
        writer.epoch = 1 + step // 3
        writer.add_scalar("train/tot_loss", 1.0 / step, step)
        writer.add_scalar("train/valid_loss", 2.0 / step, step)
    return writer


def test_records_say_where_they_belong(tmp_path: Path) -> None:
    written(tmp_path, 3)
    records = list(read_metrics(tmp_path / "metrics.jsonl"))
    assert [record.pop("time") > 1.6e9 for record in records] == [True] * 6
    assert records[4] == {
        "step": 3,
        "epoch": 2,
        "name": "tot_loss",
        "value": 1 / 3,
        "split": "train",
    }
    assert records[5]["split"] == "valid"
    assert records[5]["name"] == "loss"
    assert metric_series(tmp_path / "metrics.jsonl", "loss", "valid") == (
        [1, 2, 3],
        [2.0, 1.0, 2 / 3],
    )
    assert metric_series(tmp_path / "none", "loss") == ([], [])


@pytest.mark.parametrize("tail", ["", '{"step": 9, "val', "\n", '"text"\n', "\x00\x00"])
def test_a_run_that_goes_on_cuts_back_what_lay_ahead(tail: str, tmp_path: Path) -> None:
    written(tmp_path, 5)
    path = tmp_path / "metrics.jsonl"
    with path.open("a") as file:
        file.write(tail)
    MetricWriter(tmp_path, 2, tensorboard=False).add_scalar("train/tot_loss", 0.0, 3)
    assert all(json.loads(line) for line in path.read_text().splitlines())
    assert metric_series(path, "tot_loss") == ([1, 2, 3], [1.0, 0.5, 0.0])


def test_what_is_not_finite_stays_json(tmp_path: Path) -> None:
    writer = written(tmp_path, 1)
    writer.add_scalar("train/tot_loss", math.nan, 2)
    path = tmp_path / "metrics.jsonl"
    json.loads(path.read_text().splitlines()[-1], parse_constant=pytest.fail)
    assert metric_series(path, "tot_loss") == ([1], [1.0])


def test_a_line_that_finds_no_room_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    writer = written(tmp_path, 2)
    path = tmp_path / "metrics.jsonl"
    before, write = path.read_bytes(), scalars.os.write
    monkeypatch.setattr(scalars.os, "write", lambda file, line: write(file, line[:10]))
    with pytest.raises(OSError, match="No space left"):
        append_line(path, '{"step": 3}')
    assert path.read_bytes() == before
    with caplog.at_level(logging.WARNING):
        writer.add_scalar("train/tot_loss", 1.0, 3)
    assert "metrics.jsonl is not written: No space left" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_full_disk_ends_neither_curves_nor_log_with_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with disk.small(tmp_path / "disk", 40_000) as folder:
        log = _PatientFile(folder / "log")
        scalars_of_run = MetricWriter(folder, 0, tensorboard=True)
        (folder / "others").write_bytes(b"x" * 10_000)
        for step in range(2000):
            scalars_of_run.add_scalar("train/loss", 1.0, step)
            if step % 200 == 0:
                time.sleep(0.05)  # for the thread that writes the events
                log.handle(logging.makeLogRecord({"msg": "x" * 100}))
        assert "metrics.jsonl is not written: No space left on device" in caplog.text
        assert "TensorBoard stops at" in caplog.text
        scalars_of_run.close()
        log.close()
        (folder / "others").unlink()
        # With room again, and after going back, the curves go on.
        scalars_of_run.go_back(3)
        assert [record["step"] for record in read_metrics(folder / "metrics.jsonl")] == [0, 1, 2, 3]
        scalars_of_run.close()
    assert "Logging error" not in capsys.readouterr().err


def test_weights_and_biases_gets_the_scalars_of_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[dict[str, Any]] = []
    sent: list[dict[str, float]] = []

    def init(**words: Any) -> SimpleNamespace:
        if words["project"] == "closed":
            raise OSError("403")
        runs.append(words)
        return SimpleNamespace(define_metric=lambda *_, **__: None, log=sent.append)

    stub = SimpleNamespace(init=init, errors=SimpleNamespace(Error=OSError))
    monkeypatch.setitem(sys.modules, "wandb", stub)
    exp = tmp_path / "exp" / "small"
    for step in (1, 2):  # the second one goes on with the first
        send = wandb_sender("asr", exp, {"train": {"seed": 42}})
        writer = MetricWriter(exp, step - 1, tensorboard=False, send=send)
        writer.add_scalar("train/tot_loss", 0.5, step)
    assert sent == [{"train/tot_loss": 0.5, "update": step} for step in (1, 2)]
    assert [run["name"] for run in runs] == ["small", "small"]
    assert runs[0]["id"] == runs[1]["id"]
    assert runs[0]["config"] == {"train": {"seed": 42}}
    with pytest.raises(UserError, match="--wandb closed: 403"):
        wandb_sender("closed", exp, {})
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="needs the package wandb") as caught:
        wandb_sender("asr", exp, {})
    assert caught.value.fix == "pip install wandb"
