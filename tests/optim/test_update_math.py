import math

import pytest
import torch

from zipasr.base.errors import NumericError
from zipasr.optim.update_math import (
    GradientSizes,
    dominant_parameter,
    gradient_scale,
    norm_statistics,
    unusual_parameters,
)


@pytest.mark.parametrize(
    ("count", "indexes"),
    [(10, [0, 2, 4, 6, 8]), (20, [0, 5, 10, 15, 19]), (100, [0, 25, 50, 75, 99]), (1, [0] * 5)],
)
def test_order_statistics(count: int, indexes: list[int]) -> None:
    shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(0)).float()
    statistics = norm_statistics(shuffled)
    assert statistics.order == [float(index) for index in indexes]
    assert statistics.median == indexes[2]


def test_threshold_is_doubled_while_early() -> None:
    state = {"model_norms": torch.zeros(100)}
    thresholds = {}
    for step in range(1, 201):
        assert gradient_scale(state, step, 3.0, 2.0, 100) == 1.0
        thresholds[step] = state.get("model_norm_threshold")
    assert thresholds[9] is None
    assert [thresholds[step] for step in (10, 20, 40, 99)] == [12.0] * 4
    assert [thresholds[step] for step in (100, 200)] == [6.0] * 2


def test_norm_above_the_threshold_is_scaled_and_counted() -> None:
    state = {"model_norms": torch.zeros(100), "model_norm_threshold": 8.0, "num_clipped": 0}
    assert gradient_scale(state, 11, 32.0, 2.0, 100) == pytest.approx(0.25)
    assert gradient_scale(state, 12, math.inf, 2.0, 100) == 0.0
    assert gradient_scale(state, 13, 8.0, 2.0, 100) == 1.0
    assert state["num_clipped"] == 2
    assert state["model_norms"][11:14].tolist() == [32.0, math.inf, 8.0]


def test_median_that_is_not_finite_stops_training() -> None:
    with pytest.raises(NumericError, match="not finite"):
        norm_statistics(torch.tensor([1.0, math.inf, math.inf, math.inf]))


def test_messages_survive_parameters_without_gradients_and_infinities() -> None:
    grads = [torch.zeros(2, 3), torch.tensor([1.0, -5.0]), torch.tensor([math.inf, 1.0])]
    norms = [float(grad.norm()) for grad in grads]
    second = [torch.zeros(2, 3), torch.full((2,), 0.25), torch.ones(2)]
    sizes = GradientSizes(["unused", "bias", "broken"], grads, [0.1, 2.0, 1.0], norms, second)
    assert "broken" in dominant_parameter(sizes)
    text = unusual_parameters(sizes)
    assert text.index("broken") < text.index("bias") < text.index("unused")
    finite = GradientSizes(*(values[:2] for values in sizes))
    assert "bias with proportion 1.00" in dominant_parameter(finite)
    assert f"bias: ratio {math.sqrt(13 / 0.25):.3e}, largest at (1,)" in unusual_parameters(finite)
