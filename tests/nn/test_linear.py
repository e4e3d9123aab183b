"""Initial values of the scaled layers."""

import pytest
import torch
from torch import nn

from zipasr.nn.layers import scaled_conv1d, scaled_conv2d, scaled_linear


@pytest.mark.parametrize(
    ("build", "plain"),
    [
        (lambda s: scaled_linear(30, 20, initial_scale=s), lambda: nn.Linear(30, 20)),
        (
            lambda s: scaled_conv1d(8, 20, 3, 1, 1, 2, initial_scale=s),
            lambda: nn.Conv1d(8, 20, 3, 1, 1, groups=2),
        ),
        (
            lambda s: scaled_conv2d(8, 20, 3, (1, 2), initial_scale=s),
            lambda: nn.Conv2d(8, 20, 3, (1, 2)),
        ),
    ],
)
def test_weight_is_the_default_times_the_scale(build, plain) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    layer = build(0.25)
    torch.manual_seed(0)
    reference = plain()
    torch.testing.assert_close(layer.weight, reference.weight * 0.25)
    assert 0.015 < layer.bias.abs().max().item() <= 0.025
    assert repr(layer) == repr(reference)
    x = torch.randn(2, *({nn.Linear: (30,), nn.Conv1d: (8, 9)}.get(type(layer), (8, 9, 9))))
    assert layer(x).shape == reference(x).shape


def test_bias_can_be_left_out() -> None:
    assert scaled_linear(3, 2, bias=False).bias is None
    assert scaled_conv1d(3, 2, 1, bias=False).bias is None
    assert scaled_conv2d(3, 2, 1, bias=False).bias is None
