"""Every way to make a step against the formulas written one after another."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from benchmarks.plain_scaled_adam import PlainScaledAdam
from zipasr.optim.compiled_update import BLOCK_ELEMENTS
from zipasr.optim.parameter_batches import OptimizerBackend
from zipasr.optim.scaled_adam import ScaledAdam

SHAPES = ((), (1,), (1, 1), (5,), (7,), (3, 4), (4, 3), (2, 3, 1, 2), (BLOCK_ELEMENTS + 3,))
NUM_STEPS = 45


@pytest.mark.parametrize("backend", ["torch", "numba"])
@settings(max_examples=20, deadline=None)
@given(
    shapes=st.lists(st.sampled_from(SHAPES), min_size=1, max_size=6),
    exponents=st.lists(st.integers(-7, 1), min_size=6, max_size=6),
    lr=st.sampled_from((0.01, 0.05, 0.6)),
    clipping_scale=st.sampled_from((None, 1.0, 2.0)),
    period=st.sampled_from((5, 15, 100)),
    missing=st.integers(1, 9),
    seed=st.integers(0, 2**31),
)
def test_trajectories(
    backend: OptimizerBackend,
    shapes: list[tuple[int, ...]],
    exponents: list[int],
    lr: float,
    clipping_scale: float | None,
    period: int,
    missing: int,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def random(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    found = [
        nn.Parameter(2.5 * 10.0**exponent * random(shape))
        for shape, exponent in zip(shapes, exponents, strict=False)
    ]
    wanted = [nn.Parameter(param.detach().clone()) for param in found]
    optimizer = ScaledAdam(
        found,
        lr=lr,
        clipping_scale=clipping_scale,
        clipping_update_period=period,
        backend=backend,
    )
    plain = PlainScaledAdam(wanted, lr, clipping_scale, period)
    for step in range(NUM_STEPS):
        size = 1000.0 if step in (22, 33) else 1.0
        for k, (param, twin) in enumerate(zip(found, wanted, strict=True)):
            is_missing = k == 1 or (step + k) % missing == missing - 1 > 0
            twin.grad = None if is_missing else size * random(param.shape)
            param.grad = None if twin.grad is None else twin.grad.clone()
        optimizer.step()
        plain.step()
    for param, twin in zip(found, wanted, strict=True):
        tolerance = 3e-5 * float(twin.detach().abs().max()) + 1e-10
        torch.testing.assert_close(param, twin, rtol=0, atol=tolerance)
