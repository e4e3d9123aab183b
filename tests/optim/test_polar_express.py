import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.optim import plain_rubik
from tests.optim.rubik_golden import META
from zipasr.optim.rubik_rules import COEFFICIENTS, Workspace, matrix_shape, orthogonalise

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12))


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("shape", "want"), META["matrix_shape"], ids=str)
def test_a_tensor_is_cut_once_as_square_as_can_be(shape: list[int], want: list[int]) -> None:
    assert matrix_shape(shape) == tuple(want)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_the_cut_is_what_a_search_finds(shape: list[int]) -> None:
    assert matrix_shape(shape) == plain_rubik.cut(tuple(shape))


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.integers(0, 99), st.floats(1e-3, 1e6))
def test_singular_values_become_nearly_one(
    shape: tuple[int, int, int], seed: int, size: float
) -> None:
    # Those that are a thousandth of the norm and more.
    count, rows, cols = shape
    u = torch.linalg.qr(random(count, rows, rows, seed=seed)).Q
    v = torch.linalg.qr(random(count, cols, cols, seed=seed + 1)).Q
    short = min(rows, cols)
    values = torch.logspace(0, -2, short, dtype=torch.float64)
    x = size * (u[:, :, :short] * values) @ v[:, :short]
    found = torch.linalg.svdvals(orthogonalise(x.clone()))
    assert 0.85 < found.min() <= found.max() < 1.15
    # The sides stay: what comes out is the same in the bases that went in.
    inside = u[:, :, :short].mT @ orthogonalise(x.clone()) @ v[:, :short].mT
    torch.testing.assert_close(
        inside, torch.diag_embed(inside.diagonal(dim1=1, dim2=2)), rtol=0, atol=1e-7
    )


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 2e-4), (torch.bfloat16, 0.25)]
)
@pytest.mark.parametrize("shape", [(1, 6, 4), (3, 5, 9), (2, 7, 7), (1, 1, 8), (1, 8, 1)])
def test_it_is_the_polynomial_of_the_singular_values(
    shape: tuple[int, int, int], dtype: torch.dtype, bound: float
) -> None:
    x = random(*shape)
    want = torch.from_numpy(np.stack([plain_rubik.polar(one) for one in x.numpy()]))
    torch.testing.assert_close(orthogonalise(x.to(dtype)).double(), want, rtol=0, atol=bound)


def test_a_batch_is_what_each_matrix_is_alone() -> None:
    x = random(4, 5, 8)
    alone = torch.cat([orthogonalise(one[None].clone()) for one in x])
    torch.testing.assert_close(orthogonalise(x.clone()), alone, rtol=0, atol=1e-13)
    torch.testing.assert_close(orthogonalise(x.mT.clone()), alone.mT, rtol=0, atol=1e-12)


def test_nothing_in_nothing_out() -> None:
    assert not orthogonalise(torch.zeros(2, 3, 4)).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_three_products_a_step_for_a_whole_batch(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    for name in ("bmm", "baddbmm"):
        real = getattr(torch, name)

        def count(*args: Tensor, real=real, **kwargs: object) -> Tensor:  # type: ignore[no-untyped-def]
            calls.append(args[-1].size(0))
            return real(*args, **kwargs)

        monkeypatch.setattr(torch, name, count)
    orthogonalise(torch.randn(7, 6, 4).to(dtype))
    assert calls == [7] * 3 * len(COEFFICIENTS)


def test_memory_is_used_again_on_a_cpu() -> None:
    workspace, like = Workspace(), torch.zeros(())
    first = workspace.take("x", (4, 6), like)
    assert workspace.take("x", (2, 3), like).data_ptr() == first.data_ptr()
    assert workspace.take("y", (2, 3), like).data_ptr() != first.data_ptr()
    assert workspace.take("x", (2, 3), like.bfloat16()).dtype == torch.bfloat16
    assert workspace.take("x", (5, 6), like).shape == (5, 6)
    assert workspace.take("x", (2, 3), like.to("meta")).device.type == "meta"
