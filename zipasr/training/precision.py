"""Mixed precision: number format, autocast, gradient scale."""

from __future__ import annotations

import logging

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from zipasr.base.errors import NumericError, UserError
from zipasr.nn.numerics import can_use_bf16, has_bfloat16
from zipasr.training.config import LmTrainConfig, TrainConfig

logger = logging.getLogger(__name__)

ADVICE = "lower --base-lr in steps of 0.005 down to 0.02, or train with --use-bf16 1."
SMALL_SCALE = 0.01
SMALLEST_SCALE = 1e-5


class Precision:
    """Autocast and gradient scale of a run.

    The scaler works for float16 alone: bfloat16 has the range of float32. Its thresholds are the
    recipe's: below 0.01 a warning, below 1e-5 the end, doubled by hand while it is small.

    Args:
        config: --use-fp16, --use-bf16.
        device: where the model is.

    Attributes:
        is_scale_small: the last update left the gradient scale below 0.01.

    Raises:
        UserError: --use-fp16 without a GPU.
    """

    def __init__(self, config: TrainConfig | LmTrainConfig, device: torch.device) -> None:
        self.device = device
        self.dtype = choose_dtype(config, device)
        self.scaler = GradScaler(device.type, init_scale=1.0, enabled=self.dtype == torch.float16)
        self.is_scale_small = False

    def autocast(self) -> torch.autocast:
        """Return a new region in which matrix products run in the chosen type."""
        enabled = self.dtype != torch.float32
        return torch.autocast(self.device.type, self.dtype if enabled else None, enabled=enabled)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss``, scaled."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def measure(self, optimizer: torch.optim.Optimizer) -> None:
        """Let an optimizer that can measure the gradients before its step; it waits for a device.

        In float16 it cannot: they are still scaled.
        """
        measure = getattr(optimizer, "measure", None)
        if measure is not None and not self.scaler.is_enabled():
            measure()

    def step(self, optimizer: torch.optim.Optimizer, batch_in_epoch: int) -> None:
        """Update the parameters unless a scaled gradient overflowed; keep the scale in order.

        Args:
            optimizer: holds the scaled gradients.
            batch_in_epoch: index from 0 of the batch that they come from.

        Raises:
            NumericError: the scale fell below 1e-5.
        """
        self.scaler.step(optimizer)
        self.scaler.update()
        if self.scaler.is_enabled():
            self._adjust_scale(batch_in_epoch)

    def _adjust_scale(self, batch_in_epoch: int) -> None:
        # To look at it after each batch costs little: the scaler has just waited for the device.
        scale = self.scaler.get_scale()
        self.is_scale_small = scale < SMALL_SCALE
        if scale < SMALLEST_SCALE:
            raise NumericError(f"the gradient scale fell to {scale:.1e}.", ADVICE)
        if self.is_scale_small:
            logger.warning("the gradient scale is small: %.1e; %s", scale, ADVICE)
        if doubles_scale(scale, batch_in_epoch):
            self.scaler.update(scale * 2.0)


def doubles_scale(scale: float, batch_in_epoch: int) -> bool:
    """Say whether the scale is doubled by hand at this batch (training recipe, section 7)."""
    limits = ((25, 2.0), (100, 8.0), (400, 32.0))
    return any(batch_in_epoch % every == 0 and scale < limit for every, limit in limits)


def choose_dtype(config: TrainConfig | LmTrainConfig, device: torch.device) -> torch.dtype:
    """Return the type of matrix products: what was asked for, where the device has it.

    What was not asked for is bfloat16 on a GPU that has it, and float32 elsewhere. The sums over
    lattices are float32 in any case.
    """
    if config.use_fp16:
        if device.type != "cuda":
            raise UserError("--use-fp16 1 needs a GPU.", "--use-bf16 1 or leave both off.")
        return torch.float16
    use_bf16 = config.use_bf16
    if use_bf16 is None:
        use_bf16 = device.type == "cuda" and has_bfloat16(device)
        if use_bf16:
            logger.info("matrix products in bfloat16; --use-bf16 0 keeps float32")
    return torch.bfloat16 if can_use_bf16(use_bf16, device) else torch.float32
