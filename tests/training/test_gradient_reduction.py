"""Gradients of two processes: their means, sent while the backward pass goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from zipasr.base.distributed import World, launch
from zipasr.training import gradient_reduction
from zipasr.training.gradient_reduction import GradientReducer

pytestmark = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two processes need two cores")


def model_and_input(rank: int) -> tuple[nn.Sequential, nn.Linear, Tensor]:
    """Four layers, one that process 1 alone uses, and what goes through them."""
    torch.manual_seed(0)
    layers = nn.Sequential(*(nn.Linear(6, 6) for _ in range(4)))
    own = nn.Linear(6, 6)
    torch.manual_seed(1 + rank)
    return layers, own, torch.randn(8, 6)


def loss_of(layers: nn.Sequential, own: nn.Linear, x: Tensor, rank: int) -> Tensor:
    y = layers(x).tanh()
    return (own(y) if rank == 1 else y).square().sum()


@contextmanager
def watched(layers: nn.Sequential, fail: bool) -> Iterator[list[int]]:
    """Note, when the gradient comes to the first layer, how much was sent; then fail."""
    seen: list[int] = []

    def look(_grad: Tensor) -> None:
        seen.append(len(reducer_of["it"]._sent))
        if fail:
            raise torch.OutOfMemoryError

    handle = layers[0].weight.register_hook(look)
    yield seen
    handle.remove()


reducer_of: dict[str, GradientReducer] = {}


def reduces(world: World, folder: Path) -> None:
    gradient_reduction.BUCKET_ELEMENTS = 42  # a layer
    layers, own, x = model_and_input(world.rank)
    parameters = [*own.parameters(), *layers.parameters()]
    reducer = reducer_of["it"] = GradientReducer(parameters, world)
    for attempt in ("plain", "again", "fails first"):
        for parameter in parameters:
            parameter.grad = None
        # Not the last backward pass: nothing is sent.
        (0.5 * loss_of(layers, own, x, world.rank)).backward()
        assert not reducer._sent
        fails = attempt == "fails first" and world.rank == 0
        with watched(layers, fails) as seen:
            try:
                with reducer.last_backward():
                    loss_of(layers, own, x, world.rank).backward()
            except torch.OutOfMemoryError:
                for parameter in parameters:
                    parameter.grad = None
        assert seen == [3]  # of five buckets, before the first layer has its gradient
        if fails:
            (0.5 * loss_of(layers, own, x, world.rank)).backward()
            with reducer.last_backward():
                loss_of(layers, own, x, world.rank).backward()
        reducer.finish()
        torch.save([p.grad for p in parameters], folder / f"{attempt}-{world.rank}.pt")


def test_gradients_become_means_while_they_are_computed(tmp_path: Path) -> None:
    launch(reduces, 2, 12372, tmp_path)
    sums = []
    for rank in range(2):
        layers, own, x = model_and_input(rank)
        (1.5 * loss_of(layers, own, x, rank)).backward()
        parameters = [*own.parameters(), *layers.parameters()]
        sums.append([torch.zeros_like(p) if p.grad is None else p.grad for p in parameters])
    wanted = [(one + two) / 2 for one, two in zip(*sums, strict=True)]
    for path in sorted(tmp_path.iterdir()):
        for found, mean in zip(torch.load(path), wanted, strict=True):
            torch.testing.assert_close(found, mean)


def test_one_process_sends_nothing() -> None:
    layers, own, x = model_and_input(1)
    reducer = GradientReducer(layers.parameters(), World(0, 1, torch.device("cpu")))
    with reducer.last_backward():
        loss_of(layers, own, x, 1).backward()
    before = layers[0].weight.grad
    reducer.finish()
    assert layers[0].weight.grad is before
