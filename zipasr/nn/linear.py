"""Linear and convolution layers whose initial weights are scaled down (or up)."""

from typing import TypeVar

import torch
from torch import nn

_Layer = TypeVar("_Layer", nn.Linear, nn.Conv1d, nn.Conv2d)


def _scale_initial(layer: _Layer, scale: float) -> _Layer:
    """Multiply the weight by ``scale`` and draw the bias anew from U(-0.1 scale, 0.1 scale)."""
    with torch.no_grad():
        layer.weight.mul_(scale)
        if layer.bias is not None:
            layer.bias.uniform_(-0.1 * scale, 0.1 * scale)
    return layer


def scaled_linear(
    in_channels: int, out_channels: int, bias: bool = True, initial_scale: float = 1.0
) -> nn.Linear:
    """Return a linear layer with weights of torch's default times ``initial_scale``.

    A small scale makes a branch nearly silent at first. The bias is uniform in plus or
    minus 0.1 times ``initial_scale``.
    """
    return _scale_initial(nn.Linear(in_channels, out_channels, bias=bias), initial_scale)


def scaled_conv1d(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    bias: bool = True,
    initial_scale: float = 1.0,
) -> nn.Conv1d:
    """Return a 1-d convolution with weights and bias scaled as in ``scaled_linear``."""
    layer = nn.Conv1d(
        in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=bias
    )
    return _scale_initial(layer, initial_scale)


def scaled_conv2d(
    in_channels: int,
    out_channels: int,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    groups: int = 1,
    bias: bool = True,
    initial_scale: float = 1.0,
) -> nn.Conv2d:
    """Return a 2-d convolution with weights and bias scaled as in ``scaled_linear``."""
    layer = nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=bias
    )
    return _scale_initial(layer, initial_scale)
