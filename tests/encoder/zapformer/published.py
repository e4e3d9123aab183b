"""Tiny models with which numbers were recorded from the reference, and their inputs."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from zipasr.encoder.zapformer.config import ZapformerConfig
from zipasr.model.build import build_model
from zipasr.model.config import ModelConfig
from zipasr.model.transducer import AsrModel

Recorded = dict[str, np.ndarray]
Rule = Callable[[str, torch.Size], Tensor]

GOLDEN = Path(__file__).parents[2] / "golden" / "zapformer"
#: A second set, too large to be kept here.
MORE = Path(__file__).parents[4] / "shared" / "golden" / "zapformer" / "more"

needs_more = pytest.mark.skipif(
    not MORE.is_dir(), reason="the second set of recorded numbers is not beside the checkout"
)

TINY = ZapformerConfig(
    base_dim=8,
    embed_multiple=4,
    encoder_multiple=(3, 4, 5, 4),
    num_encoder_layers=(1, 2, 2, 1),
    downsampling_factor=(1, 2, 4, 2),
    feedforward_multiple=(2, 2, 3, 2),
    query_head_dim=(8,),
    value_head_dim=(6,),
    pos_head_dim=(4,),
    conv_params=(15, 15, 7, 15),
)
HEADS = ModelConfig(decoder_dim=40, joiner_dim=48, use_ctc=True)

OTHER = ZapformerConfig(
    base_dim=4,
    embed_multiple=6,
    encoder_multiple=(5, 8, 12, 8),
    num_encoder_layers=(2, 1, 2, 1),
    downsampling_factor=(1, 2, 4, 2),
    feedforward_multiple=(4, 4, 3, 4),
    num_heads=(2, 2, 4, 2),
    query_head_dim=(8,),
    value_head_dim=(6,),
    pos_head_dim=(4,),
    conv_params=(7, 7, 5, 7),
)
OTHER_HEADS = ModelConfig(decoder_dim=32, joiner_dim=36, use_ctc=True)


def causal(config: ZapformerConfig, chunk: int, left: int) -> ZapformerConfig:
    """Return the causal model with one chunk size and one left context."""
    return replace(config, causal=True, chunk_size=(chunk,), left_context_frames=(left,))


def normal(key: str, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """Return normal values that depend on the name alone."""
    generator = torch.Generator().manual_seed(zlib.crc32(key.encode("utf-8")))
    return torch.randn(shape, generator=generator, dtype=torch.float32)


def filled(key: str, shape: torch.Size) -> Tensor:
    """Return the value that the rule of the recorded numbers gives to a key."""
    n, last = normal(key, shape), key.rpartition(".")[2]
    if last == "residual_scales":
        value = 0.3 + 0.1 * n
        value[0] = -0.75 + 0.1 * n[0]
        return value
    scalars = {
        "input_scale": (1.0, 0.1),
        "scale": (0.4, 0.05),
        "eps": (0.1, 0.02),
        "offset": (0.1, 0.02),
        "ballast_rms": (0.3, 0.05),
        "ballast_frames": (0.05, 0.01),
    }
    if last in scalars:
        mean, std = scalars[last]
        return mean + std * n
    fan = 1.0 / math.sqrt(math.prod(shape[1:]))
    endings = {
        "weighted_mean.weights": 0.5,
        "rel_pos.weight": 0.1,
        "embedding.weight": 0.1,
    }
    later = {
        ".proj.weight": 0.3,
        "qkp_in_proj.weight": 4 * fan,
        "conv_module.in_proj.weight": 0.5 * fan,
    }
    for ending, factor in endings.items():
        if key.endswith(ending):
            return factor * n
    if len(shape) < 2:
        return 0.1 * n
    for ending, factor in later.items():
        if key.endswith(ending):
            return factor * n
    return (1.7 if key.startswith("encoder_embed.") else 1.0) * fan * n


def filled_other(key: str, shape: torch.Size) -> Tensor:
    """Return the value that the rule of the second set gives to a key."""
    n = normal(key, shape)
    fan = 1.0 / math.sqrt(math.prod(shape[1:]))
    if key.endswith("residual_scales"):
        value = 0.5 + 0.9 * n.tanh()
        value[0] = -value[0]
        return value
    rules = {
        "input_scale": lambda: 1.0 + 0.7 * n.tanh(),
        "norm.scale": lambda: 0.7 + 0.4 * n.tanh(),
        "norm.offset": lambda: 0.1 * n,
        "norm.eps": lambda: 0.1 * n,
        "ballast_rms": lambda: 0.3 + 0.1 * n,
        "ballast_frames": lambda: 0.05 * n,
        "rel_pos.weight": lambda: 0.2 * n,
        "weighted_mean.weights": lambda: 0.5 * n,
        ".proj.weight": lambda: 0.3 * n,
        "embedding.weight": lambda: 0.05 * n,
        "encoder_embed.out.bias": lambda: 4 * n,
    }
    later = {
        "qkp_in_proj.weight": 2.5,
        "vg_in_proj.weight": 2.0,
        "encoder_embed.out.weight": 4.0,
    }
    for ending, rule in rules.items():
        if key.endswith(ending):
            return rule()
    if len(shape) < 2:
        return 0.1 * n
    for ending, factor in later.items():
        if key.endswith(ending):
            return factor * fan * n
    return fan * n


def fill(module: nn.Module, rule: Rule = filled) -> None:
    """Give every tensor of ``module`` its value by a rule."""
    module.load_state_dict({key: rule(key, v.shape) for key, v in module.state_dict().items()})


def model_of(
    config: ZapformerConfig, heads: ModelConfig = HEADS, rule: Rule = filled, vocab_size: int = 23
) -> AsrModel:
    """Return a filled model in evaluation mode."""
    model = build_model(config, heads, vocab_size).eval()
    fill(model, rule)
    return model


def features(num: int, frames: int, seed: int, lens: list[int], silence: float = -2.0) -> Tensor:
    """Return (num, frames, 80) normal numbers, ``silence`` beyond the lengths."""
    x = torch.randn(num, frames, 80, generator=torch.Generator().manual_seed(seed))
    for row, length in zip(x, lens, strict=True):
        row[length:] = silence
    return x


def close(actual: Tensor, expected: np.ndarray, atol: float = 1e-4) -> None:
    """Compare; the sizes, too."""
    torch.testing.assert_close(actual.detach(), torch.from_numpy(expected), rtol=0, atol=atol)


def load(path: Path) -> Recorded:
    """Return the arrays of a file."""
    return dict(np.load(path))
