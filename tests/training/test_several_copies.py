"""Trainings whose batches hold several copies of each utterance."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.captured_output import Call
from tests.training.short import SHORT, new_batch, new_session, train
from tests.training.test_update import gradients, steady
from zipasr.base.errors import CheckpointError
from zipasr.checkpoint.checkpoint_file import load_checkpoint
from zipasr.cli import train as train_command
from zipasr.data.dataset import Batch
from zipasr.data.epoch_plan import CutLengths
from zipasr.training import loop
from zipasr.training.config import TrainConfig
from zipasr.training.memory import batch_sizes, predicted_bytes
from zipasr.training.resume_checks import check_same_copies
from zipasr.training.session import Session
from zipasr.training.update import weighted_loss

ALTERNATING = "--spec-augment alternating"
# An epoch of one copy and one of two.
GROWING = "--max-copies 2 --num-real-epochs 3"
ALL_HEADS = """
--use-ctc 1 --use-attention-decoder 1 --attention-decoder-dim 32
--attention-decoder-num-layers 1 --attention-decoder-attention-dim 32
--attention-decoder-num-heads 2 --attention-decoder-feedforward-dim 48
"""
ENCODERS = {
    "zipformer": "",
    "zipformer1": """
    --encoder-type zipformer1 --num-encoder-layers 1,1 --feedforward-dims 48,64 --nhead 2,2
    --encoder-dims 32,40 --attention-dims 16,16 --encoder-unmasked-dims 24,32
    --zipformer-downsampling-factors 1,2 --cnn-module-kernels 7,7
    """,
}


class Killed(Exception):  # noqa: N818 - an end, not an error
    """As if the process ended here."""


class Watch:
    """Names of the cuts of all updates; ends the run at one of them."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.last: int | None = None

    def note(self, session: Session, batches: Any) -> None:
        if session.state.batch_idx_train == self.last:
            raise Killed
        self.seen += [name for batch in batches for name in batch.cut_ids]


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    found, real = Watch(), loop.compute_gradients

    def one_update(session: Session, batches: Any) -> Any:
        found.note(session, batches)
        return real(session, batches)

    monkeypatch.setattr(loop, "compute_gradients", one_update)
    return found


@pytest.mark.usefixtures("here")
def test_a_run_that_ends_in_an_epoch_of_copies_goes_on_as_if_it_had_not(
    tmp_path: Path, watch: Watch, call: Call
) -> None:
    flags = f"{GROWING} {ALTERNATING} --drop-last 0 --save-every-n 1 --valid-wer-cuts 0"
    whole = train(tmp_path / "whole", flags)
    assert whole["cur_epoch"] == 2
    # One real epoch was done before the last one, which is what the schedule counts.
    assert whole["scheduler"]["epoch"] == 1
    counts = Counter(name.partition("_repeat")[0] for name in watch.seen)
    assert counts == dict.fromkeys(counts, 3)
    assert len(counts) == whole["sampler"]["data"]["cuts"]
    watch.last = whole["batch_idx_train"] - whole["batches_done"] // 2
    with pytest.raises(Killed):
        train(tmp_path / "parts", flags)
    watch.last = None
    resumed = train(tmp_path / "parts", flags)
    assert resumed["batch_idx_train"] == whole["batch_idx_train"]
    assert resumed["sampler"]["legs"] == []
    for name, value in whole["model"].items():
        assert torch.equal(value, resumed["model"][name]), name
    log = "".join(path.read_text() for path in (tmp_path / "parts" / "log").iterdir())
    assert "epoch 2 of 2: batches of 2 copies of each utterance, 1 of 3 real epochs done" in log
    one = load_checkpoint(tmp_path / "whole" / "epoch-1.pt")["batches_done"]
    said = call(train_command.main, Path(), "--dry-run", *SHORT.split(), *flags.split())
    assert said.status == 0, said.err
    lines = said.out.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("steps "))
    assert lines[at - 1] == (
        "epochs     2, which count as 3 real ones; copies of each utterance in a batch: 1 2"
    )
    assert lines[at : at + 2] == [
        f"steps      {one} an epoch of 1 copy; {whole['batches_done']} an epoch of 2 copies",
        f"           {whole['batch_idx_train']} in all",
    ]
    # Other copies would number the epochs in another way.
    with pytest.raises(CheckpointError, match=r"--max-copies 2 --num-real-epochs 3"):
        train(tmp_path / "parts", f"{flags} --max-copies 3")


@pytest.mark.parametrize(
    ("then", "now", "epoch", "is_refused"),
    [
        ({}, {}, 2, False),
        ({}, {"num_epochs": 1}, 2, False),
        ({}, {"max_copies": 8, "num_real_epochs": 40}, 2, False),
        ({}, {"max_copies": 8, "num_real_epochs": 40}, 6, True),
        ({"max_copies": 8, "num_real_epochs": 40}, {}, 13, True),
        ({"max_copies": 8, "num_real_epochs": 40}, {"max_copies": 8, "num_epochs": 40}, 13, False),
        ({"max_copies": 4, "num_epochs": 40}, {"max_copies": 4, "num_epochs": 41}, 9, False),
        ({"max_copies": 4, "num_epochs": 40}, {"max_copies": 4, "num_epochs": 41}, 20, True),
        ({"max_copies": 4, "num_epochs": 40}, {"max_copies": 4, "num_epochs": 10}, 9, True),
    ],
)
def test_other_copies_are_refused_once_they_change_what_was_trained(
    then: dict[str, int], now: dict[str, int], epoch: int, is_refused: bool
) -> None:
    usual = {"min_copies": 1, "max_copies": 1, "num_real_epochs": None, "num_epochs": 30}
    checkpoint = {"configs": {"TrainConfig": usual | then}}
    flags = TrainConfig(**now)  # type: ignore[arg-type]
    if not is_refused:
        check_same_copies(checkpoint, flags, epoch, Path("epoch.pt"))
        return
    with pytest.raises(CheckpointError, match=f"is of epoch {epoch}, whose epochs had 1,1,1,1,1"):
        check_same_copies(checkpoint, flags, epoch, Path("epoch.pt"))


