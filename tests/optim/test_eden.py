import json
from typing import Any

import pytest
import torch
from torch import nn

from tests.optim.golden import FOLDER
from zipasr.base.config import from_dict, to_dict
from zipasr.optim.config import EdenConfig
from zipasr.optim.scaled_adam import ScaledAdam
from zipasr.optim.schedules import Eden, eden_factor

GOLDEN = json.loads((FOLDER / "eden.json").read_text())
CASES = [case for case in GOLDEN["cases"] if case["class"] == "Eden"]


def optimizer(lr: float = 0.045) -> ScaledAdam:
    return ScaledAdam([nn.Parameter(torch.ones(2))], lr=lr)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['base_lr']}")
def test_learning_rates_equal_the_reference(case: dict[str, Any]) -> None:
    adam = optimizer(case["base_lr"])
    schedule = Eden(adam, **case["kwargs"])
    for epoch, row in zip(GOLDEN["epochs"], case["lr[epoch][batch]"], strict=True):
        schedule.step_epoch(epoch)
        for batch, want in zip(GOLDEN["batches"], row, strict=True):
            schedule.step_batch(batch)
            assert schedule.get_last_lr()[0] == pytest.approx(want, rel=1e-12)
            assert adam.param_groups[0]["lr"] == schedule.get_last_lr()[0]
    assert schedule.state_dict() == case["state_dict"]


def test_published_table() -> None:
    # The table of the recipe's training notes: base 0.045, 7500 batches, 3.5 epochs.
    table = {(1, 0): 0.004581, (500, 0): 0.044950, (20000, 10): 0.015326, (300000, 29): 0.002463}
    for (batch, epoch), want in table.items():
        factor = eden_factor(batch, epoch, lr_batches=7500, lr_epochs=3.5, warmup_start=0.1)
        assert 0.045 * factor == pytest.approx(want, abs=6e-7)


def test_counters_advance_by_themselves() -> None:
    first, second = Eden(optimizer(), 10, 2), Eden(optimizer(), 10, 2)
    for _ in range(3):
        first.step_batch()
    first.step_epoch()
    second.step_batch(3)
    second.step_epoch(1)
    assert first.get_last_lr() == second.get_last_lr()
    assert first.state_dict() == {"epoch": 1, "batch": 3}


def test_an_epoch_of_several_passes_counts_as_so_many_epochs() -> None:
    schedule = Eden(optimizer(), 7500.0, 3.5, real_epochs=(1, 2, 4))
    counted = []
    for epoch in range(1, 6):
        schedule.begin_epoch(epoch, None)
        counted.append(schedule.epoch)
    # Beyond the plan an epoch is one.
    assert counted == [0, 1, 3, 7, 8]
    plain = Eden(optimizer(), 7500.0, 3.5)
    plain.begin_epoch(4, None)
    assert plain.epoch == 3


def test_each_group_has_its_base_rate() -> None:
    params = [nn.Parameter(torch.ones(2)) for _ in range(3)]
    adam = ScaledAdam(
        [{"params": [p], "lr": lr} for p, lr in zip(params[:2], (0.04, 0.01), strict=True)]
    )
    schedule = Eden(adam, 100, 5, warmup_batches=0)
    adam.add_param_group({"params": [params[2]], "lr": 0.5, "base_lr": 0.08})
    schedule.step_batch(50)
    low, high, late = schedule.get_last_lr()
    assert low == pytest.approx(4 * high)
    assert late == pytest.approx(2 * low)


def test_base_rate_of_the_command_line_wins_on_resume() -> None:
    old = optimizer(0.045)
    Eden(old, 100, 5).step_batch(7)
    new = optimizer(0.02)
    schedule = Eden(new, 100, 5)
    new.load_state_dict(old.state_dict())
    schedule.load_state_dict({"epoch": 0, "batch": 7, "base_lrs": [0.045]})
    schedule.step_batch()
    fresh = Eden(optimizer(0.02), 100, 5)
    fresh.step_batch(8)
    assert new.param_groups[0]["lr"] == fresh.get_last_lr()[0]


def test_config_checks_itself_and_survives_json() -> None:
    config = EdenConfig()
    assert from_dict(EdenConfig, json.loads(json.dumps(to_dict(config)))) == config
    for bad in (
        {"base_lr": 0.0},
        {"lr_epochs": -1.0},
        {"warmup_start": 2.0},
        {"warmup_batches": -1.0},
    ):
        with pytest.raises(ValueError, match="--" + next(iter(bad)).replace("_", "-")):
            EdenConfig(**bad)
    with pytest.raises(ValueError, match="warmup_start"):
        Eden(optimizer(), 1, 1, warmup_start=1.5)
