"""The Triton kernels on the CPU, by Triton's interpreter; run by test_triton.py in its own process.

The interpreter takes some milliseconds per step of a lattice: the cases are few and small.
"""

import pytest
import torch
from torch import Tensor

from tests.losses.oracle import Batch
from zipasr.losses import recursion, triton_backend
from zipasr.losses.recursion import LatticeSums

pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered")  # -inf - -inf, masked
Lens = tuple[Tensor, Tensor]
INF = torch.inf


def assert_same(sums: LatticeSums, expected: LatticeSums, atol: float = 1e-5) -> None:
    torch.testing.assert_close(sums.score.double(), expected.score, rtol=1e-6, atol=1e-5)
    for name in ("px_grad", "py_grad"):
        result, reference = getattr(sums, name), getattr(expected, name)
        torch.testing.assert_close(result.double(), reference, rtol=0, atol=atol)
        assert not result[expected.score == -INF].any()


def check_full(px: Tensor, py: Tensor, s_lens: Tensor, t_lens: Tensor) -> LatticeSums:
    px, py = px.float(), py.float()
    sums = triton_backend.full_recursion(px, py, s_lens, t_lens)
    assert_same(sums, recursion.full_recursion(px.double(), py.double(), s_lens, t_lens))
    return sums


def check_band(
    arcs: tuple[Tensor, Tensor], starts: Tensor, lens: Lens, num_symbols: int, regular: bool
) -> LatticeSums:
    px, py = (x.float() for x in arcs)
    rest = (starts, *lens, num_symbols, regular)
    sums = triton_backend.band_recursion(px, py, *rest)
    assert_same(sums, recursion.band_recursion(px.double(), py.double(), *rest))
    return sums


@pytest.mark.parametrize("regular", [True, False])
@pytest.mark.parametrize("sizes", [(3, 6, 4), (2, 3, 6), (1, 1, 1), (2, 4, 0)])
def test_full_lattices(sizes: tuple[int, int, int], regular: bool) -> None:
    batch = Batch(1, sizes, rnnt_type="regular" if regular else "modified")
    px, py = batch.arcs(regular)
    if regular:
        px[:, :, -1] = 0.5  # open, if only the recursion is asked
    sums = check_full(px, py, batch.boundary[:, 2], batch.boundary[:, 3])
    assert bool(sums.score.isfinite().all())


@pytest.mark.parametrize("regular", [True, False])
def test_closed_arcs_and_lattices_without_a_path(regular: bool) -> None:
    batch = Batch(2, (4, 5, 3))
    px, py = batch.arcs(regular)
    px[0, 0, 2:], py[0, :2, 1] = -INF, -INF  # detours remain
    px[1, 1] = -INF  # no way to the last label
    py[2, 0, 0] = px[2, 0, 0] = -INF  # no way to start
    lens = torch.tensor([3, 3, 3, 0]), torch.tensor([5, 5, 5, 1])
    sums = check_full(px, py, *lens)
    assert (sums.score == -INF).tolist() == [False, True, True, False]


def test_closed_arcs_are_not_read_and_nan_stays_visible() -> None:
    px, py = (x.float() for x in Batch(3, (3, 5, 3)).arcs(regular=True))
    px[0, :, 3:], px[0, 2], py[0, :, 2:], py[0, 3] = (torch.nan,) * 4  # beyond (2, 2)
    py[1, 1, 1] = torch.nan
    lens = torch.tensor([2, 3, 3]), torch.tensor([2, 5, 5])
    score, px_grad, py_grad = triton_backend.full_recursion(px, py, *lens)
    assert score.isnan().tolist() == [False, True, False]
    assert py_grad.isnan().any(2).any(1).tolist() == [False, True, False]
    assert not px_grad[0].isnan().any()


def test_long_lattices_stay_accurate() -> None:
    px, py = Batch(1, (1, 200, 30)).arcs(regular=True)
    sums = check_full(px - 3, py - 3, torch.tensor([30]), torch.tensor([200]))
    torch.testing.assert_close(sums.py_grad.sum(1), torch.ones(1, 200), rtol=0, atol=1e-5)


