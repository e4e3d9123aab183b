"""How much memory batches take, a limit on it, and the rehearsal before the first epoch."""

from __future__ import annotations

import gc
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.training.short import SHORT, new_session, train
from zipasr.base import environment as machine
from zipasr.base.errors import ResourceError
from zipasr.cli import train as train_command
from zipasr.cli.command_flags import read
from zipasr.cli.training_commands import TRAIN
from zipasr.data.epoch_plan import RowCost
from zipasr.training import memory as rehearsal
from zipasr.training.dry_run import published_batch
from zipasr.training.memory import (
    Size,
    activation_bytes,
    fitting_duration,
    largest,
    predicted_bytes,
    rehearse,
    row_cost,
    try_largest_batches,
)
from zipasr.training.session import Session

COST = RowCost(per_second=100.0, per_second_squared=3.0, per_token=7.0)
SIZES = st.builds(Size, st.integers(1, 60), st.floats(0.5, 20.0), st.integers(0, 90))


def without_trace(session: Session) -> tuple[Any, ...]:
    """Collect what a look at the memory must leave as it was."""
    return (
        torch.get_rng_state().tolist(),
        random.getstate(),
        session.own_state(),
        [p.grad for p in session.model.parameters()],
        [p.detach().sum().item() for p in session.model.parameters()],
        session.state.state_dict(),
        session.optimizer.state_dict()["state"],
    )


@pytest.mark.usefixtures("here")
def test_the_estimate_of_a_batch_agrees_with_its_count_and_nothing_is_disturbed() -> None:
    session = new_session()
    before = without_trace(session)
    cost = row_cost(session, 8.0)
    assert row_cost(session, 8.0) == cost
    assert without_trace(session) == before
    for size in (Size(5, 3.0, 10), Size(3, 6.0, 10), Size(2, 8.0, 30)):
        assert predicted_bytes(size, cost) == pytest.approx(
            activation_bytes(session, size), rel=0.15
        )


@pytest.mark.usefixtures("here")
def test_what_was_counted_is_free_again() -> None:
    def alive() -> int:
        gc.collect()
        return sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())

    session = new_session()
    activation_bytes(session, Size(1, 2.0, 4))
    before = alive()
    activation_bytes(session, Size(1, 2.0, 4))
    assert alive() == before


@given(st.lists(SIZES, min_size=1), st.integers(1, 8))
def test_the_costliest_of_each_class_of_length_are_chosen(sizes: list[Size], classes: int) -> None:
    found = largest(sizes, COST, classes)
    costs = [predicted_bytes(size, COST) for size in found]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] == max(predicted_bytes(size, COST) for size in sizes)
    assert len(found) == len(set(found)) <= classes
    assert set(found) <= set(sizes)


@given(SIZES, st.floats(0.0, 1e6))
def test_the_advised_duration_fits(size: Size, room: float) -> None:
    rows = int(fitting_duration(size, COST, room) / size.seconds)
    assert rows <= size.rows
    assert predicted_bytes(size._replace(rows=rows), COST) <= room


@pytest.mark.usefixtures("here")
def test_a_rehearsal_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    session = new_session()
    before = without_trace(session)
    sizes = [Size(3, 2.0, 4), Size(5, 1.0, 3)]
    assert try_largest_batches(session, sizes, COST) is None
    assert without_trace(session) == before
    rehearse(session, sizes)
    assert without_trace(session) == before


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "fault", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()], ids=["gpu", "host"]
)
def test_a_batch_that_does_not_fit_is_told_with_the_duration_that_would(
    fault: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = new_session()
    before = without_trace(session)
    real = rehearsal.weighted_loss

    def weighted_loss(session: Session, batch: Any, *args: Any) -> Any:
        if len(batch) > 3:
            raise fault
        return real(session, batch, *args)

    monkeypatch.setattr(rehearsal, "weighted_loss", weighted_loss)
    sizes = [Size(3, 2.0, 4), Size(50, 2.0, 4)]
    cost = row_cost(session, 2.0)
    room = 20.5 * rehearsal.MARGIN * cost(2.0, 4) + rehearsal.state_bytes(session)
    monkeypatch.setattr(rehearsal, "free_bytes", lambda device: int(room))
    problem = try_largest_batches(session, sizes, cost)
    assert problem is not None
    assert "50 utterances of 2.0 s" in problem[0]
    assert "--max-duration 40 " in problem[1]
    assert without_trace(session) == before


@pytest.mark.usefixtures("here")
def test_a_problem_of_one_process_stops_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "all_gather", lambda own, world: [own, ("of rank 1", "less")])
    with pytest.raises(ResourceError, match="of rank 1") as raised:
        rehearse(new_session(), [Size(1, 1.0, 1)])
    assert raised.value.exit_code == 5


@pytest.mark.usefixtures("here")
def test_a_run_that_cannot_fit_ends_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rehearsal, "free_bytes", lambda device: 4_000_000)
    words = f"--recipe ./tones --exp-dir {tmp_path} {SHORT}".split()
    assert train_command.main(words) == 5
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: a batch of ")
    assert "--max-duration " in said
    assert not list(tmp_path.glob("*.pt"))
    assert train_command.main([*words, "--rehearse", "0"]) == 0


@pytest.mark.usefixtures("here")
def test_a_memory_budget_makes_batches_smaller_and_keeps_the_schedules(tmp_path: Path) -> None:
    free = train(tmp_path / "free", "")
    session = new_session()
    budget = 3.5 * row_cost(session, 20.0)(2.0, 4) / 2**30
    limited = train(tmp_path / "limited", f"--memory-budget-gb {budget:.6f}")
    assert limited["batches_done"] > 1.5 * free["batches_done"]
    # They count seconds, not batches.
    assert limited["schedule_count"] == pytest.approx(free["schedule_count"], rel=0.35)
    cost = limited["sampler"]["layout"]["budget"]["cost"]
    assert cost["per_second"] > 0
    assert train(tmp_path / "limited", f"--memory-budget-gb {budget:.6f}") is not None


@pytest.mark.parametrize(
    ("stat", "limit", "left"),
    [("anon 5\nfile 300\n", "1000", [700]), ("file 0\n", "max", []), (None, "1000", [])],
)
def test_what_a_container_leaves(
    stat: str | None, limit: str, left: list[int], tmp_path: Path
) -> None:
    (tmp_path / "memory.max").write_text(limit)
    (tmp_path / "memory.current").write_text("600")
    if stat is not None:
        (tmp_path / "memory.stat").write_text(stat)
    assert machine._left_in_container(tmp_path) == left


def test_what_the_system_has_available(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:   7 kB\n")
    assert machine._available(tmp_path / "meminfo") == [7 * 1024]
    assert machine._available(tmp_path / "none") == []
    assert machine.free_bytes(torch.device("cpu")) > 0


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("flags", "published"),
    [
        ("", None),
        ("--preset small", (2, 1500)),
        ("--preset medium", (4, 1000)),
        (
            "--preset medium --use-attention-decoder 1 --use-transducer 0 --ctc-loss-scale 0.1 "
            "--attention-decoder-loss-scale 0.9",
            (4, 1200),
        ),
    ],
)
def test_the_published_batch_of_a_model(flags: str, published: tuple[int, int] | None) -> None:
    parsed = read(TRAIN, f"--recipe ./tones {flags}".split())
    assert published_batch(train_command.train_configs(parsed)) == published
