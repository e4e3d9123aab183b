"""Training from the command line: what is checked first, and what a run leaves behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests import tones
from tests.cli.conftest import Call
from zipasr.base import distributed
from zipasr.cli import train
from zipasr.text.tokenizer import Tokenizer
from zipasr.training.epoch_report import REFERENCE_FILE

BEST = {"best-valid-loss.pt", "best-train-loss.pt", "best-dev-wer.pt"}
LOSSES = ("loss", "simple_loss", "pruned_loss", "ctc_loss")
OTHERS = ("epoch", "learning_rate", "grad_norm", "audio_per_second", "loader_share", "memory_gib")
OTHERS += ("valid_wer", "host_gib", "loading_gib")
LOG_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARNING) \S")
PROGRESS = (
    r" epoch 1/1  batch 5/8  loss \d\S* \(avg \d\S*\)  lr \d\.\d\de-0\d  \|g\| \d\S*  "
    r"\d+ s-audio/s  load \d+%(?:, the brake)?  mem \d+\.\d/\d+\.\dG  "
    r"eta epoch \d+s run \d+s; \d+ utterances: "
)


@pytest.fixture(scope="module")
def watched(
    prepared: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A run of one epoch with TensorBoard, and what it wrote into a pipe."""
    folder = tmp_path_factory.mktemp("watched") / "run"
    shutil.copytree(prepared, folder)
    (folder / "tones" / REFERENCE_FILE).write_text('{"about": "another run"}\n')
    flags = ("--num-epochs", "1", "--tensorboard", "1", "--ctc-only-batches", "2")
    done = tones.run(folder, "train.py", *flags)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_tensorboard_gets_icefalls_scalars(
    watched: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    events = EventAccumulator(str(watched[0] / "exp" / "tensorboard"))
    events.Reload()
    kinds = [f"train/{kind}_{loss}" for kind in ("current", "tot", "valid") for loss in LOSSES]
    assert set(events.Tags()["scalars"]) == {*kinds, *(f"train/{name}" for name in OTHERS)}
    checkpoint = torch.load(watched[0] / "exp" / "epoch-1.pt", weights_only=True)
    (valid,) = events.Scalars("train/valid_loss")
    assert valid.step == checkpoint["batch_idx_train"]
    assert valid.value == pytest.approx(checkpoint["best_valid_loss"], rel=1e-6)
    (epoch,) = events.Scalars("train/epoch")
    assert (epoch.step, epoch.value) == (0, 1.0)
    (rate,) = events.Scalars("train/learning_rate")
    assert (rate.step, rate.value) == (5, pytest.approx(0.045, rel=0.01))


def test_the_same_numbers_are_in_the_lines_of_json(
    watched: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    exp = watched[0] / "exp"
    events = EventAccumulator(str(exp / "tensorboard"))
    events.Reload()
    records = [json.loads(line) for line in (exp / "metrics.jsonl").read_text().splitlines()]
    keys = ["step", "epoch", "time", "name", "value", "split"]
    assert all([*record] == keys for record in records)
    found = {}
    for record in records:
        prefix = "valid_" if record["split"] == "valid" else ""
        tag = f"train/{prefix}{record['name']}"
        found.setdefault(tag, []).append((record["step"], pytest.approx(record["value"])))
    written = {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }
    assert written == found


def test_the_reference_of_the_recipe_is_copied_into_the_run(
    watched: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    reference = watched[0] / "exp" / REFERENCE_FILE
    assert reference.read_text() == '{"about": "another run"}\n'


def test_one_line_tells_how_the_training_goes(
    watched: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    line = next(line for line in watched[1].stderr.splitlines() if "  batch " in line)
    assert re.search(PROGRESS, line)


def test_a_log_in_a_pipe_is_plain_and_ours_alone(
    watched: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, done = watched
    assert done.stdout == ""
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", done.stderr)
    lines = done.stderr.splitlines()
    assert [line for line in lines if not LOG_LINE.match(line)] == []
    # Gradient clipping is normal: its quartiles are no warning.
    assert not [line for line in lines if " WARNING " in line]
    (log,) = (folder / "exp" / "log").iterdir()
    assert re.fullmatch(r"log-train-\d{4}(-\d\d){5}", log.name)
    assert log.read_text() == done.stderr


def test_a_checkpoint_holds_all_that_it_takes_to_use_it_and_to_go_on(trained: Path) -> None:
    exp = trained / "exp"
    checkpoint = torch.load(exp / "epoch-2.pt", weights_only=True)
    parts = ("model", "model_avg", "optimizer", "scheduler", "grad_scaler", "sampler", "whiten")
    assert checkpoint.keys() >= {*parts, "configs", "tokenizer", "env_info"}
    assert checkpoint["cur_epoch"] == 2
    sampler = checkpoint["sampler"]
    assert (sampler["epoch"], sampler["batches"]) == (2, checkpoint["batches_done"])
    assert (sampler["data"]["cuts"], sampler["legs"]) == (60, [])
    assert sampler["layout"]["world_size"] == 1
    assert sampler["layout"]["budget"]["max_duration"] == 10.0
    assert checkpoint["batch_idx_train"] == 2 * checkpoint["batches_done"]
    assert checkpoint["model"].keys() == checkpoint["model_avg"].keys()
    assert checkpoint["configs"]["zipformer"]["encoder_dim"] == [32, 40]
    model = bytes(checkpoint["tokenizer"].tolist())
    assert model == (trained / "data/tones/lang_bpe/bpe.model").read_bytes()
    assert Tokenizer.from_bytes(model).vocab_size == checkpoint["vocab_size"]
    assert checkpoint["blank_id"] == 0
    assert str(trained) not in str(checkpoint["configs"]) + str(checkpoint["env_info"])


def test_a_run_leaves_its_best_and_its_last_checkpoints(trained: Path) -> None:
    exp = trained / "exp"
    names = {path.name for path in exp.glob("*.pt")}
    assert names >= {"epoch-1.pt", "epoch-2.pt", *BEST}
    # Every fourth batch of 16, of which the last two stay.
    assert {name for name in names if name.startswith("checkpoint")} == {
        "checkpoint-12.pt",
        "checkpoint-16.pt",
    }
    last = torch.load(exp / "epoch-2.pt", weights_only=True)
    best = torch.load(exp / "best-valid-loss.pt", weights_only=True)
    assert best["cur_epoch"] == last["best_valid_epoch"]
    assert (exp / "run.json").is_file()
    assert not list(exp.glob(".tmp-*"))


def test_more_processes_than_devices_are_refused(workdir: Path, call: Call) -> None:
    said = call(train.main, workdir, "--world-size", "9999")
    assert said.status == 5
    assert re.search(
        r"--world-size 9999, but .* has \d+ .*Fix: --world-size \d+ --accumulate \d+$", said.error
    )
    assert not (workdir / "exp").exists()


def test_more_processes_than_gpus_are_refused(
    workdir: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(distributed.torch.cuda, "device_count", lambda: 1)
    said = call(train.main, workdir, "--world-size", "2")
    assert said.status == 5
    assert "has 1 GPUs (0: not usable)" in said.error
    monkeypatch.setattr(distributed.torch.cuda, "mem_get_info", lambda _: (2**30, 2**34))
    said = call(train.main, workdir, "--world-size", "2")
    assert (
        "--world-size 2, but this machine has 1 GPUs (0: 1.0 of 16.0 GiB free). "
        "Fix: --world-size 1 --accumulate 2" in said.error
    )


def not_a_tokenizer(folder: Path) -> None:
    (folder / "data/tones/lang_bpe/bpe.model").write_bytes(b"junk")


def cut_off_manifest(folder: Path) -> None:
    path = folder / "data/tones/fbank/manifests_cuts_dev.jsonl.gz"
    path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (not_a_tokenizer, "bpe.model is not a sentencepiece model. Fix: train the tokenizer again"),
        (cut_off_manifest, "cuts_dev.jsonl.gz is not a readable manifest of cuts"),
    ],
)
def test_damaged_inputs_are_found_before_the_run_begins(
    damage: Callable[[Path], None], message: str, workdir: Path, call: Call
) -> None:
    damage(workdir)
    said = call(train.main, workdir)
    assert said.status == 3
    assert message in said.error
    assert not (workdir / "exp").exists()


def test_a_place_that_cannot_be_a_folder_is_refused(workdir: Path, call: Call) -> None:
    (workdir / "occupied").write_text("")
    for path in ("occupied", "occupied/exp"):
        said = call(train.main, workdir, "--exp-dir", path)
        assert said.status == 5
        assert f"--exp-dir {path} cannot be made" in said.error
        assert said.error.endswith("Fix: choose another --exp-dir.")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_place_is_refused(workdir: Path, call: Call) -> None:
    (workdir / "exp").mkdir(mode=0o500)
    said = call(train.main, workdir)
    assert said.status == 5
    assert "--exp-dir exp is read-only" in said.error


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--max-duration", "1000"], 3, "do not fill one batch of 1000 s"),
        (["--min-cut-duration", "15"], 3, "no utterance of train can be trained on"),
        (["--min-cut-duration", "15"], 3, "Fix: lower --min-cut-duration: train-"),
        (
            ["--min-cut-duration", "0", "--max-cut-duration", "0.1"],
            3,
            "Fix: raise --max-cut-dur",
        ),
        (["--start-epoch", "51"], 4, "exp/epoch-50.pt holds a model without the state"),
    ],
)
def test_what_shows_only_later_is_one_line_too(
    words: list[str], status: int, message: str, run_folder: Path, call: Call
) -> None:
    model = torch.load(run_folder / "exp" / "epoch-2.pt", weights_only=True)["model"]
    torch.save({"model": model}, run_folder / "exp" / "epoch-50.pt")
    said = call(train.main, run_folder, "--num-epochs", "60", *words)
    assert said.status == status
    assert message in said.error_after_logs


def test_a_fault_in_several_processes_is_told_once(workdir: Path) -> None:
    if (os.cpu_count() or 1) < 2:
        pytest.skip("two processes need two cores")
    done = tones.run(workdir, "train.py", "--world-size", "2", "--max-duration", "1000")
    assert done.returncode == 3
    (told,) = [line for line in done.stderr.splitlines() if not LOG_LINE.match(line)]
    assert told.startswith("error: 60 cuts")
    assert "do not fill one batch of 1000 s for each of 2 processes" in told


def test_a_dry_run_says_what_the_run_would_take_and_writes_nothing(
    workdir: Path, call: Call
) -> None:
    before = sorted(workdir.rglob("*"))
    said = call(train.main, workdir, "--dry-run")
    assert said.status == 0, said.err
    assert sorted(workdir.rglob("*")) == before
    for words in (
        " parameters",
        "hours of speech",
        " an epoch",
        "GiB for a batch",
        "GiB of checkpoints",
        "s a step",
    ):
        assert words in said.out
    steps = int(re.search(r"steps +(\d+) an epoch", said.out)[1])
    said = call(train.main, workdir, "--num-epochs", "1")
    assert f"batch {steps}, " in said.err


def test_a_dry_run_for_another_machine_is_measured_on_this_one(prepared: Path, call: Call) -> None:
    words = ["--world-size", "9", "--use-fp16", "1", "--max-duration", "4"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed.torch.cuda, "is_available", lambda: False)
        patch.setattr(distributed.os, "cpu_count", lambda: 2)
        said = call(train.main, prepared, "--dry-run", *words)
    assert said.status == 0, said.err
    notes = [line for line in said.out.splitlines() if line.startswith("Note: ")]
    assert len(notes) == 2
    assert notes[0].startswith("Note: --world-size 9, but this machine has 2 CPU cores")
    assert notes[1].startswith("Note: --use-fp16 1 needs a GPU")


def test_a_dry_run_names_all_that_is_missing_at_once(workdir: Path, call: Call) -> None:
    for path in ("lang_bpe/bpe.model", "fbank/manifests_cuts_dev.jsonl.gz"):
        (workdir / "data" / "tones" / path).unlink()
    before = sorted(workdir.rglob("*"))
    said = call(train.main, workdir, "--dry-run")
    assert said.status == 3
    assert "2 things are missing. there is no tokenizer at data/tones/lang_bpe/bpe.model. " in (
        said.error
    )
    assert "fbank/manifests_cuts_dev.jsonl.gz does not exist. Fix: ./prepare.sh makes" in said.error
    assert sorted(workdir.rglob("*")) == before
