"""Work that is replayed; on a device that records it, see ``tests/pretended_cuda``."""

from __future__ import annotations

import pytest
import torch

from zipasr.nn.cuda_graph import Recent, Replay, power_of_two


def test_shapes_are_few() -> None:
    assert [power_of_two(size) for size in (0, 1, 2, 3, 4, 5, 64, 65)] == [
        1,
        1,
        2,
        4,
        4,
        8,
        64,
        128,
    ]


def test_what_was_used_last_is_kept() -> None:
    made: list[str] = []

    def make(name: str) -> str:
        made.append(name)
        return name.upper()

    recent: Recent[str] = Recent(2)
    for name in "abacab":
        assert recent.get(name, lambda name=name: make(name)) == name.upper()  # type: ignore[misc]
    assert made == ["a", "b", "c", "b"]
    kept = [recent.get(name, lambda: "made again") for name in "abc"]
    assert kept == ["A", "B", "made again"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device that can record")
def test_without_a_device_the_work_is_done_each_time(caplog: pytest.LogCaptureFixture) -> None:
    x = torch.zeros(1)
    replay = Replay(lambda: x.add_(1))
    for _ in range(3):
        replay()
    assert float(x) == 3.0
    (line,) = caplog.messages
    assert "not recorded as a CUDA graph" in line


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_device_it_is_replayed() -> None:
    x = torch.zeros(1, device="cuda")
    replay = Replay(lambda: x.add_(1))
    for _ in range(4):
        replay()
    assert float(x) == 4.0
    assert isinstance(replay.graph, torch.cuda.CUDAGraph)
