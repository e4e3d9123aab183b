"""Gradients of an update: several batches, batches in parts, and processes that differ in both."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.short import new_batch, new_session, train
from zipasr.base.distributed import World, launch
from zipasr.base.errors import ResourceError
from zipasr.checkpoint.checkpoint_file import load_checkpoint
from zipasr.data.dataset import Batch
from zipasr.encoder.zipformer1.scaling import ActivationBalancer
from zipasr.nn.balancer import Balancer
from zipasr.nn.schedule import set_batch_count
from zipasr.nn.whiten import Whiten
from zipasr.training import gradient_reduction, update
from zipasr.training.loop import apply_gradients, begin_update, counted_seconds
from zipasr.training.memory import row_cost
from zipasr.training.session import Session
from zipasr.training.update import BatchPart, compute_gradients, halve, is_out_of_memory

LENGTHS = (2.0, 1.5, 1.2, 1.1, 0.8)


def a_batch(*seconds: float, seed: int = 0) -> Batch:
    batch = new_batch(*seconds, seed=seed)
    return replace(batch, features=batch.features.double())


def gradients(session: Session) -> dict[str, Tensor]:
    return {n: p.grad for n, p in session.model.named_parameters() if p.grad is not None}


def assert_close(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        torch.testing.assert_close(value, right[name], atol=1e-9, rtol=1e-9, msg=name)


def steady(session: Session) -> Session:
    """Leave out all that is random or measured over a batch, and rounding."""
    session.model.double().eval()
    for module in session.model.modules():
        if isinstance(module, Whiten):
            module.prob = module.min_prob = module.max_prob = 0.0
        if isinstance(module, Balancer):
            del module.prob  # a schedule is a module, which a number cannot replace
            module.prob = 0.0
        if isinstance(module, ActivationBalancer):
            module.min_prob, module.num_calls = 0.0, 10**9
    return session


@contextmanager
def short_of_memory(
    session: Session, limit: int, *, at: str, fault: Callable[[], Exception]
) -> Iterator[list[int]]:
    """Let batches of more than ``limit`` utterances fail, and list the sizes that were tried."""
    tried: list[int] = []
    real = update.compute_loss

    def compute_loss(model: Any, batch: Batch, *args: Any) -> Any:
        tried.append(len(batch))
        if at == "forward" and len(batch) > limit:
            raise fault()
        return real(model, batch, *args)

    def in_backward(grad: Tensor) -> None:
        # The first layer: most gradients are added already.
        if at == "backward" and tried[-1] > limit:
            raise fault()

    first = next(session.model.parameters())
    handle = first.register_hook(in_backward)
    update.compute_loss = compute_loss
    try:
        yield tried
    finally:
        update.compute_loss = real
        handle.remove()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("at", "fault"),
    [
        ("forward", lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate")),
        ("backward", lambda: torch.OutOfMemoryError("CUDA out of memory.")),
    ],
)
def test_a_batch_in_parts_has_the_gradient_of_the_whole(
    at: str, fault: Callable[[], Exception]
) -> None:
    session = steady(new_session())
    batches = [a_batch(0.9, seed=1), a_batch(*LENGTHS)]
    whole = compute_gradients(session, batches)
    expected = {name: grad.clone() for name, grad in gradients(session).items()}
    with short_of_memory(session, 2, at=at, fault=fault) as tried:
        parts = compute_gradients(session, batches)
    assert_close(gradients(session), expected)
    assert tried == [1, 5, 1, 3, 1, 2, 1, 2]
    assert (whole.splits, parts.splits) == (0, 2)
    assert [len(part.batch) for part in parts.parts] == [1, 2, 1, 2]
    assert parts.metrics.frames == whole.metrics.frames
    for name, value in whole.metrics.sums.items():
        assert parts.metrics.sums[name] == pytest.approx(value, rel=1e-5)


@pytest.mark.usefixtures("here")
def test_an_utterance_that_does_not_fit_alone_is_named() -> None:
    session = new_session()
    with (
        short_of_memory(session, 0, at="forward", fault=MemoryError),
        pytest.raises(ResourceError, match=r"noise-0-0 \(2\.0 s\) alone does not fit") as raised,
    ):
        compute_gradients(session, [a_batch(*LENGTHS)])
    assert raised.value.exit_code == 5


@pytest.mark.usefixtures("here")
def test_other_faults_are_not_taken_for_a_lack_of_memory() -> None:
    session = steady(new_session())
    with (
        short_of_memory(session, 0, at="backward", fault=lambda: RuntimeError("wrong shape")),
        pytest.raises(RuntimeError, match="wrong shape"),
    ):
        compute_gradients(session, [a_batch(*LENGTHS)])
    assert not is_out_of_memory(ValueError("out of memory"))


def test_halves_keep_padding_and_order_and_draw_differently() -> None:
    batch = a_batch(*LENGTHS)
    parts = halve([BatchPart(a_batch(1.0), (1,)), BatchPart(batch, (1, 2))], 1)
    assert [part.keys for part in parts] == [(1,), (1, 2, 0), (1, 2, 1)]
    _, left, right = (part.batch for part in parts)
    assert (left.features.shape, right.features.shape) == ((3, 200, 80), (2, 200, 80))
    assert torch.equal(torch.cat([left.features, right.features]), batch.features)
    assert left.cut_ids + right.cut_ids == batch.cut_ids
    assert right.seconds == pytest.approx(1.9)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("accumulate", "processes"), [(1, 1), (1, 4), (2, 2)])
def test_schedules_in_the_model_count_batches_as_icefall_does(
    accumulate: int, processes: int
) -> None:
    session = new_session(f"--max-duration 12 --ref-duration 600 --accumulate {accumulate}")
    session.world = replace(session.world, size=processes)
    batches = [a_batch(1.0, 0.5)] * accumulate  # far from full
    assert counted_seconds(session, batches) == 12 * accumulate * processes
    session.row_cost = row_cost(session, 20.0)  # smaller batches than --max-duration says
    batches = [replace(batch, step_seconds=3.0) for batch in batches]
    assert counted_seconds(session, batches) == 3.0 * accumulate


@pytest.mark.usefixtures("here")
def test_an_update_of_two_batches_is_one_of_a_large_batch() -> None:
    whole = steady(new_session("--max-duration 24"))
    parts = steady(new_session("--max-duration 12 --accumulate 2"))
    # With these values the modules have nothing random left.
    for session in (whole, parts):
        set_batch_count(session.model, 0.0)
    for seed in range(12):
        batch = a_batch(1.6, 1.4, 1.0, 0.8, seed=seed)
        for session, batches in ((whole, [batch]), (parts, [batch.part(0, 2), batch.part(2, 4)])):
            begin_update(session, batches)
            apply_gradients(session, compute_gradients(session, batches), batches)
        assert whole.state.batch_idx_train == parts.state.batch_idx_train == seed + 1
        assert whole.state.schedule_count == pytest.approx(parts.state.schedule_count)
        assert whole.state.shown_schedule_count == pytest.approx(parts.state.shown_schedule_count)
        assert whole.scheduler.get_last_lr() == parts.scheduler.get_last_lr()
    assert (whole.state.batches_done, parts.state.batches_done) == (12, 24)
    assert_close(dict(whole.model.named_parameters()), dict(parts.model.named_parameters()))


@pytest.mark.usefixtures("here")
def test_accumulation_goes_on_in_the_middle_of_an_epoch_as_if_it_had_not_stopped(
    tmp_path: Path,
) -> None:
    # An odd number of batches: the last update of an epoch has one.
    flags = "--max-duration 9 --accumulate 2 --save-every-n 2 --keep-last-k 9 --num-epochs 2"
    whole = train(tmp_path / "whole", flags)
    assert whole["batches_done"] > whole["batch_idx_train"] / 2
    middle = load_checkpoint(tmp_path / "whole" / "checkpoint-2.pt")
    assert middle["batches_done"] == 4
    (tmp_path / "parts").mkdir()
    (tmp_path / "whole" / "checkpoint-2.pt").rename(tmp_path / "parts" / "checkpoint-2.pt")
    parts = train(tmp_path / "parts", flags)
    for name, value in whole["model"].items():
        assert torch.equal(value, parts["model"][name]), name
    assert whole["schedule_count"] == parts["schedule_count"]


@pytest.mark.usefixtures("here")
def test_batches_become_smaller_after_an_epoch_with_three_that_did_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = update.compute_loss, iter(range(1000))

    def compute_loss(model: Any, batch: Batch, *args: Any) -> Any:
        if next(calls) in (0, 3, 6):
            raise torch.OutOfMemoryError
        return real(model, batch, *args)

    monkeypatch.setattr(update, "compute_loss", compute_loss)
    checkpoint = train(tmp_path, "--rehearse 0 --max-duration 10 --num-epochs 2")
    assert checkpoint["memory_splits"] == 3
    assert checkpoint["epoch_splits"] == 0
    assert checkpoint["budget_factor"] == pytest.approx(0.9)
    assert checkpoint["max_duration"] == pytest.approx(9.0)
    first = load_checkpoint(tmp_path / "epoch-1.pt")
    assert (first["max_duration"], first["epoch_splits"]) == (10.0, 3)
    (log,) = (tmp_path / "log").iterdir()
    assert "a batch has 90 % of --max-duration" in log.read_text()


def one_rank_is_short_of_memory(world: World, folder: Path) -> None:
    os.chdir(folder / "prepared")
    gradient_reduction.BUCKET_ELEMENTS = 1000  # most are on their way when memory runs out
    session = steady(new_session("--accumulate 2", world))
    batches = [a_batch(*LENGTHS, seed=2 * world.rank + i) for i in range(2)]
    limit = 2 if world.rank == 1 else 5
    with short_of_memory(session, limit, at="backward", fault=torch.OutOfMemoryError):
        result = compute_gradients(session, batches)
    assert result.splits == 4  # of both processes together
    torch.save(gradients(session), folder / f"grads-{world.rank}.pt")


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two processes need two cores")
def test_a_process_that_is_short_of_memory_keeps_the_others_waiting_not_stuck(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prepared").symlink_to(prepared)
    launch(one_rank_is_short_of_memory, 2, 12399, tmp_path)
    monkeypatch.chdir(prepared)
    session = steady(new_session("--accumulate 2"))
    compute_gradients(session, [a_batch(*LENGTHS, seed=seed) for seed in range(4)])
    mean = {name: grad / 2 for name, grad in gradients(session).items()}
    of_ranks = [torch.load(tmp_path / f"grads-{rank}.pt") for rank in range(2)]
    for name, grad in of_ranks[0].items():
        assert torch.equal(grad, of_ranks[1][name]), name
    made = {name: grad for name, grad in of_ranks[0].items() if name in mean}
    assert_close(made, mean)
    assert not any(grad.any() for name, grad in of_ranks[0].items() if name not in mean)
