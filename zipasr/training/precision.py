"""Mixed precision: which type, which regions, and the rules of the gradient scale."""

from __future__ import annotations

import logging

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from zipasr.base.errors import NumericError, UserError
from zipasr.nn.precision import can_use_bf16
from zipasr.training.config import TrainConfig

ADVICE = "lower --base-lr in steps of 0.005 down to 0.02, or train with --use-bf16 1."


class Precision:
    """Autocast and gradient scale of a run.

    The scaler works for float16 alone: bfloat16 has the range of float32. Its thresholds are the
    recipe's: below 0.01 a warning, below 1e-5 the end, doubled by hand while it is small.

    Args:
        config: --use-fp16, --use-bf16.
        device: where the model is.

    Raises:
        UserError: --use-fp16 without a GPU.
    """

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self.device = device
        self.dtype = choose_dtype(config, device)
        self.scaler = GradScaler(device.type, init_scale=1.0, enabled=self.dtype == torch.float16)

    def autocast(self) -> torch.autocast:
        """Return a new region in which matrix products run in the chosen type."""
        enabled = self.dtype != torch.float32
        return torch.autocast(self.device.type, self.dtype if enabled else None, enabled=enabled)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss``, scaled."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self, optimizer: torch.optim.Optimizer, batch_in_epoch: int) -> None:
        """Update the parameters unless a scaled gradient overflowed; keep the scale in order.

        Raises:
            NumericError: the scale fell below 1e-5.
        """
        self.scaler.step(optimizer)
        self.scaler.update()
        if self.scaler.is_enabled() and batch_in_epoch % 25 == 0:
            self._adjust_scale(batch_in_epoch)

    def _adjust_scale(self, batch_in_epoch: int) -> None:
        scale = self.scaler.get_scale()
        if scale < 1e-5:
            raise NumericError(f"the gradient scale fell to {scale:.1e}.", ADVICE)
        if scale < 0.01:
            logging.warning("the gradient scale is small: %.1e; %s", scale, ADVICE)
        if doubles(scale, batch_in_epoch):
            self.scaler.update(scale * 2.0)


def doubles(scale: float, batch_in_epoch: int) -> bool:
    """Say whether the scale is doubled by hand at this batch (training recipe, section 7)."""
    limits = ((25, 2.0), (100, 8.0), (400, 32.0))
    return any(batch_in_epoch % every == 0 and scale < limit for every, limit in limits)


def choose_dtype(config: TrainConfig, device: torch.device) -> torch.dtype:
    """Return the type of matrix products: what was asked for, where the device has it."""
    if config.use_fp16:
        if device.type != "cuda":
            raise UserError("--use-fp16 1 needs a GPU.", "--use-bf16 1 or leave both off.")
        return torch.float16
    return torch.bfloat16 if can_use_bf16(config.use_bf16, device) else torch.float32
