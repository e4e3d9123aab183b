"""Compiled loops, and whatever else a back end brings, against plain PyTorch in float64."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.losses.oracle import TYPES, Batch
from tests.losses.test_pruned import random_band
from zipasr.base.errors import UserError
from zipasr.kernels.availability import compiled_module
from zipasr.losses import (
    backend,
    do_rnnt_pruning,
    mutual_information_recursion,
    rnnt_loss_pruned,
    rnnt_loss_simple,
    rnnt_loss_smoothed,
    tanh_of_pruned_sums,
)
from zipasr.losses.backend import k2_losses

SIZES = st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(0, 18))
needs_numba = pytest.mark.skipif(
    compiled_module("zipasr.losses.numba_backend") is None, reason="needs numba"
)


def close(value: Tensor, exact: Tensor) -> None:
    """Equal within 1e-5 of the largest entry."""
    assert value.dtype in (torch.float32, torch.bfloat16)
    exact = exact.detach()
    finite = exact[exact.isfinite()].abs()
    size = float(finite.max()) if finite.numel() else 1.0
    torch.testing.assert_close(value.double(), exact, rtol=0, atol=1e-5 * max(size, 1.0))


@needs_numba
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), sizes=SIZES, rnnt_type=st.sampled_from(TYPES[:2]))
def test_recursion(seed: int, sizes: tuple[int, int, int], rnnt_type: str) -> None:
    batch = Batch(seed, sizes, rnnt_type=rnnt_type)
    px, py = batch.arcs(rnnt_type == "regular")
    px[torch.rand(px.shape, generator=batch.generator) < 0.1] = -torch.inf
    results = []
    for dtype, name in ((torch.float32, "numba"), (torch.float64, "torch")):
        x, y = px.to(dtype).requires_grad_(), py.to(dtype).requires_grad_()
        score, occupations = mutual_information_recursion(
            x, y, batch.boundary, return_grad=True, backend=name
        )
        finite = score.isfinite()
        grads = torch.autograd.grad(score[finite].sum(), (x, y)) if finite.any() else (px, py)
        results.append([score, *occupations, *(grads if finite.any() else occupations)])
    for value, exact in zip(*results, strict=True):
        close(value, exact)


@needs_numba
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    sizes=SIZES,
    rnnt_type=st.sampled_from(TYPES),
    scales=st.sampled_from([(0.0, 0.0), (0.25, 0.0), (0.1, 0.1)]),
    penalty=st.sampled_from([0.0, 0.1]),
)
def test_smoothed(
    seed: int,
    sizes: tuple[int, int, int],
    rnnt_type: str,
    scales: tuple[float, float],
    penalty: float,
) -> None:
    batch = Batch(seed, sizes, vocab=20, rnnt_type=rnnt_type)
    weights = batch.randn(batch.n)
    results = []
    for dtype, name in ((torch.float32, "numba"), (torch.float64, "torch")):
        lm, am = batch.lm.to(dtype).requires_grad_(), batch.am.to(dtype).requires_grad_()
        loss, occupations = rnnt_loss_smoothed(
            lm, am, batch.symbols, 3, *scales, batch.boundary, rnnt_type, penalty, "none",
            return_grad=True, backend=name,
        )  # fmt: skip
        grads = torch.autograd.grad((loss * weights.to(dtype)).sum(), (lm, am))
        results.append([loss, *occupations, *grads])
    for value, exact in zip(*results, strict=True):
        close(value, exact)


@needs_numba
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    sizes=SIZES,
    rnnt_type=st.sampled_from(TYPES),
    hat=st.booleans(),
    overwrite=st.booleans(),
)
def test_pruned(
    seed: int, sizes: tuple[int, int, int], rnnt_type: str, hat: bool, overwrite: bool
) -> None:
    sizes = (*sizes[:2], max(1, sizes[2]))
    batch = Batch(seed, sizes, vocab=20, rnnt_type=rnnt_type)
    ranges = random_band(batch, 4, rnnt_type)
    logits, weights = batch.randn(*ranges.shape, 20), batch.randn(batch.n)
    results = []
    for dtype, name in ((torch.float32, "numba"), (torch.float64, "torch")):
        z = logits.to(dtype, copy=True).requires_grad_()
        loss = rnnt_loss_pruned(
            z * 1, batch.symbols, ranges, 0, batch.boundary, rnnt_type, 0.1, "none", hat,
            overwrite_logits=overwrite, backend=name,
        )  # fmt: skip
        results.append([loss, *torch.autograd.grad((loss * weights.to(dtype)).sum(), z)])
    for value, exact in zip(*results, strict=True):
        close(value, exact)


@needs_numba
def test_long_peaky_lattices_stay_accurate() -> None:
    batch = Batch(7, (2, 300, 60), vocab=50)
    lm, am = 8 * batch.lm, 8 * batch.am
    exact = rnnt_loss_smoothed(
        lm, am, batch.symbols, 0, 0.25, 0.0, batch.boundary, return_grad=True, backend="torch"
    )
    fast = rnnt_loss_smoothed(
        lm.float(), am.float(), batch.symbols, 0, 0.25, 0.0, batch.boundary, return_grad=True
    )
    torch.testing.assert_close(fast[0].double(), exact[0], rtol=1e-5, atol=0)
    frames = torch.arange(batch.t) < batch.boundary[:, 3:]
    torch.testing.assert_close(fast[1][1].sum(1), frames.float(), rtol=0, atol=1e-5)


@needs_numba
@pytest.mark.parametrize("threads", [1, 3])
def test_number_of_threads_changes_no_bit(threads: int) -> None:
    batch = Batch(8, (5, 30, 12), vocab=30)
    ranges = random_band(batch, 4, "regular")
    before, results = torch.get_num_threads(), []
    try:
        for count in (2, threads):
            torch.set_num_threads(count)
            lm, am = batch.lm.float().requires_grad_(), batch.am.float().requires_grad_()
            z = tanh_of_pruned_sums(am, lm, ranges)
            loss = rnnt_loss_pruned(z, batch.symbols, ranges, 0, batch.boundary)
            results.append([loss, *torch.autograd.grad(loss, (lm, am))])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@needs_numba
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tanh_of_pruned_sums(dtype: torch.dtype) -> None:
    batch = Batch(9, (3, 12, 6), vocab=40)
    ranges = random_band(batch, 3, "regular")
    results = []
    for name in ("numba", "torch"):
        am = (batch.am * 0.7).to(dtype).requires_grad_()
        lm = (batch.lm * torch.tensor([1e-3, 1.0] * 20)).to(dtype).requires_grad_()
        if name == "numba":
            out = tanh_of_pruned_sums(am, lm, ranges, "numba")
        else:
            out = sum(do_rnnt_pruning(am.double(), lm.double(), ranges)).tanh()
        weights = torch.arange(40.0) - 20
        results.append([out, *torch.autograd.grad((out * weights).sum(), (am, lm))])
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    for value, exact in zip(*results, strict=True):
        size = float(exact.detach().abs().max())
        torch.testing.assert_close(value.double(), exact.double(), rtol=0, atol=tolerance * size)


@needs_numba
def test_bfloat16_logits_are_read_as_they_are() -> None:
    batch = Batch(10, (2, 9, 5), vocab=16)
    ranges = random_band(batch, 3, "regular")
    half = batch.randn(*ranges.shape, 16).bfloat16().requires_grad_()
    single = half.detach().float().requires_grad_()
    for z in (half, single):
        rnnt_loss_pruned(z, batch.symbols, ranges, 0, batch.boundary, backend="numba").backward()
    assert torch.equal(half.grad, single.grad.bfloat16())


@pytest.mark.parametrize("name", ["auto", "torch"])
def test_overwritten_logits_are_not_used_again(name: Any) -> None:
    batch = Batch(11)
    ranges = random_band(batch, 2, "regular")
    logits = batch.randn(*ranges.shape, 5).float().requires_grad_()
    z = logits * 1
    loss = rnnt_loss_pruned(
        z, batch.symbols, ranges, 0, batch.boundary, overwrite_logits=True, backend=name
    )
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@needs_numba
def test_nan_stays_in_its_utterance() -> None:
    batch = Batch(12)
    batch.boundary[:] = torch.tensor([0, 0, 4, 6])
    am = batch.am.float()
    am[1, 2, 1] = torch.nan
    loss, (_, py_grad) = rnnt_loss_simple(
        batch.lm.float(), am, batch.symbols, 0, batch.boundary, reduction="none", return_grad=True
    )
    assert loss.isnan().tolist() == [False, True, False]
    assert py_grad[1].isnan().any()
    assert not py_grad[[0, 2]].isnan().any()


def test_without_numba_pytorch_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "compiled_module", lambda _: None)
    x = torch.zeros(1)
    assert backend.kernels_for("auto", x).name == "torch"
    with pytest.raises(UserError, match="numba is not installed"):
        backend.kernels_for("numba", x)


def test_unusable_backends_are_refused_in_one_sentence() -> None:
    with pytest.raises(UserError, match="Triton needs a CUDA device, not cpu"):
        backend.kernels_for("triton", torch.zeros(1))
    with pytest.raises(ValueError, match="must be one of"):
        backend.kernels_for("fortran", torch.zeros(1))  # type: ignore[arg-type]


@pytest.fixture
def fresh_k2() -> Any:
    k2_losses.cache_clear()
    yield
    k2_losses.cache_clear()


@pytest.mark.usefixtures("fresh_k2")
def test_a_working_k2_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def recorded(name: str, function: Any) -> Any:
        def call(**kwargs: Any) -> Any:
            calls.append(name)
            return function(**kwargs)

        return call

    functions = {f.__name__: f for f in (rnnt_loss_simple, rnnt_loss_smoothed, rnnt_loss_pruned)}
    fake = SimpleNamespace(**{n: recorded(n, f) for n, f in functions.items()})
    monkeypatch.setitem(sys.modules, "k2", fake)
    batch = Batch(13)
    ranges = random_band(batch, 2, "regular")
    logits = batch.randn(*ranges.shape, 5)
    rnnt_loss_pruned(logits, batch.symbols, ranges, 0, batch.boundary, backend="k2")
    rnnt_loss_smoothed(batch.lm, batch.am, batch.symbols, 0, boundary=batch.boundary, backend="k2")
    assert calls == ["rnnt_loss_simple", "rnnt_loss_pruned", "rnnt_loss_smoothed"]


@pytest.mark.usefixtures("fresh_k2")
@pytest.mark.parametrize("kind", ["absent", "broken", "wrong"])
def test_a_useless_k2_gives_one_sentence(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: Any) -> Tensor:
        raise OSError("first line\nlibk2.so: undefined symbol")

    useless = {
        "absent": None,
        "broken": SimpleNamespace(rnnt_loss_simple=broken),
        "wrong": SimpleNamespace(rnnt_loss_simple=lambda **_: torch.tensor(0.0)),
    }
    monkeypatch.setitem(sys.modules, "k2", useless[kind])
    with pytest.raises(UserError, match="--rnnt-backend k2: k2") as raised:
        rnnt_loss_simple(
            torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), torch.tensor([[1]]), 0, backend="k2"
        )
    assert "\n" not in str(raised.value)
