"""Two linear layers on each frame."""

from __future__ import annotations

from torch import Tensor, nn

from zipasr.nn.linear import scaled_linear
from zipasr.zipformer1.activation import DoubleSwish
from zipasr.zipformer1.balancer import ActivationBalancer


class FeedforwardModule(nn.Module):
    """Linear layer, DoubleSwish, dropout, linear layer.

    Args:
        num_channels: C of input and output.
        hidden_channels: channels in between.
        dropout: rate in training.
    """

    def __init__(self, num_channels: int, hidden_channels: int, dropout: float) -> None:
        super().__init__()
        self.in_proj = nn.Linear(num_channels, hidden_channels)
        self.balancer = ActivationBalancer(channel_dim=-1, max_abs=10.0, min_prob=0.25)
        self.activation = DoubleSwish()
        self.dropout = nn.Dropout(dropout)
        self.out_proj = scaled_linear(hidden_channels, num_channels, initial_scale=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each frame of (T, N, C) on its own."""
        hidden = self.dropout(self.activation(self.balancer(self.in_proj(x))))
        result: Tensor = self.out_proj(hidden)
        return result
