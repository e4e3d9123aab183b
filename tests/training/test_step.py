from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from zipasr.data.batch import Batch
from zipasr.model.transducer import TransducerConfig, TransducerLosses
from zipasr.training.step import LossConfig, LossScales, compute_loss, loss_scales

PUBLISHED = LossConfig()


@pytest.mark.parametrize(
    ("batch", "simple", "pruned"),
    [(1, 0.99975, 0.10045), (1000, 0.75, 0.55), (2000, 0.5, 1.0), (50000, 0.5, 1.0)],
)
def test_scales_of_the_published_recipe(batch: int, simple: float, pruned: float) -> None:
    scales = loss_scales(PUBLISHED, batch)
    assert scales == pytest.approx((simple, pruned, 0.2))


def test_a_start_with_ctc_alone_delays_the_warm_up() -> None:
    config = LossConfig(ctc_only_batches=10, warm_step=100, ctc_loss_scale=1.0)
    assert loss_scales(config, 10) == LossScales(0.0, 0.0, 1.0)
    assert loss_scales(config, 60) == loss_scales(LossConfig(warm_step=100, ctc_loss_scale=1.0), 50)


@pytest.mark.parametrize("values", [{"warm_step": 0}, {"ctc_only_batches": -1}])
def test_impossible_settings_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"--warm-step.*--ctc-only-batches"):
        LossConfig(**values)


class FixedLosses(nn.Module):
    """A model whose losses are known."""

    def __init__(self, losses: TransducerLosses) -> None:
        super().__init__()
        self.losses = losses
        self.with_transducer: bool | None = None

    def forward(self, *args: object, with_transducer: bool) -> TransducerLosses:
        self.with_transducer = with_transducer
        return self.losses


def a_batch() -> Batch:
    lens = torch.tensor([100, 42])
    return Batch(torch.zeros(2, 100, 80), lens, ["A", "B"], ["a", "b"], 1.42)


def weigh(
    losses: TransducerLosses, scales: LossScales
) -> tuple[Tensor, FixedLosses, dict[str, float]]:
    model = FixedLosses(losses)
    total, metrics = compute_loss(model, a_batch(), [[1], [2]], scales, TransducerConfig())
    assert metrics.frames == 25 + 10
    return total, model, metrics.sums


def test_the_total_is_the_weighted_sum_and_the_parts_are_reported_unscaled() -> None:
    losses = TransducerLosses(torch.tensor(10.0), torch.tensor(20.0), torch.tensor(40.0))
    total, model, sums = weigh(losses, LossScales(0.5, 1.0, 0.25))
    assert float(total) == 35.0
    assert model.with_transducer
    assert sums == {"loss": 35.0, "simple_loss": 10.0, "pruned_loss": 20.0, "ctc_loss": 40.0}


def test_without_weight_the_transducer_is_not_computed() -> None:
    losses = TransducerLosses(None, None, torch.tensor(40.0))
    total, model, sums = weigh(losses, LossScales(0.0, 0.0, 1.0))
    assert float(total) == 40.0
    assert model.with_transducer is False
    assert sums == {"loss": 40.0, "ctc_loss": 40.0}
