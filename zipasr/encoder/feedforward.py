"""Two linear layers on each frame."""

from __future__ import annotations

from torch import Tensor, nn

from zipasr.nn.balancer import Balancer
from zipasr.nn.fused import ActivationDropoutAndLinear
from zipasr.nn.schedule import FloatLike, ScheduledFloat
from zipasr.nn.whiten import Whiten


class FeedforwardModule(nn.Module):
    """Linear layer, SwooshL, dropout shared over time, linear layer.

    Args:
        num_channels: C of input and output.
        hidden_channels: channels in between.
        dropout: rate in training.
    """

    def __init__(self, num_channels: int, hidden_channels: int, dropout: FloatLike) -> None:
        super().__init__()
        self.in_proj = nn.Linear(num_channels, hidden_channels)
        self.hidden_balancer = Balancer(
            hidden_channels,
            channel_dim=-1,
            min_positive=0.3,
            max_positive=1.0,
            min_abs=0.75,
            max_abs=5.0,
        )
        self.out_proj = ActivationDropoutAndLinear(
            hidden_channels,
            num_channels,
            activation="SwooshL",
            dropout_p=dropout,
            dropout_shared_dim=0,
            initial_scale=0.1,
        )
        self.out_whiten = Whiten(
            num_groups=1,
            whitening_limit=ScheduledFloat((0.0, 7.5), (20000.0, 15.0), default=7.5),
            prob=(0.025, 0.25),
            grad_scale=0.01,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Transform each frame on its own.

        Args:
            x: (T', N, C).

        Returns:
            (T', N, C).
        """
        result: Tensor = self.out_whiten(self.out_proj(self.hidden_balancer(self.in_proj(x))))
        return result
