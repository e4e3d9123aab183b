import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.losses.oracle import Batch, Golden
from zipasr.losses import do_rnnt_pruning, get_rnnt_prune_ranges
from zipasr.losses.pruned import _feasible

SIZES = st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 8))


def test_golden_ranges() -> None:
    golden = Golden("ranges")
    for run in golden.info["runs"]:
        case = f"{run['case']}.{run['rnnt_type']}"
        inputs = [golden[f"{case}.{key}"] for key in ("px_grad", "py_grad", "boundary")]
        ranges = get_rnnt_prune_ranges(*inputs, run["s_range"])
        assert ranges.shape[2] == run["s_range_used"]
        assert torch.equal(ranges, golden[f"{case}.ranges.{run['s_range']}"])


@pytest.mark.parametrize("s_range", [2, 3, 5, 9])
def test_golden_adjustment(s_range: int) -> None:
    golden = Golden("ranges")
    starts = _feasible(golden["adjust.raw"], s_range - 1)
    assert torch.equal(starts, golden[f"adjust.{s_range}"])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), sizes=SIZES, regular=st.booleans(), s_range=st.integers(2, 6))
def test_ranges_hold_a_path(
    seed: int, sizes: tuple[int, int, int], regular: bool, s_range: int
) -> None:
    batch = Batch(seed, sizes, rnnt_type="regular" if regular else "modified")
    columns = batch.t + 1 if regular else batch.t
    px_grad = batch.randn(batch.n, batch.s, columns).abs()
    py_grad = batch.randn(batch.n, batch.s + 1, batch.t).abs()
    ranges = get_rnnt_prune_ranges(px_grad, py_grad, batch.boundary, s_range)
    width = ranges.shape[2]
    assert ranges.shape[:2] == (batch.n, batch.t)
    assert min(s_range, batch.s + 1) <= width <= batch.s + 1
    assert torch.equal(ranges, ranges[:, :, :1] + torch.arange(width))
    starts = ranges[:, :, 0]
    rises = starts[:, 1:] - starts[:, :-1]
    assert not starts[:, 0].any()
    assert ((rises >= 0) & (rises <= (width - 1 if regular else 1))).all()
    assert ranges.max() <= batch.s
    last = starts.gather(1, batch.boundary[:, 3:] - 1)[:, 0]
    assert torch.equal(last, (batch.boundary[:, 2] - width + 1).clamp(min=0))


def test_window_follows_the_mass() -> None:
    py_grad = torch.zeros(1, 7, 6)
    for frame, label in enumerate([0, 1, 2, 4, 5, 6]):
        py_grad[0, label, frame] = 1.0
    ranges = get_rnnt_prune_ranges(
        torch.zeros(1, 6, 7), py_grad, torch.tensor([[0, 0, 6, 6]]), s_range=3
    )
    for frame, label in enumerate([0, 1, 2, 4, 5, 6]):
        assert label in ranges[0, frame]


def test_width_limits() -> None:
    boundary = torch.tensor([[0, 0, 6, 2]])
    many = get_rnnt_prune_ranges(torch.rand(1, 6, 3), torch.rand(1, 7, 2), boundary, 2)
    assert many.shape[2] == 4  # six labels on two frames: three steps up on each
    boundary = torch.tensor([[0, 0, 2, 5]])
    few = get_rnnt_prune_ranges(torch.rand(1, 2, 5), torch.rand(1, 3, 5), boundary, 100)
    assert few.shape[2] == 3
    no_labels = get_rnnt_prune_ranges(
        torch.rand(1, 0, 6), torch.rand(1, 1, 5), torch.tensor([[0, 0, 0, 5]]), 5
    )
    assert not no_labels.any()


def test_refuses_bands_that_hold_no_path_and_shifted_boundaries() -> None:
    grads = torch.rand(1, 2, 5), torch.rand(1, 3, 5)
    with pytest.raises(ValueError, match="s_range is 0"):
        get_rnnt_prune_ranges(*grads, torch.tensor([[0, 0, 2, 5]]), 0)
    with pytest.raises(ValueError, match="columns 0 and 1"):
        get_rnnt_prune_ranges(*grads, torch.tensor([[0, 1, 2, 5]]), 2)


def test_do_rnnt_pruning_gathers_rows() -> None:
    batch = Batch(21)
    ranges = torch.tensor([[[0, 1], [1, 2], [1, 2], [2, 3], [3, 4], [3, 4]]] * 3)
    lm = batch.lm.requires_grad_()
    am_pruned, lm_pruned = do_rnnt_pruning(batch.am, lm, ranges)
    assert torch.equal(am_pruned, batch.am[:, :, None].expand(3, 6, 2, 5))
    expected = torch.stack([lm[n][ranges[n]] for n in range(3)])
    assert torch.equal(lm_pruned, expected)
    weights = batch.randn(3, 6, 2, 5)
    grad = torch.autograd.grad((lm_pruned * weights).sum(), lm)[0]
    torch.testing.assert_close(grad, torch.autograd.grad((expected * weights).sum(), lm)[0])
    with pytest.raises(ValueError, match="do not fit"):
        do_rnnt_pruning(batch.am[:, :-1], lm, ranges)
