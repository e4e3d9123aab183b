import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.losses.oracle import Batch
from zipasr.losses.recursion import band_recursion, full_recursion

SIZES = st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(0, 5))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), sizes=SIZES, regular=st.booleans())
def test_occupations_sum_to_one(seed: int, sizes: tuple[int, int, int], regular: bool) -> None:
    batch = Batch(seed, sizes, rnnt_type="regular" if regular else "modified")
    px, py = batch.arcs(regular)
    s_lens, t_lens = batch.boundary[:, 2], batch.boundary[:, 3]
    if regular:
        closed = torch.arange(px.shape[2]) >= t_lens[:, None, None]
        px = px.masked_fill(closed, -torch.inf)
    _, px_grad, py_grad = full_recursion(px, py, s_lens, t_lens)
    in_frames = (torch.arange(batch.t) < t_lens[:, None]).double()
    in_labels = (torch.arange(batch.s) < s_lens[:, None]).double()
    per_frame = py_grad.sum(1) if regular else py_grad.sum(1) + px_grad.sum(1)
    torch.testing.assert_close(per_frame, in_frames)
    torch.testing.assert_close(px_grad.sum(2), in_labels)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), sizes=SIZES, regular=st.booleans())
def test_band_of_full_width_is_the_full_lattice(
    seed: int, sizes: tuple[int, int, int], regular: bool
) -> None:
    batch = Batch(seed, sizes, rnnt_type="regular" if regular else "modified")
    px, py = batch.arcs(regular)
    s_lens, t_lens = batch.boundary[:, 2], batch.boundary[:, 3]
    if regular:
        px = px.masked_fill(torch.arange(px.shape[2]) >= t_lens[:, None, None], -torch.inf)
    full = full_recursion(px, py, s_lens, t_lens)
    lanes = torch.nn.functional.pad(px[:, :, : batch.t], (0, 0, 0, 1)).transpose(1, 2)
    starts = torch.zeros(batch.n, batch.t, dtype=torch.int64)
    band = band_recursion(lanes, py.transpose(1, 2), starts, s_lens, t_lens, batch.s, regular)
    torch.testing.assert_close(band.score, full.score)
    px_grad = band.px_grad[:, :, :-1].transpose(1, 2)
    torch.testing.assert_close(px_grad, full.px_grad[:, :, : batch.t])
    torch.testing.assert_close(band.py_grad.transpose(1, 2), full.py_grad)


@pytest.mark.parametrize("regular", [True, False])
def test_float32_stays_accurate_on_long_lattices(regular: bool) -> None:
    batch = Batch(1, (2, 400, 60))
    px, py = batch.arcs(regular)
    px, py = px - 3, py - 3
    lens = torch.tensor([60, 60]), torch.tensor([400, 400])
    exact = full_recursion(px, py, *lens)
    rounded = full_recursion(px.float(), py.float(), *lens)
    torch.testing.assert_close(rounded.score.double(), exact.score, rtol=2e-6, atol=0)
    torch.testing.assert_close(rounded.px_grad.double(), exact.px_grad, rtol=0, atol=1e-4)
    per_frame = (
        rounded.py_grad.sum(1) if regular else (rounded.py_grad.sum(1) + rounded.px_grad.sum(1))
    )
    torch.testing.assert_close(per_frame, torch.ones(2, 400), rtol=0, atol=1e-5)


def test_nan_stays_visible() -> None:
    px, py = Batch().arcs(regular=True)
    py[0, 0, 0] = torch.nan
    score, _, py_grad = full_recursion(px, py, torch.tensor([4] * 3), torch.tensor([6] * 3))
    assert score.isnan().tolist() == [True, False, False]
    assert py_grad[0].isnan().any()
    assert not py_grad[1:].isnan().any()


def test_junk_ranges_in_the_padding_do_not_matter() -> None:
    batch = Batch(3)
    px, py = batch.randn(3, 6, 2), batch.randn(3, 6, 2)
    lens = torch.tensor([2, 2, 2]), torch.tensor([3, 3, 3])
    starts = torch.tensor([[0, 0, 1, 1, 1, 1]] * 3)
    expected = band_recursion(px, py, starts, *lens, 4, regular=True)
    starts[:, 3:] = torch.tensor([[0, 3, 0], [3, 0, 1], [0, 0, 0]])
    for value, reference in zip(
        band_recursion(px, py, starts, *lens, 4, regular=True), expected, strict=True
    ):
        assert torch.equal(value, reference)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("regular", [True, False])
def test_cuda_equals_cpu(regular: bool) -> None:
    batch = Batch(5, (3, 9, 5), rnnt_type="regular" if regular else "modified")
    px, py = batch.arcs(regular)
    lens = batch.boundary[:, 2], batch.boundary[:, 3]
    on_cpu = full_recursion(px, py, *lens)
    on_gpu = full_recursion(px.cuda(), py.cuda(), *(x.cuda() for x in lens))
    for cpu, gpu in zip(on_cpu, on_gpu, strict=True):
        torch.testing.assert_close(gpu.cpu(), cpu)
