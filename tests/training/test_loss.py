from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from zipasr.data.dataset import Batch
from zipasr.encoder.protocol import Geometry
from zipasr.model.config import ModelConfig, TransducerConfig
from zipasr.model.transducer import AsrLosses
from zipasr.training.config import LossConfig
from zipasr.training.update import LossScales, compute_loss, loss_scales

PUBLISHED = LossConfig()
SETTINGS = TransducerConfig(), Geometry()
BOTH = ModelConfig(use_ctc=True)
CTC = ModelConfig(use_transducer=False, use_ctc=True)
CTC_AND_ATTENTION = ModelConfig(use_transducer=False, use_ctc=True, use_attention_decoder=True)


@pytest.mark.parametrize(
    ("batch", "simple", "pruned", "cr"),
    [
        (1, 0.99975, 0.10045, 0.0001),
        (1000, 0.75, 0.55, 0.1),
        (2000, 0.5, 1.0, 0.2),
        (50000, 0.5, 1.0, 0.2),
    ],
)
def test_scales_of_the_published_recipe(
    batch: int, simple: float, pruned: float, cr: float
) -> None:
    scales = loss_scales(PUBLISHED, BOTH, batch)
    assert scales == pytest.approx((simple, pruned, 0.2, 0.8, cr))


@pytest.mark.parametrize("batch", [1, 700, 5000])
def test_ctc_counts_in_full_when_it_is_alone_and_by_its_flag_otherwise(batch: int) -> None:
    config = LossConfig(ctc_loss_scale=0.1, attention_decoder_loss_scale=0.9)
    assert loss_scales(config, CTC, batch).ctc == 1.0
    assert loss_scales(config, CTC_AND_ATTENTION, batch).ctc == 0.1
    assert loss_scales(config, CTC_AND_ATTENTION, batch).attention_decoder == 0.9
    assert loss_scales(config, BOTH, batch).ctc == 0.1


def test_a_start_with_ctc_alone_delays_the_warm_up() -> None:
    config = LossConfig(ctc_only_batches=10, warm_step=100, ctc_loss_scale=1.0)
    assert loss_scales(config, BOTH, 10) == LossScales(ctc=1.0)
    later = LossConfig(warm_step=100, ctc_loss_scale=1.0)
    assert loss_scales(config, BOTH, 60) == loss_scales(later, BOTH, 50)


@pytest.mark.parametrize(("name", "value"), [("warm_step", 0), ("ctc_only_batches", -1)])
def test_impossible_settings_are_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} .* not {value}"):
        LossConfig(**{name: value})


@pytest.mark.parametrize("name", ["simple", "ctc", "attention_decoder", "cr"])
def test_a_negative_weight_is_refused(name: str) -> None:
    flag = f"--{name.replace('_', '-')}-loss-scale"
    with pytest.raises(ValueError, match=f"{flag} must not be negative"):
        LossConfig(**{f"{name}_loss_scale": -0.1})


class FixedLosses(nn.Module):
    """A model whose losses are known."""

    def __init__(self, losses: AsrLosses) -> None:
        super().__init__()
        self.losses = losses
        self.asked: dict[str, object] = {}

    def forward(self, *args: object, **asked: object) -> AsrLosses:
        self.asked = asked
        return self.losses


def a_batch() -> Batch:
    lens = torch.tensor([100, 42])
    return Batch(torch.zeros(2, 100, 80), lens, ["A", "B"], ["a", "b"], 1.42)


def weigh(losses: AsrLosses, scales: LossScales) -> tuple[Tensor, FixedLosses, dict[str, float]]:
    model = FixedLosses(losses)
    total, metrics = compute_loss(
        model, a_batch(), [[1], [2]], scales, TransducerConfig(), Geometry()
    )
    assert metrics.frames == 25 + 10
    return total, model, metrics.sums


def test_the_total_is_the_weighted_sum_and_the_parts_are_reported_unscaled() -> None:
    losses = AsrLosses(*(torch.tensor(value) for value in (10.0, 20.0, 40.0, 80.0, 160.0)))
    total, model, sums = weigh(losses, LossScales(0.5, 1.0, 0.25, 0.75, 0.125))
    assert float(total) == 5.0 + 20.0 + 10.0 + 60.0 + 20.0
    assert model.asked == {"ctc_only": False, "second_view": None, "corpus": ""}
    assert sums == {
        "loss": 115.0,
        "simple_loss": 10.0,
        "pruned_loss": 20.0,
        "ctc_loss": 40.0,
        "attn_decoder_loss": 80.0,
        "cr_loss": 160.0,
    }


def test_without_weight_the_transducer_is_not_computed() -> None:
    total, model, sums = weigh(AsrLosses(ctc=torch.tensor(40.0)), LossScales(ctc=1.0))
    assert float(total) == 40.0
    assert model.asked["ctc_only"] is True
    assert sums == {"loss": 40.0, "ctc_loss": 40.0}


def test_the_second_view_goes_to_the_model_and_frames_count_once() -> None:
    batch = dataclasses.replace(a_batch(), second_view=torch.ones(2, 100, 80))
    model = FixedLosses(AsrLosses(ctc=torch.tensor(1.0)))
    _, metrics = compute_loss(
        model, batch, [[1], [2]], LossScales(), TransducerConfig(), Geometry()
    )
    assert model.asked["second_view"] is batch.second_view
    assert metrics.frames == 25 + 10
