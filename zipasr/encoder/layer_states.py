"""A layer's memory as six tensors, in the layout that published streaming models use.

================ ================= ==================================================
name             shape             content
================ ================= ==================================================
cached_key       (L, N, H D)       keys, before they are split into heads
cached_nonlin    (1, N, L, C_h)    gated values of the non-linear attention
cached_val1      (L, N, H V)       values of the first self-attention
cached_val2      (L, N, H V)       values of the second one
cached_conv1     (N, C, K // 2)    gated frames before the first convolution
cached_conv2     (N, C, K // 2)    gated frames before the second one
================ ================= ==================================================

L is the left context at the frame rate of the layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zipasr.encoder.layer import LayerMemory, Zipformer2EncoderLayer
from zipasr.nn.cache import Cache

#: Tensors per layer.
NUM_STATES = 6

#: The dimension of each tensor along which streams stand side by side.
BATCH_DIMS = (1, 1, 1, 1, 0, 0)


def initial_states(
    layer: nn.Module, left_frames: int, batch_size: int, device: torch.device | str
) -> list[Tensor]:
    """Return the memory of a layer at the beginning of a stream: zeros.

    Args:
        layer: a ``Zipformer2EncoderLayer`` of a causal model.
        left_frames: L.
        batch_size: N.
        device: of the tensors.
    """
    assert isinstance(layer, Zipformer2EncoderLayer)
    weights, attention = layer.self_attn_weights, layer.self_attn1
    channels = layer.bypass_scale.numel()
    convolved = layer.conv_module1.depthwise_conv.kernel_size
    past = (convolved if isinstance(convolved, int) else convolved[0]) // 2
    value_dim = attention.in_proj.out_features
    shapes = (
        (left_frames, batch_size, weights.num_heads * weights.query_head_dim),
        (1, batch_size, left_frames, layer.nonlin_attention.out_proj.in_features),
        (left_frames, batch_size, value_dim),
        (left_frames, batch_size, value_dim),
        (batch_size, channels, past),
        (batch_size, channels, past),
    )
    return [torch.zeros(shape, device=device) for shape in shapes]


def to_memory(states: Sequence[Tensor]) -> LayerMemory:
    """Read the six tensors of a layer; they are left as they are."""
    key, nonlin, value1, value2, conv1, conv2 = states
    return LayerMemory(
        Cache(key),
        Cache(nonlin.squeeze(0).transpose(0, 1)),
        Cache(value1),
        Cache(value2),
        Cache(conv1.permute(2, 0, 1)),
        Cache(conv2.permute(2, 0, 1)),
    )


def from_memory(memory: LayerMemory) -> list[Tensor]:
    """Return the six tensors of a layer."""
    return [
        memory.key.frames,
        memory.nonlin.frames.transpose(0, 1).unsqueeze(0),
        memory.value1.frames,
        memory.value2.frames,
        memory.conv1.frames.permute(1, 2, 0),
        memory.conv2.frames.permute(1, 2, 0),
    ]
