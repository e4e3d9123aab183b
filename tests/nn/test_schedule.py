"""Schedules against stored values, interpolation and the rules of defaults."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from zipasr.nn.schedule import PiecewiseLinear, ScheduledFloat, set_batch_count

POINTS = {
    "a": [(0, 0.5), (8000, 0.125)],
    "b": [(0, 0.2), (4000, 0.05), (16000, 0)],
    "c": [(571, 0.5), (857, 0.035)],
}


@pytest.mark.parametrize("name", POINTS)
def test_values_of_the_reference(golden: dict[str, Tensor], name: str) -> None:
    schedule = ScheduledFloat(*POINTS[name], default=0.4)
    values = []
    for count in golden["sched.x"].tolist():
        set_batch_count(schedule, count)
        values.append(float(schedule))
    values.append(float(schedule.eval()))
    torch.testing.assert_close(torch.tensor(values).double(), golden[f"sched.{name}"])


@given(
    xs=st.lists(st.integers(-1000, 1000), min_size=1, max_size=5, unique=True),
    ys=st.lists(st.floats(-10, 10), min_size=5, max_size=5),
    x=st.floats(-2000, 2000),
)
def test_equals_numpy_interpolation(xs: list[int], ys: list[float], x: float) -> None:
    xs = sorted(xs)
    expected = np.interp(x, xs, ys[: len(xs)])
    assert PiecewiseLinear(*zip(xs, ys, strict=False))(x) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("points", [[], [(1, 0), (1, 1)], [(2, 0), (1, 1)]])
def test_refuses_no_points_and_points_out_of_order(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="schedule"):
        PiecewiseLinear(*points)


def test_default_until_a_count_is_written_and_outside_training() -> None:
    schedule = ScheduledFloat((0, 1.0), (10, 2.0), default=0.25)
    assert float(schedule) == 0.25
    set_batch_count(schedule, 5)
    assert float(schedule) == 1.5
    assert float(schedule.eval()) == 0.25
    assert float(schedule.train()) == 1.5


def test_found_inside_a_model_and_copied_with_it() -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rate = ScheduledFloat((0, 1.0), (10, 0.0))

    model = nn.Sequential(Layer(), nn.ModuleList([Layer()]))
    set_batch_count(model, 2)
    clone = copy.deepcopy(model)
    set_batch_count(clone, 4)
    assert float(model[0].rate) == float(model[1][0].rate) == pytest.approx(0.8)
    assert float(clone[0].rate) == pytest.approx(0.6)
    assert not model.state_dict()
    model.eval()
    assert float(model[0].rate) == 0.0
