"""Rates, scales and shared masks of the dropouts."""

import pytest
import torch

from zipasr.nn.schedule import Dropout2, Dropout3, ScheduledFloat, dropout_mask, set_batch_count


@pytest.mark.parametrize(
    ("shared_dim", "shape"), [(0, (1, 40, 50)), (-1, (60, 40, 1)), (None, (60, 40, 50))]
)
def test_mask_has_its_rate_scale_and_shape(shared_dim: int | None, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    mask = dropout_mask(torch.empty(60, 40, 50), 0.2, shared_dim)
    assert mask.shape == shape
    assert set(mask.unique().tolist()) == {0.0, 1.25}
    assert abs((mask == 0).float().mean().item() - 0.2) < 0.03


def test_shared_mask_is_the_same_for_all_frames() -> None:
    torch.manual_seed(0)
    dropout = Dropout3(0.5, shared_dim=1)
    y = dropout(torch.ones(3, 20, 8))
    assert torch.equal(y, y[:, :1].expand_as(y))
    assert set(y.unique().tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("kind", [lambda p: Dropout2(p), lambda p: Dropout3(p, 0)])
def test_rate_follows_its_schedule(kind: type[Dropout2]) -> None:
    torch.manual_seed(0)
    dropout = kind(ScheduledFloat((0, 0.5), (10, 0.0)))
    x = torch.ones(1, 100, 100)
    assert torch.equal(dropout(x), x)
    for count, rate in ((0, 0.5), (5, 0.25), (10, 0.0)):
        set_batch_count(dropout, count)
        assert abs((dropout(x) == 0).float().mean().item() - rate) < 0.03
    set_batch_count(dropout, 0)
    assert torch.equal(dropout.eval()(x), x)


@pytest.mark.parametrize("dropout", [Dropout2(0.5), Dropout3(0.5, 0)])
def test_gradient_is_the_mask(dropout: torch.nn.Module) -> None:
    x = torch.randn(4, 5, dtype=torch.bfloat16, requires_grad=True)
    y = dropout(x)
    y.sum().backward()
    assert x.grad is not None
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, x.detach() * x.grad)
