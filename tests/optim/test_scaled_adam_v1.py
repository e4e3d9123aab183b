"""The first ScaledAdam: a stored trajectory, the formulas one after another, and its resume."""

from __future__ import annotations

import copy
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from zipasr.optim.parameter_batches import OptimizerBackend
from zipasr.optim.scaled_adam import ScaledAdamV1
from zipasr.optim.schedules import Eden

FILE = Path(__file__).parents[1] / "golden" / "optim" / "scaled_adam_v1.npz"
SHAPES: dict[str, tuple[int, ...]] = {"w": (3, 4), "v": (5,), "s": (), "w2": (3, 4)}
BURSTS = (130, 170)  # gradients of thirty times the size


def seeded(name: str, shape: tuple[int, ...], scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return scale * torch.randn(shape, generator=generator)


def parameters() -> dict[str, nn.Parameter]:
    values = {name: seeded(f"opt.{name}", shape) for name, shape in SHAPES.items()}
    values |= {"s": torch.tensor(0.5), "w2": 0.1 * values["w2"]}
    return {name: nn.Parameter(value) for name, value in values.items()}


def set_gradients(params: dict[str, nn.Parameter], step: int) -> None:
    boost = 30.0 if step in BURSTS else 1.0
    for name, param in params.items():
        noise = seeded(f"opt.{name}.g{step}", SHAPES[name])
        param.grad = boost * (noise + 0.3 * param.detach())


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_trajectory_equals_the_reference(backend: OptimizerBackend) -> None:
    golden = np.load(FILE)
    params = parameters()
    optimizer = ScaledAdamV1(params.items(), lr=0.05, clipping_scale=2.0, backend=backend)
    eden = Eden(optimizer, 5000, 3.5)
    for step in range(1, 221):
        eden.step_batch(step)
        set_gradients(params, step)
        optimizer.step()
        if f"lr.{step}" not in golden:
            continue
        assert eden.get_last_lr()[0] == pytest.approx(float(golden[f"lr.{step}"]), rel=1e-12)
        for name, param in params.items():
            want = torch.from_numpy(golden[f"{name}.{step}"])
            torch.testing.assert_close(param.detach(), want, rtol=0, atol=1e-6)


def test_going_on_from_a_checkpoint_ends_with_the_same_bits() -> None:
    """Across a size update, a burst, and the first threshold."""
    whole, halves = parameters(), parameters()

    def optimizer(params: dict[str, nn.Parameter]) -> ScaledAdamV1:
        return ScaledAdamV1(params.items(), lr=0.05, clipping_scale=2.0)

    one, two = optimizer(whole), optimizer(halves)
    for step in range(1, 136):
        if step in (7, 99, 131):
            saved = copy.deepcopy((two.state_dict(), two.named_shapes()))
            two = optimizer(halves)
            assert two.load_named(*saved) == []
        for params, adam in ((whole, one), (halves, two)):
            set_gradients(params, step)
            adam.step()
    for name, param in whole.items():
        assert torch.equal(param, halves[name])


def test_an_update_that_is_not_finite_is_left_out() -> None:
    params = parameters()
    optimizer = ScaledAdamV1(params.items(), lr=0.05, clipping_scale=2.0)
    before = {name: param.detach().clone() for name, param in params.items()}
    set_gradients(params, 1)
    assert params["w"].grad is not None
    params["w"].grad[0, 0] = torch.inf
    optimizer.step()
    assert optimizer.num_skipped == 1
    assert all(torch.equal(param, before[name]) for name, param in params.items())


@dataclass
class PlainV1:
    """The formulas, for one group, in the precision of the parameters."""

    params: list[nn.Parameter]
    lr: float
    period: int
    t: int = 0
    norms: list[float] = field(default_factory=list)
    threshold: float = torch.inf

    def __post_init__(self) -> None:
        self.v = [torch.zeros_like(p) for p in self.params]
        self.d = [torch.zeros_like(p) for p in self.params]
        self.rms = [float(p.detach().square().mean().sqrt()) for p in self.params]
        self.g = [torch.zeros(4, dtype=torch.float64) for _ in self.params]
        self.big_v = [0.0] * len(self.params)

    @torch.no_grad()
    def step(self) -> None:
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.params]
        c = self.clip(grads)
        for i, (p, grad) in enumerate(zip(self.params, grads, strict=True)):
            self.d[i] *= 0.9
            if p.numel() > 1:
                self.g[i][self.t % 4] = (p * c * grad).sum()
                if self.t % 4 == 3:
                    self.change_size(i, p)
            self.v[i] = 0.98 * self.v[i] + 0.02 * grad**2
            corrected = 1 - 0.98 ** (self.t + 1)
            is_corrected = p.numel() == 1 or corrected < 0.99
            root = (self.v[i] / corrected if is_corrected else self.v[i]).sqrt() + 1e-8
            size = 0.1 if p.numel() == 1 else max(self.rms[i], 1e-5)
            self.d[i] -= 0.1 * self.lr * size * grad / root
            if p.numel() == 1:
                p.clamp_(-10, 10)
            p += self.d[i]
        self.t += 1

    def clip(self, grads: list[Tensor]) -> float:
        sizes = [1.0 if g.numel() == 1 else r for g, r in zip(grads, self.rms, strict=True)]
        norm = sum(float((g * r).square().sum()) for g, r in zip(grads, sizes, strict=True)) ** 0.5
        if self.t:
            self.norms.append(norm)
            if self.t % self.period == 0:
                recent = sorted(self.norms[-self.period :])
                self.threshold = 2.0 * recent[self.period // 4 * 2]
        return min(1.0, self.threshold / (norm + 1e-20))

    def change_size(self, i: int, p: nn.Parameter) -> None:
        self.rms[i] = float(p.square().mean().sqrt())
        decay = 0.98**4
        self.big_v[i] = decay * self.big_v[i] + (1 - decay) * float(self.g[i].square().mean())
        k = (self.t + 1) // 4
        root = self.big_v[i] ** 0.5 + 1e-8
        step = -0.1 * self.lr * (1 - decay**k) ** 0.5 * float(self.g[i].sum()) / root
        step = 0.0 if self.rms[i] < 1e-5 else step
        step = -0.1 * self.lr * 4 if self.rms[i] > 3 else step
        self.d[i] += 0.1 * p * step


@settings(max_examples=15)
@given(
    shapes=st.lists(st.sampled_from(((), (1, 1), (5,), (3, 4), (4, 3))), min_size=1, max_size=5),
    exponents=st.lists(st.integers(-7, 1), min_size=5, max_size=5),
    lr=st.sampled_from((0.01, 0.05, 0.6)),
    period=st.sampled_from((5, 20)),
    missing=st.integers(1, 9),
    seed=st.integers(0, 2**31),
)
def test_trajectories_equal_the_formulas(
    shapes: list[tuple[int, ...]],
    exponents: list[int],
    lr: float,
    period: int,
    missing: int,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def random(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    found = [
        nn.Parameter(2.5 * 10.0**exponent * random(shape))
        for shape, exponent in zip(shapes, exponents, strict=False)
    ]
    wanted = [nn.Parameter(param.detach().clone()) for param in found]
    optimizer = ScaledAdamV1(found, lr=lr, clipping_scale=2.0, clipping_update_period=period)
    plain = PlainV1(wanted, lr, period)
    for step in range(45):
        size = 1000.0 if step in (22, 33) else 1.0
        for k, (param, twin) in enumerate(zip(found, wanted, strict=True)):
            is_missing = k == 1 or (step + k) % missing == missing - 1 > 0
            twin.grad = None if is_missing else size * random(param.shape)
            param.grad = None if twin.grad is None else twin.grad.clone()
        optimizer.step()
        plain.step()
    for param, twin in zip(found, wanted, strict=True):
        # Norms are remembered in float32, so thresholds are as good as that.
        tolerance = 1e-6 * float(twin.detach().abs().max()) + 1e-12
        torch.testing.assert_close(param, twin, rtol=0, atol=tolerance)