@pytest.mark.parametrize("regular", [True, False])
@pytest.mark.parametrize(("seed", "width"), [(0, 3), (1, 2), (2, 5)])
def test_bands(regular: bool, seed: int, width: int) -> None:
    g = torch.Generator().manual_seed(seed)
    num_frames, num_symbols = 7, 4
    arcs = Batch(seed).randn(2, 3, num_frames, width).unbind()
    rises = torch.randint(0, (width if regular else 2), (3, num_frames), generator=g)
    rises[:, 0] = 0
    starts = rises.cumsum(1).clamp(max=num_symbols + 1 - width)
    starts[1, 4:] = torch.randint(num_symbols + 2 - width, (3,), generator=g)  # t_len is 4
    starts[2] = torch.tensor([0, 0, 0, 0, 0, 1, 2]).clamp(max=num_symbols + 1 - width)
    t_lens = torch.tensor([num_frames, 4, 1])
    s_lens = torch.stack([starts[n, t - 1] + width - 1 for n, t in enumerate(t_lens.tolist())])
    s_lens = torch.minimum(s_lens, t_lens) if not regular else s_lens
    check_band(arcs, starts, (s_lens, t_lens), num_symbols, regular)


@pytest.mark.parametrize("regular", [True, False])
def test_bands_without_a_path(regular: bool) -> None:
    arcs = Batch(4).randn(2, 4, 5, 2).unbind()
    starts = torch.tensor([[1, 1, 1, 2, 2], [0, 3, 3, 3, 3], [0, 0, 0, 0, 0], [0, 0, 1, 2, 2]])
    lens = torch.tensor([3, 4, 3, 3]), torch.tensor([5] * 4)
    sums = check_band(arcs, starts, lens, 4, regular)
    assert (sums.score == -INF).tolist() == [True, True, True, False]


def test_one_label_per_frame() -> None:
    arcs = Batch(5).randn(2, 2, 4, 1).unbind()
    starts = torch.tensor([[0, 1, 1, 2], [0, 0, 1, 1]])
    sums = check_band(arcs, starts, (torch.tensor([3, 1]), torch.tensor([4, 3])), 3, regular=False)
    assert bool(sums.score.isfinite().all())


def softmax_reference(
    logits: Tensor, targets: Tensor, gx: Tensor, gy: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Both arcs and the gradient, in float64; blank is 2."""
    logits = logits.double().requires_grad_()
    log_probs = logits.log_softmax(3)
    px, py = log_probs.gather(3, targets[..., None])[..., 0], log_probs[..., 2]
    (grad,) = torch.autograd.grad((px, py), logits, (gx.double(), gy.double()))
    return px.detach(), py.detach(), grad


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize(
    ("dtype", "vocab"),
    [(torch.float32, 3), (torch.float32, 5000), (torch.bfloat16, 130), (torch.float16, 130)],
)
def test_softmax_and_gradient(dtype: torch.dtype, vocab: int, in_place: bool) -> None:
    batch = Batch(6)
    logits = (10 * batch.randn(1, 2, 2, vocab)).to(dtype)
    logits[0, 0, 0, 1] = -INF
    targets = torch.tensor([[[0, 2], [vocab - 1, 0]]])
    gx, gy = batch.randn(2, 1, 2, 2).float().unbind()
    *arcs, expected = softmax_reference(logits, targets, gx, gy)
    gx[0, 1, 1] = gy[0, 1, 1] = expected[0, 1, 1] = 0.0
    lse, *results = triton_backend.softmax_arcs(logits, targets, 2)
    for result, arc in zip(results, arcs, strict=True):
        torch.testing.assert_close(result.double(), arc, rtol=1e-6, atol=1e-5)
    logits[0, 1, 1] = torch.nan  # not read where the gradient of both arcs is 0
    grad = triton_backend.softmax_arcs_grad(logits, lse, targets, 2, gx, gy, in_place)
    assert (grad.data_ptr() == logits.data_ptr()) == in_place
    assert grad.dtype == dtype
    rtol = max(1e-5, 2 * torch.finfo(dtype).eps)
    torch.testing.assert_close(grad.double(), expected, rtol=rtol, atol=1e-5)


def test_softmax_of_rows_that_have_none() -> None:
    logits = torch.randn(1, 1, 3, 4, generator=Batch().generator)
    logits[0, 0, 0, 3], logits[0, 0, 1] = torch.nan, -INF
    for values in triton_backend.softmax_arcs(logits, torch.zeros(1, 1, 3, dtype=torch.int64), 0):
        assert (values[0, 0].isfinite()).tolist() == [False, False, True]


def test_the_self_check_passes() -> None:
    with torch.no_grad():
        assert triton_backend.KERNELS.fault(torch.device("cpu")) is None


def test_the_self_check_tells_wrong_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_backend.KERNELS, "_faults", {})
    monkeypatch.setattr(triton_backend, "_lattice_errors", lambda device: [0.0, torch.nan, 0.1])
    assert "wrong" in str(triton_backend.KERNELS.fault(torch.device("cpu")))
