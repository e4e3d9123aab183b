"""Trainings with --optimizer rubik: processes, resuming, freezing, updates that are left out."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.kill_at import assert_same_training
from tests.training.short import new_batch, new_session, train
from tests.training.test_icefall_state import as_icefall
from tests.training.test_update import a_batch, steady
from zipasr.base.distributed import World, launch
from zipasr.base.errors import CheckpointError
from zipasr.checkpoint.checkpoint_file import load_checkpoint
from zipasr.optim.rubik import BatchedRubik
from zipasr.optim.schedules import InterpCosine, interp_cosine_factor
from zipasr.training.icefall_state import settings_of_reference
from zipasr.training.loop import apply_gradients, begin_update
from zipasr.training.nonfinite_guard import NonFiniteGuard
from zipasr.training.session import Session
from zipasr.training.update import compute_gradients

RUBIK = "--optimizer rubik --rehearse 0"
LENGTHS = (1.5, 1.2, 0.8)


def update(session: Session, *seeds: int) -> None:
    batches = [a_batch(*LENGTHS, seed=seed) for seed in seeds]
    begin_update(session, batches)
    gradients = compute_gradients(session, batches)
    for parameter in session.model.parameters() if len(seeds) > 1 else ():
        if parameter.grad is not None:  # processes take the mean of theirs
            parameter.grad /= len(seeds)
    apply_gradients(session, gradients, batches)


def parameters(session: Session) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in session.model.named_parameters()}


def two_updates_in_each_rank(world: World, folder: Path) -> None:
    os.chdir(folder / "prepared")
    session = steady(new_session(RUBIK, world))
    session.scheduler.begin_epoch(1, 4)
    for number in range(2):
        update(session, 2 * number + world.rank)
    torch.save(parameters(session), folder / f"params-{world.rank}.pt")


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two processes need two cores")
def test_two_processes_give_what_one_gives_on_the_joined_batch(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prepared").symlink_to(prepared)
    launch(two_updates_in_each_rank, 2, 12397, tmp_path)
    monkeypatch.chdir(prepared)
    session = steady(new_session(f"{RUBIK} --accumulate 2"))
    session.scheduler.begin_epoch(1, 4)
    start = {name: value.clone() for name, value in parameters(session).items()}
    for number in range(2):
        update(session, 2 * number, 2 * number + 1)
    assert isinstance(session.scheduler, InterpCosine)
    assert session.scheduler.progress == pytest.approx(1 / 4 / session.configs.train.num_epochs)
    first, second = (torch.load(tmp_path / f"params-{rank}.pt") for rank in range(2))
    for name, value in parameters(session).items():
        assert torch.equal(first[name], second[name]), name
        # So short utterances have few relative positions: this gradient is nothing in most
        # directions, and an orthogonal step makes the rounding there as large as the rest.
        if "linear_pos" not in name:
            torch.testing.assert_close(first[name], value, rtol=1e-6, atol=1e-7, msg=name)
    assert sum(not torch.equal(start[n], v) for n, v in first.items()) > 0.8 * len(start)


@pytest.mark.usefixtures("here")
def test_a_run_that_goes_on_equals_one_that_was_not_stopped(tmp_path: Path) -> None:
    whole, again = tmp_path / "whole", tmp_path / "again"
    flags = f"{RUBIK} --save-every-n 3 --num-epochs 2 --accumulate 2"
    last = train(whole, flags)
    shutil.copytree(whole, again)
    for path in again.glob("*.pt"):
        if path.name != "checkpoint-3.pt":
            path.unlink()
    assert train(again, flags)["batch_idx_train"] == last["batch_idx_train"] > 3
    assert_same_training(whole / "epoch-2.pt", again / "epoch-2.pt")
    assert str(load_checkpoint(again / "epoch-2.pt")["optimizer"]) == str(last["optimizer"])
    # The last update is one before the end of the run.
    updates = last["batch_idx_train"]
    (group,) = last["optimizer"]["param_groups"]
    assert group["base_lr"] == 0.02
    want = 0.02 * interp_cosine_factor((updates - 1) / updates)
    assert group["lr"] == pytest.approx(want, rel=0.05)


@pytest.mark.usefixtures("here")
def test_frozen_and_thawed_parameters_and_another_optimizer(tmp_path: Path) -> None:
    first = train(tmp_path, f"{RUBIK} --freeze encoder_embed")
    second = train(tmp_path, f"{RUBIK} --num-epochs 2")
    assert (tmp_path / "log").is_dir()
    log = "".join(path.read_text() for path in (tmp_path / "log").iterdir())
    assert "the optimizer begins anew for encoder_embed.conv.0.weight" in log
    frozen = [name for name in first["model"] if name.startswith("encoder_embed")]
    assert any(not torch.equal(first["model"][n], second["model"][n]) for n in frozen)
    with pytest.raises(CheckpointError, match="optimizer state is not that of ScaledAdam"):
        train(tmp_path, "--rehearse 0 --num-epochs 3")


@pytest.mark.usefixtures("here")
def test_a_checkpoint_of_the_reference_goes_on(tmp_path: Path) -> None:
    train(tmp_path, RUBIK)
    batches = load_checkpoint(tmp_path / "epoch-1.pt")["batch_idx_train"]
    schedule = {"epoch": 1, "batch": batches - 1, "batches_per_epoch": batches}
    found = as_icefall(tmp_path / "epoch-1.pt", scheduler=schedule)
    for path in tmp_path.glob("checkpoint-*.pt"):
        path.unlink()
    (known,) = [
        value
        for name, value in settings_of_reference(
            found, [type(new_session().configs.encoder)]
        ).items()
        if name == "OptimizerConfig"
    ]
    assert known == {"optimizer": "rubik"}
    last = train(tmp_path, f"{RUBIK} --num-epochs 2 --start-epoch 2")
    steps = {entry["step"] for entry in last["optimizer"]["state"].values()}
    assert steps == {last["batch_idx_train"]} == {2 * batches}


@pytest.mark.usefixtures("here")
def test_an_update_that_is_not_finite_is_left_out_and_counted(tmp_path: Path) -> None:
    session = new_session(f"{RUBIK} --exp-dir {tmp_path}")
    session.scheduler.begin_epoch(1, 4)
    guard, batches = NonFiniteGuard(session), [new_batch(*LENGTHS)]
    before = {name: value.clone() for name, value in parameters(session).items()}
    begin_update(session, batches)
    # In the backward pass: the gradients are measured as soon as it is over.
    some: Any = next(session.model.parameters())
    some.register_hook(lambda grad: torch.full_like(grad, torch.nan))
    gradients = compute_gradients(session, batches)
    apply_gradients(session, gradients, batches)
    guard.check(gradients)
    assert isinstance(session.optimizer, BatchedRubik)
    assert (session.optimizer.num_skipped, session.state.skipped_steps) == (1, 1)
    assert all(torch.equal(before[n], value) for n, value in parameters(session).items())
    assert "noise-0-0" in (tmp_path / "not-finite-0.jsonl").read_text()
