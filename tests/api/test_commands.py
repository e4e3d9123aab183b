"""train, decode and export as functions: they do what the commands do, and return what came out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import zipasr
from zipasr.cli import train as train_command


@pytest.fixture
def folder(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(run_folder)
    return run_folder


def test_a_model_from_training_to_export(folder: Path) -> None:
    shutil.rmtree(folder / "exp")
    result = zipasr.train("./tones", num_epochs=1, max_duration=30, use_bf16=False)
    assert (result.exp_dir, result.epochs) == (Path("exp"), 1)
    assert result.valid_loss is not None
    assert result.wer is not None
    (session,) = json.loads((folder / "exp" / "run.json").read_text())["sessions"]
    assert session["command"][:3] == ["train.py", "--recipe=./tones", "--num-epochs=1"]
    assert session["exit"] == "finished"

    decoded = zipasr.decode("./tones", epoch=1, avg=1, use_averaged_model=False)
    (rate,) = decoded.wer.values()
    assert list(decoded.wer) == [("test", "greedy_search")]
    (summary,) = (decoded.exp_dir / "greedy_search").glob("wer-summary-*")
    assert f"{rate:.2f}" in summary.read_text() or f"{round(rate, 2)}" in summary.read_text()

    flags = {"epoch": 1, "avg": 1, "use_averaged_model": False}
    exported = zipasr.export("./tones", format=["pretrained", "torchscript"], **flags)
    assert exported.folder / "pretrained.pt" in exported.files
    assert zipasr.load_model(exported.folder).about[0].startswith(str(exported.folder))


def test_mistakes_are_raised(folder: Path) -> None:
    del folder
    with pytest.raises(zipasr.UserError, match="did you mean 'num_epochs'"):
        zipasr.train("./tones", num_epoch=1)  # type: ignore[call-arg]
    with pytest.raises(zipasr.UserError, match="no recipe 'tone'"):
        zipasr.train("tone")
    with pytest.raises(zipasr.CheckpointError, match=r"epoch-\d\.pt does not exist"):
        zipasr.decode("./tones", epoch=7)
    with pytest.raises(zipasr.UserError, match="unknown decoding_method='greedy'"):
        zipasr.decode("./tones", decoding_method="greedy")


def test_a_training_that_is_stopped_says_how_to_go_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del folder

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train_command, "launch", interrupted)
    with pytest.raises(zipasr.Interrupted) as caught:
        zipasr.train("./tones", num_epochs=3, resume=False)
    assert caught.value.command == "zipasr.train(recipe='./tones', num_epochs=3, resume=True)"
    assert isinstance(caught.value, KeyboardInterrupt)
