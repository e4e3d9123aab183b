"""Attention between two gates: all channels share the weights of one head."""

from __future__ import annotations

from torch import Tensor, nn

from zipasr.encoder.relative_attention import AttentionWeights
from zipasr.nn.balancer import Balancer
from zipasr.nn.cache import Cache
from zipasr.nn.linear import scaled_linear
from zipasr.nn.schedule import ScheduledFloat
from zipasr.nn.whiten import Whiten


def _whiten(final_limit: float) -> Whiten:
    return Whiten(
        num_groups=1,
        whitening_limit=ScheduledFloat((0.0, 5.0), (20000.0, final_limit), default=5.0),
        prob=(0.025, 0.25),
        grad_scale=0.01,
    )


class NonlinAttention(nn.Module):
    """Gate, mix frames, gate again.

    Args:
        num_channels: C of input and output.
        hidden_channels: channels that are mixed.
    """

    def __init__(self, num_channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(num_channels, 3 * hidden_channels)
        self.balancer = Balancer(
            hidden_channels,
            channel_dim=-1,
            min_positive=ScheduledFloat((0.0, 0.25), (20000.0, 0.05)),
            max_positive=ScheduledFloat((0.0, 0.75), (20000.0, 0.95)),
            min_abs=0.5,
            max_abs=5.0,
        )
        self.whiten1 = _whiten(final_limit=10.0)
        self.whiten2 = _whiten(final_limit=15.0)
        self.out_proj = scaled_linear(hidden_channels, num_channels, initial_scale=0.05)

    def forward(self, x: Tensor, weights: AttentionWeights, memory: Cache | None = None) -> Tensor:
        """Mix frames with the weights of one head.

        Args:
            x: (T', N, C).
            weights: (N, H, T', S), of which the first head is used.
            memory: gated values of the S - T' frames before ``x``.

        Returns:
            (T', N, C).
        """
        gate, value, late_gate = self.in_proj(x).chunk(3, dim=-1)
        value = self.whiten1(value) * self.balancer(gate).tanh()
        if memory is not None:
            value = memory.extend(value)
        mixed = weights.mix(value.transpose(0, 1).unsqueeze(1)).squeeze(1).transpose(0, 1)
        # The time-first factor stands first: it gives the product its memory layout.
        result: Tensor = self.whiten2(self.out_proj(late_gate * mixed))
        return result
