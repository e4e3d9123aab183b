"""Several processes, on one machine and on two, train one and the same model."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests import tones
from tests.training.kill_at import assert_same_training, kill_after_batch_4
from zipasr.base.distributed import World
from zipasr.base.errors import ResourceError
from zipasr.training import resume_checks as agreement

SCRIPT = str(tones.ROOT / "tests" / "training" / "train_and_dump.py")


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return str(probe.getsockname()[1])


def torchrun(folder: Path, launcher: list[str], *flags: str) -> subprocess.Popen[str]:
    words = [SCRIPT, "--recipe", str(folder / "tones"), "--num-workers", "0", *flags]
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *launcher, *words],
        cwd=folder,
        env=tones.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )


def check_equal(path: Path, count: int) -> None:
    """Compare the parameters that the processes left with those in the checkpoint."""
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint["world_size"] == count == len(checkpoint["whiten"])
    assert checkpoint["batch_idx_train"] >= 10 * checkpoint["cur_epoch"]
    for rank in range(count):
        own = torch.load(path.with_name(f"rank-{rank}.pt"), weights_only=True)
        for name, value in checkpoint["model"].items():
            assert torch.equal(own[name], value), f"process {rank}: {name}"


def test_two_processes_that_fine_tune_on_a_mixture_stay_the_same_and_kill_9_changes_nothing(
    trained: Path, tmp_path: Path
) -> None:
    folders = [tmp_path / "unbroken", tmp_path / "killed"]
    for folder in folders:
        shutil.copytree(trained, folder)
        (folder / "exp").rename(folder / "before")
    unbroken, killed = folders
    more = "other=data/tones/fbank/manifests_cuts_dev.jsonl.gz:0.3"
    mixed = ("--max-duration", "3", "--do-finetune", "1", "--finetune-ckpt", "before/epoch-2.pt")
    mixed += ("--use-mux", "1", "--extra-manifest", more, "--valid-wer-cuts", "2")
    mixed += ("--num-epochs", "1")
    process = torchrun(unbroken, ["--standalone"], *mixed)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert said.count("saved exp/epoch-1.pt") == 1
    assert "no longer the same" not in said
    assert {path.name[-2:] for path in (unbroken / "exp" / "log").iterdir()} == {"-0", "-1"}
    last = unbroken / "exp" / "epoch-1.pt"
    check_equal(last, 2)
    if (os.cpu_count() or 1) < 2:
        pytest.skip("two processes of train.py need two cores")
    assert "other, 0.3 of the batches: kept 8 of 8 cuts" in said
    flags = ("--world-size", "2", "--num-workers", "0", *mixed)
    kill_after_batch_4(killed, *flags)
    done = tones.run(killed, "train.py", *flags)
    assert done.returncode == 0, done.stderr
    assert "continuing from exp/checkpoint-4.pt: epoch 1" in done.stderr
    assert_same_training(killed / "exp" / "epoch-1.pt", last)


def test_two_machines_of_two_processes_have_the_same_parameters(workdir: Path) -> None:
    """Each machine has an address of its own, and the second knows the first by its name."""
    at = ["--nnodes", "2", "--master-port", free_port()]
    flags = ("--max-duration", "1.6", "--num-epochs", "1")
    nodes = []
    for rank, own, first in (("0", "127.0.0.1", "127.0.0.1"), ("1", "127.0.0.2", "localhost")):
        names = ["--node-rank", rank, "--local-addr", own, "--master-addr", first]
        nodes.append(torchrun(workdir, [*at, *names], *flags))
    for node in nodes:
        said = node.communicate(timeout=300)[1]
        assert node.returncode == 0, said
    check_equal(workdir / "exp" / "epoch-1.pt", 4)


@pytest.mark.parametrize("names", [["epoch-1.pt", None], [None, "epoch-2.pt"]])
def test_processes_that_would_begin_in_different_places_are_refused(
    names: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(0, 2, torch.device("cpu"))
    monkeypatch.setattr(agreement, "all_gather", lambda value, world: names)
    with pytest.raises(ResourceError, match=r"process 0 goes on from .*, process 1 from .*share"):
        agreement.check_same_start(None, world)
    names[1] = names[0]
    agreement.check_same_start(None, world)


def test_parameters_that_drift_apart_are_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world, model = World(0, 2, torch.device("cpu")), torch.nn.Linear(3, 3)
    seen: list[str] = []
    monkeypatch.setattr(agreement, "all_gather", lambda value, world: seen.append(value) or seen)
    agreement.warn_different_parameters(model, world)
    agreement.warn_different_parameters(model, world)
    assert not caplog.text
    with torch.no_grad():
        model.weight[1, 1] += 1e-6
    agreement.warn_different_parameters(model, world)
    assert "the parameters of process 0 and of process 2 are no longer the same" in caplog.text
