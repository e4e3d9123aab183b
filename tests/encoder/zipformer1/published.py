"""The tiny model with which numbers were recorded from the reference, and its input."""

from __future__ import annotations

import math
import zlib
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from zipasr.encoder.zipformer1.config import Zipformer1Config

GOLDEN = Path(__file__).parents[2] / "golden" / "zipformer1"

TINY = Zipformer1Config(
    num_encoder_layers=(2, 1, 1, 1, 2),
    feedforward_dims=(32, 40, 48, 32, 40),
    nhead=(2, 4, 2, 4, 2),
    encoder_dims=(24, 24, 32, 32, 40),
    attention_dims=(16, 16, 24, 24, 16),
    encoder_unmasked_dims=(16, 16, 16, 16, 16),
    cnn_module_kernels=(7, 7, 5, 3, 9),
)

TINY_CAUSAL = replace(TINY, causal=True, num_left_chunks=2)

LENS = (150, 97)


def seeded(name: str, *shape: int, scale: float = 1.0) -> Tensor:
    """Return normal values that depend on the name alone."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode("utf-8")))
    return scale * torch.randn(shape, generator=generator, dtype=torch.float32)


def features() -> Tensor:
    """Return (2, 150, 80); what pads the second utterance is not silence, on purpose."""
    return seeded("features", 2, 150, 80)


def filled(key: str, shape: torch.Size) -> Tensor:
    """Return the value that the rule of the recorded numbers gives to a parameter."""
    normal, last = seeded(key, *shape), key.rpartition(".")[2]
    if last == "bias":
        return 0.1 * normal
    if len(shape) >= 2:
        return normal / math.sqrt(math.prod(shape[1:]))
    return {
        "query": normal / math.sqrt(max(1, math.prod(shape))),
        "eps": math.log(0.25) + 0.1 * normal,
        "bypass_scale": 0.5 + 0.1 * normal,
        "weight1": 0.3 + 0.1 * normal,
    }[last]


@torch.no_grad()
def fill(module: nn.Module, prefix: str) -> None:
    """Give every parameter its value by the rule; ``prefix`` is where the module sits."""
    for key, parameter in module.named_parameters():
        parameter.copy_(filled(prefix + key, parameter.shape))
