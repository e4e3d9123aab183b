"""LoRA: low-rank adapters on linear layers, merged into plain weights afterwards.

A weight W becomes W + s B A with thin A and B, of which alone the gradients are kept. Whoever
reads the weight of the layer gets the sum, so that layers do not know that they are adapted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

# In the names of a state dict: the weight below the adapter, and the adapter.
_ORIGINAL = ".parametrizations.weight.original"
_ADAPTER = ".parametrizations.weight.0."


class LowRank(nn.Module):
    """``W + scale * B A``, computed in the precision of W. Keys: ``lora_a``, ``lora_b``, ``scale``.

    Args:
        weight: W, (out, in).
        rank: R, of the correction.
        scale: s.

    Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021.
    """

    scale: Tensor

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        self.lora_a = nn.Parameter(weight.new_zeros(rank, weight.size(1)))
        self.lora_b = nn.Parameter(weight.new_zeros(weight.size(0), rank))
        self.register_buffer("scale", weight.new_tensor(scale))

    def forward(self, weight: Tensor) -> Tensor:
        """Correct a weight (out, in)."""
        # Else autocast would round the product: the merged weight would be another one.
        with torch.autocast(weight.device.type, enabled=False):
            return _corrected(weight, self.lora_a, self.lora_b, self.scale)


def add_adapter(layer: nn.Module, rank: int, scale: float) -> None:
    """Give a layer an adapter that is zero; its weight needs no gradient any more."""
    weight = cast("nn.Parameter", layer.weight)
    adapter = LowRank(weight.detach(), rank, scale)
    parametrize.register_parametrization(layer, "weight", adapter)
    original(layer).requires_grad_(False)


def original(layer: nn.Module) -> Tensor:
    """Return the weight below the adapter of a layer."""
    found: Tensor = layer.parametrizations.weight.original  # type: ignore[union-attr, assignment]
    return found


def adapted_layers(model: nn.Module) -> Iterator[tuple[nn.Module, LowRank]]:
    """Yield the layers of a model that have adapters, with these."""
    for layer in model.modules():
        if parametrize.is_parametrized(layer, "weight"):
            adapter = layer.parametrizations.weight[0]  # type: ignore[union-attr, index]
            if isinstance(adapter, LowRank):
                yield layer, adapter


@torch.no_grad()
def draw_adapters(model: nn.Module) -> None:
    """Draw the adapters at random and take them off the weights below: the sum stays as it is.

    The usual start, B = 0, does not do here: ScaledAdam's steps are in proportion to the size of
    a parameter, and nothing grows slowly. So the product is as large as ``scale`` times the weight.
    """
    for layer, adapter in adapted_layers(model):
        below = original(layer)
        rms = below.square().mean().sqrt()
        std = (rms / math.sqrt(len(adapter.lora_a))).sqrt()
        adapter.lora_a.normal_().mul_(std)
        adapter.lora_b.normal_().mul_(std)
        below.sub_(adapter.scale * (adapter.lora_b @ adapter.lora_a))


def is_adapter(name: str) -> bool:
    """Say whether a parameter of this name is of an adapter."""
    return _ADAPTER in name


def plain_name(name: str) -> str:
    """Return the name that a parameter has in a model without adapters."""
    return name.replace(_ORIGINAL, ".weight")


def without_adapters(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the same tensors, without adapters, under the names of a model that has none."""
    return {plain_name(name): tensor for name, tensor in state.items() if not is_adapter(name)}


def merged(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of the model without adapters that computes the same."""
    plain = without_adapters(state)
    for name, below in state.items():
        if name.endswith(_ORIGINAL):
            layer = name.removesuffix(_ORIGINAL)
            parts = (state[f"{layer}{_ADAPTER}{part}"] for part in ("lora_a", "lora_b", "scale"))
            plain[plain_name(name)] = _corrected(below, *parts)
    return plain


def _corrected(weight: Tensor, lora_a: Tensor, lora_b: Tensor, scale: Tensor) -> Tensor:
    return weight + scale * (lora_b @ lora_a)
