import json
import math
from typing import Any

import pytest
import torch
from torch import nn

from tests.optim.rubik_golden import FOLDER
from zipasr.optim.build import build_schedule
from zipasr.optim.config import EdenConfig, OptimizerConfig
from zipasr.optim.schedules import Eden, InterpCosine, interp_cosine_factor, planned_progress

CASES = json.loads((FOLDER / "rubik_schedules.json").read_text())["cases"]
# Its other curves are ends of this family; the full cosine, which no program uses, is not.
SHAPES: dict[str, dict[str, float]] = {
    "interp_cosine": {},
    "linear": {"linear_scale": 1.0},
    "half_cosine": {"linear_scale": 0.0, "half_cosine_scale": 1.0, "min_factor": 0.05},
}
KNOWN = [case for case in CASES if case["kind"].partition(".")[2] in SHAPES]


def optimizer(*rates: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [nn.Parameter(torch.ones(1))], "lr": lr} for lr in rates])


@pytest.mark.parametrize("case", KNOWN, ids=lambda c: f"{c['kind']}-{c['real_batches']}")
def test_learning_rates_equal_the_reference(case: dict[str, Any]) -> None:
    kind, _, curve = case["kind"].partition(".")
    options = dict(case["options"])
    each, epochs = options.pop("batches_per_epoch"), options.pop("num_epochs", 1)
    expected = each if isinstance(each, list) else [each] * epochs
    sgd = optimizer(*case["base_lrs"])
    schedule = InterpCosine(
        sgd, expected, counts_last=kind == "combined", **{**SHAPES[curve], **options}
    )
    for epoch, batch, progress, rates in case["rows"]:
        if batch >= 0:
            schedule.set_batch(batch)
        else:
            if epoch > 1:  # the rows leave batches out
                schedule.set_batch(case["real_batches"][epoch - 2] - 1)
            schedule.set_epoch(epoch)
        # Before the first batch the reference is one batch before the start; no update sees that.
        assert schedule.progress == pytest.approx(max(progress, 0.0), rel=1e-12)
        if progress >= 0:
            assert schedule.get_last_lr() == pytest.approx(rates, rel=1e-12)
            assert [group["lr"] for group in sgd.param_groups] == schedule.get_last_lr()
    state = dict(case["state"])
    if "batches_per_epoch" in state:
        state["adjust_factor"] = each / state.pop("batches_per_epoch")
    assert schedule.state_dict() == pytest.approx(state)
    other = InterpCosine(optimizer(*case["base_lrs"]), expected, **{**SHAPES[curve], **options})
    other.load_state_dict(case["state"])
    other.set_batch(schedule.batch)
    assert other.get_last_lr() == pytest.approx(schedule.get_last_lr(), rel=1e-12)


def test_published_values() -> None:
    found = [interp_cosine_factor(progress) for progress in (0, 0.25, 0.5, 0.75, 1)]
    assert found == pytest.approx([1, 0.806732, 0.5125, 0.218268, 0.025], abs=1e-6)
    # Half a cosine alone, and the two others, at a third of the way.
    third = {"min_factor": 0.0, "linear_scale": 0.0}
    assert interp_cosine_factor(1 / 3, **third) == pytest.approx(0.75)
    third["half_cosine_scale"] = 1.0
    assert interp_cosine_factor(1 / 3, **third) == pytest.approx(math.sqrt(0.75))


def test_epochs_count_by_their_copies() -> None:
    # 1, 1, 2 and 4 passes over the data: the last epoch is half of the run.
    passes = [1, 1, 2, 4]
    assert planned_progress(passes, 4, 0) == 0.5
    assert planned_progress(passes, 3, 1) == 3 / 8
    assert planned_progress(passes, 3, 5) == 0.5  # no further than the epoch goes
    assert planned_progress(passes, 3, 5, adjust=0.2) == 3 / 8
    assert planned_progress(passes, 5, 7) == 1.0


def test_a_number_of_batches_that_is_known_counts_at_once() -> None:
    schedule = InterpCosine(optimizer(0.02), [2200, 4400], counted_ahead=True)
    schedule.begin_epoch(1, 10)
    for batch in range(10):
        schedule.begin_update(batch, batch + 1)
        assert schedule.progress == pytest.approx(batch / 30)
    schedule.begin_epoch(2, 20)
    schedule.begin_update(10, 21)
    assert schedule.progress == pytest.approx(2 / 3)
    again = InterpCosine(optimizer(0.02), [2200, 4400], counted_ahead=True)
    again.load_state_dict(schedule.state_dict())
    again.begin_epoch(2, 20)
    again.begin_update(11, 22)
    assert again.progress == pytest.approx(1 / 3 + 11 / 30)
    unknown = InterpCosine(optimizer(0.02), [40, 80], counted_ahead=True)
    unknown.begin_epoch(1, None)
    unknown.begin_update(10, 11)
    assert unknown.progress == pytest.approx(10 / 120)


def test_warm_up_is_by_choice() -> None:
    schedule = InterpCosine(optimizer(0.02), [100], warmup_batches=10, warmup_start=0.1)
    schedule.set_epoch(1)
    schedule.set_batch(4, 5)
    assert schedule.factor() == pytest.approx(0.55 * interp_cosine_factor(0.04))
    plain = InterpCosine(optimizer(0.02), [100])
    assert plain.get_last_lr() == [0.02]


def test_each_optimizer_has_its_schedule() -> None:
    rates = EdenConfig(base_lr=0.02, warmup_batches=0.0)
    eden = build_schedule(optimizer(0.02), OptimizerConfig(), rates, [1, 1])
    assert isinstance(eden, Eden)
    eden.begin_epoch(3, 7)
    eden.begin_update(2, 40)
    assert eden.state_dict() == {"epoch": 2, "batch": 40}
    rubik = OptimizerConfig(optimizer="rubik")
    cosine = build_schedule(optimizer(0.02), rubik, rates, [1, 2])
    assert isinstance(cosine, InterpCosine)
    assert cosine.expected == [2200, 4400]
    assert cosine.counted_ahead
    typed = EdenConfig(base_lr=0.02, warmup_batches=0.0, batches_per_epoch=50)
    cosine = build_schedule(optimizer(0.02), rubik, typed, [1, 2])
    assert isinstance(cosine, InterpCosine)
    cosine.begin_epoch(1, 25)  # what is typed is taken as it is
    cosine.begin_update(24, 25)
    assert cosine.progress == pytest.approx(24 / 150)
    cosine.begin_epoch(2, 50)  # and mended by what was seen
    cosine.begin_update(10, 36)
    assert cosine.progress == pytest.approx(1 / 3 + 20 / 150)


def test_nonsense_is_refused() -> None:
    for bad in ([], [10, 0]):
        with pytest.raises(ValueError, match="must be positive"):
            InterpCosine(optimizer(0.1), bad)
    with pytest.raises(ValueError, match="min_factor"):
        InterpCosine(optimizer(0.1), [10], min_factor=1.5)
    with pytest.raises(ValueError, match="--batches-per-epoch"):
        EdenConfig(batches_per_epoch=0)
