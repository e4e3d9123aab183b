"""Going on in the middle of an epoch when the batches, or the data, are no longer the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.training.short import train
from zipasr.base.distributed import World
from zipasr.base.errors import CheckpointError, DataError
from zipasr.checkpoint.checkpoint_file import load_checkpoint
from zipasr.data.cuts import DataIdentity
from zipasr.data.epoch_plan import BatchingConfig, BatchLimits, EpochSegment, RowCost
from zipasr.training import loop
from zipasr.training import state as course_module
from zipasr.training.state import SamplerState, TrainState, check_ranks_agree

DATA = DataIdentity(cuts=60, hours=0.02, names="n", seconds="s", tokens="t")
LAYOUT = BatchingConfig(budget=BatchLimits(max_duration=10.0), drop_last=True, shuffle=True)
COST = RowCost(per_token=1.0)
COSTED = replace(LAYOUT, budget=BatchLimits(max_duration=10.0, max_cost=5.0, cost=COST))


class Killed(Exception):  # noqa: N818 - an end, not an error
    """As if the process ended here."""


def log_of(exp_dir: Path) -> str:
    return "".join(path.read_text() for path in (exp_dir / "log").iterdir())


@pytest.fixture
def epoch(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Note the cuts of each update, and end the run after a chosen number of them."""
    seen: list[str] = []
    real = loop.compute_gradients

    def install(last: int | None) -> list[str]:
        updates = []

        def one_update(session: Any, batches: Any) -> Any:
            if len(updates) == last:
                raise Killed
            updates.append(1)
            seen.extend(name for batch in batches for name in batch.cut_ids)
            return real(session, batches)

        monkeypatch.setattr(loop, "compute_gradients", one_update)
        return seen

    return install


@pytest.mark.usefixtures("here")
def test_what_an_epoch_has_left_is_trained_in_batches_of_another_size(
    epoch: Any, tmp_path: Path
) -> None:
    for seconds in (8, 12):  # killed twice, each time with other batches
        epoch(2)
        with pytest.raises(Killed):
            train(tmp_path, f"--save-every-n 2 --max-duration {seconds}")
    # Of at most 8 s each, where 0.4 s count as one.
    assert 30 < load_checkpoint(tmp_path / "checkpoint-2.pt")["schedule_count"] <= 40
    seen = epoch(None)
    last = train(tmp_path, "--max-duration 10 --drop-last 0")
    assert "max_duration changed from 12.0 to 10.0" in log_of(tmp_path)
    assert "epoch 1 goes on with the utterances that it has not seen yet" in log_of(tmp_path)
    assert max(Counter(seen).values()) == 1
    assert len(seen) == last["sampler"]["data"]["cuts"] == 60
    assert [leg["steps"] for leg in last["sampler"]["legs"]] == [2, 2]
    assert last["batches_done"] == last["batch_idx_train"] > 4


@pytest.mark.usefixtures("here")
def test_other_data_are_allowed_on_request(epoch: Any, tmp_path: Path) -> None:
    epoch(2)
    with pytest.raises(Killed):
        train(tmp_path, "--save-every-n 2 --max-duration 8")
    seen = epoch(None)
    seen.clear()
    other = "--min-cut-duration 0.7 --max-duration 8 --drop-last 0"
    with pytest.raises(CheckpointError, match=r"60 cuts of .* now.*--allow-data-change 1"):
        train(tmp_path, other)
    last = train(tmp_path, f"{other} --allow-data-change 1")
    assert "epoch 1 starts from its beginning" in log_of(tmp_path)
    assert len(seen) == last["sampler"]["data"]["cuts"] < 60
    assert last["sampler"]["legs"] == []