def test_runs_of_before_there_were_copies_had_one() -> None:
    check_same_copies({"configs": {"TrainConfig": {"num_epochs": 9}}}, TrainConfig(), 9, Path("x"))
    check_same_copies({}, TrainConfig(), 9, Path("x"))


@pytest.mark.parametrize(
    "flags",
    [{"min_copies": 0}, {"min_copies": 2}, {"max_copies": 0}, {"num_real_epochs": 0}],
)
def test_numbers_that_make_no_epochs_are_refused(flags: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"--min-copies must be|--num-real-epochs must be"):
        TrainConfig(**flags)  # type: ignore[arg-type]


def copied(batch: Batch, copies: int) -> Batch:
    return replace(
        batch,
        features=batch.features.repeat(copies, 1, 1),
        feature_lens=batch.feature_lens.repeat(copies),
        texts=batch.texts * copies,
        cut_ids=[f"{name}_repeat{n}" for n in range(copies) for name in batch.cut_ids],
        second_view=None if batch.second_view is None else batch.second_view.repeat(copies, 1, 1),
    )


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("consistent", [False, True])
def test_losses_and_gradients_of_equal_copies_are_so_many_times_those_of_one(
    encoder: str, consistent: bool
) -> None:
    flags = f"{ENCODERS[encoder]} {ALL_HEADS}"
    flags += " --use-cr-ctc 1 --enable-spec-aug 0" if consistent else ""
    session = steady(new_session(flags))
    session.state.batch_idx_train = 100  # past the warm-up: all losses count
    batch = new_batch(1.2, 1.0, 0.8)
    batch = replace(batch, features=batch.features.double())
    if consistent:
        batch = replace(batch, second_view=batch.features.flip(2))

    def measured(batch: Batch) -> tuple[dict[str, float], dict[str, Tensor]]:
        session.optimizer.zero_grad()
        loss, metrics = weighted_loss(session, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        return metrics.sums, {name: grad.clone() for name, grad in gradients(session).items()}

    one, slope = measured(batch)
    assert ("cr_loss" in one) is consistent
    assert {"simple_loss", "pruned_loss", "ctc_loss", "attn_decoder_loss"} <= one.keys()
    three, slopes = measured(copied(batch, 3))
    assert three == pytest.approx({name: 3 * value for name, value in one.items()}, rel=1e-6)
    largest = max(float(grad.abs().max()) for grad in slope.values())
    for name, grad in slope.items():
        torch.testing.assert_close(slopes[name], 3 * grad, rtol=1e-5, atol=1e-6 * largest, msg=name)


@pytest.mark.usefixtures("here")
def test_consistency_training_has_two_views_of_each_copy(tmp_path: Path) -> None:
    flags = "--min-copies 2 --max-copies 2 --num-real-epochs 2 --max-duration 60 --use-cr-ctc 1"
    last = train(tmp_path, f"{flags} --enable-spec-aug 0 {ALTERNATING} --valid-wer-cuts 0")
    assert last["cur_epoch"] == 1
    assert "cr_loss" in last["epoch_totals"][""]
    assert all(value.isfinite().all() for value in last["model"].values())


LENGTHS = CutLengths(np.linspace(1.0, 8.0, 400), np.linspace(3, 24, 400).astype(np.int64))


@pytest.mark.usefixtures("here")
def test_the_rehearsal_has_batches_of_all_copies_that_are_to_come() -> None:
    session = new_session(f"{GROWING} --max-duration 40")
    sizes = set(batch_sizes(session, LENGTHS))
    alone = set(batch_sizes(new_session("--max-duration 40 --num-epochs 2"), LENGTHS))
    assert alone < sizes
    assert all(size.rows % 2 == 0 for size in sizes - alone)
    assert all(size.rows * size.seconds <= 40.0 + 1e-6 for size in sizes)
    session.start_epoch(2)
    assert all(size.rows % 2 == 0 for size in batch_sizes(session, LENGTHS))
    # An epoch after the last, of a run that has ended.
    session.start_epoch(3)
    assert batch_sizes(session, LENGTHS)


@pytest.mark.usefixtures("here")
def test_batches_with_pauses_are_tried_as_well() -> None:
    flags = "--max-duration 40 --num-epochs 2"
    plain = batch_sizes(new_session(flags), LENGTHS)
    words = f"{flags} --join-prob 0.5 --silence-prob 0.5 --pause-start-epoch"
    half = batch_sizes(new_session(f"{words} 2"), LENGTHS)  # one epoch of two has them
    assert len(half) == len(plain)
    assert sum(size == usual for size, usual in zip(half, plain, strict=True)) / len(plain) > 0.3
    assert max(size.seconds for size in half) > max(size.seconds for size in plain)
    assert batch_sizes(new_session(f"{words} 3"), LENGTHS) == plain


@pytest.mark.usefixtures("here")
def test_the_memory_budget_is_for_all_copies() -> None:
    session = new_session("--max-copies 4 --min-copies 4 --memory-budget-gb 0.02")
    assert session.row_cost is not None
    sizes = batch_sizes(session, LENGTHS)
    assert max(size.rows for size in sizes) > 4
    for size in sizes:
        if size.rows > 4:
            assert predicted_bytes(size, session.row_cost) <= 0.02 * 2**30
