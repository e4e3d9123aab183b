"""What all layers of the room have in common."""

import copy
import io

import pytest
import torch
from torch import nn

from zipasr.nn.activations import SwooshL, SwooshR
from zipasr.nn.balancer import Balancer
from zipasr.nn.bias_norm import BiasNorm
from zipasr.nn.fused import ActivationDropoutAndLinear
from zipasr.nn.gradients import ScaleGrad
from zipasr.nn.layers import scaled_conv1d, scaled_linear
from zipasr.nn.schedule import Dropout2, Dropout3, ScheduledFloat, set_batch_count
from zipasr.nn.whiten import Whiten


def build() -> nn.Sequential:
    return nn.Sequential(
        scaled_linear(8, 12, initial_scale=0.5),
        ScaleGrad(0.2),
        Balancer(12, -1, ScheduledFloat((0, 0.4), (10, 0.1)), prob=1.0),
        SwooshR(),
        Whiten(2, ScheduledFloat((0, 1.0), (10, 2.0), default=1.0), (0.025, 1.0), 0.01),
        Dropout2(ScheduledFloat((0, 0.3), (10, 0.1))),
        ActivationDropoutAndLinear(12, 8, "SwooshL", ScheduledFloat((0, 0.3), (10, 0.1)), 0),
        Dropout3(0.1, 0),
        BiasNorm(8),
        SwooshL(),
    )


def test_state_dict_has_parameters_only() -> None:
    expected = ["0.weight", "0.bias", "6.weight", "6.bias", "8.bias", "8.log_scale"]
    assert list(build().state_dict()) == expected


@pytest.mark.parametrize("autocast", [True, False])
def test_trains_in_float32_and_under_bfloat16_autocast(autocast: bool) -> None:
    torch.manual_seed(0)
    model = build()
    set_batch_count(model, 5)
    x = torch.randn(20, 3, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = model(x)
    y.square().sum().backward()
    assert y.dtype == torch.float32
    for tensor in (x, *model.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.dtype == torch.float32
        assert torch.isfinite(tensor.grad).all()
        assert tensor.grad.any()


def test_can_be_built_without_memory_and_filled_later() -> None:
    with torch.device("meta"):
        model = build()
        scaled_conv1d(4, 4, 3)
    assert all(p.is_meta for p in model.parameters())
    source = build().eval()
    model = model.to_empty(device="cpu").eval()
    model.load_state_dict(source.state_dict())
    x = torch.randn(5, 2, 8)
    assert torch.equal(model(x), source(x))


def test_copies_are_independent() -> None:
    model = build()
    clone = copy.deepcopy(model)
    set_batch_count(clone, 3)
    schedules = [m for m in model.modules() if isinstance(m, ScheduledFloat)]
    assert all(schedule.batch_count is None for schedule in schedules)
    assert len(schedules) == 4


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@torch.no_grad()
def test_can_be_traced_and_saved_without_gradients() -> None:
    model = build().eval()
    x = torch.randn(5, 2, 8)
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(model, x), file)
    file.seek(0)
    other = torch.randn(5, 2, 8)
    assert torch.equal(torch.jit.load(file)(other), model(other))


def test_forward_is_the_same_with_and_without_gradients() -> None:
    model = build().eval()
    x = torch.randn(5, 2, 8)
    with torch.no_grad():
        plain = model(x)
    assert torch.equal(model(x), plain)
