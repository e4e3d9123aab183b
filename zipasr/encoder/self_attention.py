"""Take values from other frames, as the attention weights say."""

from __future__ import annotations

from torch import Tensor, nn

from zipasr.encoder.relative_attention import AttentionWeights
from zipasr.nn.cache import Cache
from zipasr.nn.linear import scaled_linear
from zipasr.nn.schedule import ScheduledFloat
from zipasr.nn.whiten import Whiten


class SelfAttention(nn.Module):
    """Linear layer, weighted sum over frames in each head, linear layer.

    Args:
        num_channels: C.
        num_heads: H.
        value_head_dim: channels of the values in each head.
    """

    def __init__(self, num_channels: int, num_heads: int, value_head_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj = nn.Linear(num_channels, num_heads * value_head_dim)
        self.out_proj = scaled_linear(num_heads * value_head_dim, num_channels, initial_scale=0.05)
        self.whiten = Whiten(
            num_groups=1,
            whitening_limit=ScheduledFloat((0.0, 7.5), (20000.0, 22.5), default=7.5),
            prob=(0.025, 0.25),
            grad_scale=0.01,
        )

    def forward(self, x: Tensor, weights: AttentionWeights, memory: Cache | None = None) -> Tensor:
        """Mix frames.

        Args:
            x: (T', N, C).
            weights: (N, H, T', S) from ``RelPositionMultiheadAttentionWeights``.
            memory: values of the S - T' frames before ``x``.

        Returns:
            (T', N, C).
        """
        values = self.in_proj(x) if memory is None else memory.extend(self.in_proj(x))
        values = values.view(*values.shape[:2], self.num_heads, -1).permute(1, 2, 0, 3)
        mixed = weights.mix(values).permute(2, 0, 1, 3).flatten(2)
        result: Tensor = self.whiten(self.out_proj(mixed))
        return result
