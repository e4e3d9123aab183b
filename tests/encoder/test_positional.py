from __future__ import annotations

import math

import pytest
import torch

from zipasr.encoder.zipformer.attention import CompactRelPositionalEncoding, compact_positions


def by_definition(k: int, d: int) -> list[float]:
    """Return the encoding of the distance ``k``, written as in the specification."""
    length = math.sqrt(d)
    z = length * math.copysign(1, k) * (math.log(abs(k) + length) - math.log(length))
    a = math.atan(z / (d / (2 * math.pi)))
    pairs = [f(a * (m + 1)) for m in range(d // 2) for f in (math.cos, math.sin)]
    return [*pairs[:-1], 1.0]


def test_against_the_definition() -> None:
    table = compact_positions(9, 6)
    expected = torch.tensor([by_definition(k, 6) for k in range(-8, 9)])
    torch.testing.assert_close(table, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("lengths", [(3, 11, 5), (11, 3, 5)])
def test_the_kept_table_serves_all_lengths(lengths: tuple[int, ...]) -> None:
    encoding = CompactRelPositionalEncoding(8).eval()
    for num_frames in lengths:
        got = encoding(torch.zeros(num_frames, 2, 4))
        torch.testing.assert_close(got[0], compact_positions(num_frames, 8), rtol=0, atol=0)
    assert not encoding.state_dict()


def test_a_table_from_inference_serves_training() -> None:
    encoding = CompactRelPositionalEncoding(8)
    linear = torch.nn.Linear(8, 2)
    with torch.inference_mode():
        encoding(torch.zeros(7, 1, 1))
    linear(encoding(torch.zeros(5, 1, 1))).sum().backward()
    assert linear.weight.grad is not None
