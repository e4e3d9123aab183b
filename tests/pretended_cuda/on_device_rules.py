"""Rules of the pretended device; run by test_pretended_cuda.py in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.pretended_cuda import device as pretended
from tests.pretended_cuda.kernels import use_kernels
from tests.pretended_cuda.record import recorded

pretended.install()
use_kernels()

from zipasr.kernels import elementwise  # noqa: E402
from zipasr.losses import ctc, triton_backend  # noqa: E402
from zipasr.nn.numerics import OnItsWay, to_device  # noqa: E402
from zipasr.optim import compiled_update  # noqa: E402

CUDA = torch.device("cuda", 0)


def test_values_gradients_and_launches() -> None:
    layer, twin = torch.nn.Linear(4, 2), torch.nn.Linear(4, 2)
    twin.load_state_dict(layer.state_dict())
    weight = layer.weight
    assert layer.to("cuda").weight is weight
    x, y = (torch.arange(12.0).view(3, 4) / 9 for _ in range(2))
    x = x.to("cuda").requires_grad_()
    y.requires_grad_()
    with recorded() as record:
        (layer(x).tanh() * torch.full((2,), 0.5, device="cuda")).sum().backward()
    (twin(y).tanh() * 0.5).sum().backward()
    assert str(x.device) == "cuda:0"
    assert x.grad is not None
    torch.testing.assert_close(x.grad.cpu(), y.grad)
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad.cpu(), twin.weight.grad)
    forward = sum(cost.launches for place, cost in record.costs.items() if place.phase == "forward")
    assert forward == 6  # product, tanh, fill, times, sum, and the one that backward begins with
    assert record.total.launches >= 10
    assert not record.num_waits


WAITS: list[tuple[int, Callable[[torch.Tensor], Any]]] = [
    (0, lambda x: x + 1),
    (0, lambda x: x.repeat_interleave(2)),
    (0, lambda x: x.masked_fill(x > 1, 0)),
    (0, lambda x: to_device(torch.zeros(3), CUDA)),
    (0, lambda x: to_device(torch.zeros(1 << 20), CUDA)),
    (1, lambda x: float(x.sum())),
    (1, lambda x: x.tolist()),
    (1, lambda x: x[x > 1]),
    (1, lambda x: x.nonzero()),
    (1, lambda x: x.cpu()),
    (1, lambda x: bool((x > 1).any())),
    (1, lambda x: torch.tensor([1, 2], device="cuda")),
    (1, lambda x: torch.zeros(1 << 20).to("cuda", non_blocking=True)),
    (1, lambda x: x.repeat_interleave(x)),
    (1, lambda x: OnItsWay(x).arrived()),
    (1, lambda x: [way.arrived() for way in (OnItsWay(x), OnItsWay(x + 1))]),
]


@pytest.mark.parametrize(("number", "run"), WAITS)
def test_waits(number: int, run: Callable[[torch.Tensor], Any]) -> None:
    x = torch.arange(3, device="cuda")
    with recorded() as record:
        run(x)
    assert record.num_waits == number, record.told()


MIXTURES: list[Callable[[torch.Tensor], Any]] = [
    lambda x: x + torch.ones(3),
    lambda x: x @ torch.ones(3),
    lambda x: torch.cat([x, torch.ones(1)]),
    lambda x: x.numpy(),
    lambda x: elementwise.PUSHED(x, x, x, torch.ones(3)),
]


@pytest.mark.parametrize("run", MIXTURES)
def test_two_devices_are_refused(run: Callable[[torch.Tensor], Any]) -> None:
    with pytest.raises((RuntimeError, TypeError, AssertionError)):
        run(torch.ones(3, device="cuda"))
    assert float(torch.ones(3, device="cuda").add(torch.tensor(1.0)).sum()) == 6.0


def test_memory_is_counted_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    before = pretended.MEMORY.now
    x = torch.empty(1000, device="cuda")
    assert pretended.MEMORY.now == before + 4000
    monkeypatch.setattr(pretended.MEMORY, "total", before + 5000)
    with pytest.raises(torch.OutOfMemoryError):
        x + 1
    del x
    assert pretended.MEMORY.now == before


def test_kernels_pass_the_checks_that_they_have_to_pass_on_a_device() -> None:
    assert triton_backend.KERNELS.fault(CUDA) is None
    assert ctc.KERNELS.fault(CUDA) is None
    assert compiled_update.KERNELS.fault(CUDA) is None
    assert elementwise.self_check(CUDA) is None
