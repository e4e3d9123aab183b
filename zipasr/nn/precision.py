"""Number formats of hand-written forward and backward passes."""

import logging

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Return ``x`` in float32, or as it is when it is more precise than that."""
    return x if x.dtype == torch.float64 else x.float()


def matmul_dtype(weight: Tensor) -> torch.dtype:
    """Return the type in which autocast would multiply by ``weight`` here and now.

    Inside a custom autograd function autocast does not reach the backward pass, so the
    function has to remember the answer of the forward pass.
    """
    device = weight.device.type
    if weight.dtype != torch.float64 and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return weight.dtype


def no_autocast(x: Tensor) -> torch.autocast:
    """Return a context in which operations on the device of ``x`` keep the types they are given."""
    return torch.autocast(x.device.type, enabled=False)


def can_use_bf16(asked_for: bool, device: torch.device) -> bool:
    """Say whether ``--use-bf16`` holds; warn where the device is slow at what was asked for."""
    if asked_for and not has_bfloat16(device):
        logging.warning(
            "--use-bf16 1: this device computes bfloat16 slowly; float32 is used instead."
        )
        return False
    return asked_for


def has_bfloat16(device: torch.device) -> bool:
    """Say whether the device multiplies bfloat16 matrices in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