def test_a_course_comes_back_from_a_checkpoint() -> None:
    saved = SamplerState(LAYOUT, DATA, (EpochSegment(COSTED, 3),)).to_dict()
    course, state = SamplerState(LAYOUT, DATA), TrainState(batches_done=5)
    course.resume(saved, state, other_data=False)
    assert course == SamplerState(LAYOUT, DATA, (EpochSegment(COSTED, 3),))
    now = replace(LAYOUT, world_size=2)
    course, state = SamplerState(now, DATA), TrainState(batches_done=5)
    course.resume(saved, state, other_data=False)
    assert course == SamplerState(now, DATA, (EpochSegment(COSTED, 3), EpochSegment(LAYOUT, 2)))
    assert state.batches_done == 5
    course.start_epoch()
    assert course == SamplerState(now, DATA)


def test_an_epoch_ends_with_the_readers_that_it_began_with() -> None:
    layout = BatchingConfig(budget=BatchLimits(max_duration=10.0), num_readers=2)
    saved = SamplerState(layout).to_dict()
    more = replace(layout, num_readers=5)
    sampler = SamplerState(more)
    sampler.resume(saved, TrainState(batches_done=3), other_data=False)
    sampler.change_layout(more, 3)
    assert (sampler.layout.num_readers, sampler.legs) == (2, ())
    sampler.change_layout(more, 0)
    assert sampler.layout.num_readers == 5
    del saved["layout"]["num_readers"]  # of a checkpoint before there were readers
    assert BatchingConfig.from_dict(saved["layout"]).num_readers == 1


def test_a_position_without_its_layout_is_not_guessed(caplog: pytest.LogCaptureFixture) -> None:
    course, state = SamplerState(LAYOUT, DATA), TrainState(cur_epoch=3, batches_done=5)
    course.resume({"epoch": 3, "batches": 5}, state, other_data=False)
    assert (state.cur_epoch, state.batches_done) == (3, 0)
    assert "epoch 3 starts from its beginning" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": "x"}, "other names, or another order"),
        ({"tokens": "x"}, "other transcripts, or another tokenizer"),
        ({"cuts": 59, "seconds": "x"}, "60 cuts of 0.02 h then, 59 cuts of 0.02 h now"),
    ],
)
def test_what_is_different_is_named(change: dict[str, Any], message: str) -> None:
    saved = SamplerState(LAYOUT, DATA).to_dict()
    course = SamplerState(LAYOUT, replace(DATA, **change))
    with pytest.raises(CheckpointError) as refusal:
        course.resume(saved, TrainState(), other_data=False)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(DATA, cuts=59, seconds="x"), "60 cuts of 0.02 h in the first, 59 cuts"),
        (DATA, "other flags, or another checkpoint"),
    ],
)
def test_processes_that_plan_other_batches_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, other: DataIdentity, message: str
) -> None:
    world = World(0, 3, None)  # type: ignore[arg-type]

    def gathered(mine: Any, _world: World) -> list[Any]:
        return [mine, mine, (SamplerState(LAYOUT, other), 0, "another plan")]

    monkeypatch.setattr(course_module, "all_gather", gathered)
    with pytest.raises(DataError, match="processes 0 and 2 do not plan the same batches") as told:
        check_ranks_agree(world, SamplerState(LAYOUT, DATA), 0, "a plan")
    assert message in str(told.value)


def test_processes_that_agree_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course_module, "all_gather", lambda mine, _world: [mine, mine])
    check_ranks_agree(World(0, 2, None), SamplerState(LAYOUT, DATA), 0, "p")  # type: ignore[arg-type]


def test_processes_may_load_with_other_numbers_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows from the number, for features in shards, the digest of the plan tells."""
    other = SamplerState(replace(LAYOUT, num_readers=3), DATA)
    monkeypatch.setattr(course_module, "all_gather", lambda mine, _: [mine, (other, *mine[1:])])
    check_ranks_agree(World(0, 2, None), SamplerState(LAYOUT, DATA), 0, "p")  # type: ignore[arg-type]
    monkeypatch.setattr(course_module, "all_gather", lambda mine, _: [mine, (other, 0, "q")])
    with pytest.raises(DataError, match="do not plan the same batches"):
        check_ranks_agree(World(0, 2, None), SamplerState(LAYOUT, DATA), 0, "p")  # type: ignore[arg-type]
