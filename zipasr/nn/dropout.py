"""Dropout whose rate follows a schedule, elementwise or shared along one dimension."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zipasr.nn.schedule import FloatLike


def dropout_mask(x: Tensor, p: float, shared_dim: int | None) -> Tensor:
    """Draw the factors of one dropout: 0 with probability ``p``, else 1 / (1 - p).

    Returns:
        A float32 (float64 for float64) tensor of the shape of ``x``, with size 1 at
        ``shared_dim`` if that is given.
    """
    shape = list(x.shape)
    if shared_dim is not None:
        shape[shared_dim] = 1
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    keep = torch.rand(shape, dtype=dtype, device=x.device) > p
    return keep.to(dtype).div_(1.0 - p)


class Dropout2(nn.Module):
    """Elementwise dropout at rate ``p``, which may be scheduled."""

    def __init__(self, p: FloatLike) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` with dropout while training, else ``x``; any shape."""
        return F.dropout(x, float(self.p), self.training)


class Dropout3(nn.Module):
    """Dropout at rate ``p``, which may be scheduled, with one mask for all of ``shared_dim``."""

    def __init__(self, p: FloatLike, shared_dim: int) -> None:
        super().__init__()
        self.p = p
        self.shared_dim = shared_dim

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` with dropout while training, else ``x``; any shape."""
        p = float(self.p)
        if not self.training or p == 0.0:
            return x
        return x * dropout_mask(x, p, self.shared_dim).to(x.dtype)
