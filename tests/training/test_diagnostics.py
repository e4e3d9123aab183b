"""Diagnostics: each statistic against its definition, written out loop by loop."""

from __future__ import annotations

import logging
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.training.short import ALONE, SHORT
from zipasr.cli.command_flags import read
from zipasr.cli.train import data_source, train_configs
from zipasr.cli.training_commands import TRAIN
from zipasr.nn.activations import SwooshL, SwooshR
from zipasr.nn.fused import ActivationDropoutAndLinear
from zipasr.training.diagnostics import AxisSums, Observed, observe, report
from zipasr.training.worker import run


def oracle(calls: list[np.ndarray], axis: int) -> dict[str, np.ndarray]:
    """The statistics of ``calls`` position by position, in float64."""
    rows = [np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis]) for x in calls]
    size = max(part.shape[1] for part in rows)
    found: dict[str, list[float]] = {}
    for position in range(size):
        parts = [part[:, position] for part in rows if position < part.shape[1]]
        values = [float(v) for part in parts for v in part]
        mean = sum(values) / len(values)
        square = sum(v * v for v in values) / len(values)
        for name, value in {
            "abs": sum(abs(v) for v in values) / len(values),
            "max": max(values),
            "min": min(values),
            "positive": sum(v > 0 for v in values) / len(values),
            "value": mean,
            "rms": math.sqrt(square),
            "stddev": math.sqrt(sum((v - mean) ** 2 for v in values) / len(values)),
        }.items():
            found.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in found.items()}


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 3)), min_size=1),
    st.integers(0, 2),
    st.integers(0, 99),
)
def test_statistics_are_their_definitions(
    shapes: list[tuple[int, int, int]], axis: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    calls = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    sums = AxisSums.of(torch.from_numpy(calls[0]), axis)
    for call in calls[1:]:
        sums.add(AxisSums.of(torch.from_numpy(call), axis))
    found = sums.statistics()
    for name, values in oracle(calls, axis).items():
        np.testing.assert_allclose(found[name].numpy(), values, rtol=1e-4, atol=2e-4, err_msg=name)


def test_eigenvalues_are_those_of_the_second_moments() -> None:
    rng = np.random.default_rng(1)
    calls = [rng.standard_normal((7, 3, 5)).astype(np.float32) for _ in range(3)]
    sums = AxisSums.of(torch.from_numpy(calls[0]), 2)
    for call in calls[1:]:
        sums.add(AxisSums.of(torch.from_numpy(call), 2))
    rows = np.concatenate([call.reshape(-1, 5) for call in calls]).astype(np.float64)
    expected = np.linalg.svd(rows / math.sqrt(len(rows)), compute_uv=False)[::-1]
    found = sums.statistics()["roots of eigenvalues"].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    wide = AxisSums.of(torch.zeros(2, 513), 1)
    assert "roots of eigenvalues" not in wide.statistics()
    assert "roots of eigenvalues" in AxisSums.of(torch.zeros(2, 512), 1).statistics()
    sums.add(AxisSums.of(torch.zeros(7, 3, 4), 2))
    assert "roots of eigenvalues" not in sums.statistics()


def test_percentiles_are_of_the_rms_over_the_axis() -> None:
    x = torch.arange(1.0, 23.0).reshape(11, 2)
    found = AxisSums.of(x, 1).statistics()["percentiles of rms over this axis"]
    expected = [math.sqrt((a * a + b * b) / 2) for a, b in x.tolist()]
    assert found.tolist() == pytest.approx(expected)


class Half(nn.Module):
    """Its output is in bfloat16 and in a tuple."""

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, None]]:
        return x * 2, (x.bfloat16(), None)


class Small(nn.Module):
    """Two activations, one of them inside of another layer."""

    def __init__(self) -> None:
        super().__init__()
        self.halves, self.left = Half(), SwooshL()
        self.first = nn.Linear(3, 3)
        self.fused = ActivationDropoutAndLinear(3, 2, "SwooshR", dropout_p=0.0)

    def forward(self, x: Tensor) -> Tensor:
        _, (x, _) = self.halves(self.first(x))
        out: Tensor = self.fused(self.left(x.float()))
        return out


def test_everything_that_flows_is_seen_and_nothing_is_changed() -> None:
    torch.manual_seed(0)
    model, x = Small(), torch.randn(50, 3)
    model(x).square().sum().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()
    seen, handles = observe(model)
    state = torch.get_rng_state()
    model(x).square().sum().backward()
    assert torch.equal(state, torch.get_rng_state())
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert torch.equal(parameter.grad, gradient)
    names = {
        "first.output (Linear)",
        "first.output_grad (Linear)",
        "halves.output[0] (Half)",
        "halves.output[1][0] (Half)",
        "halves.output_grad[1][0] (Half)",
        "left.output_grad (SwooshL)",
        ".output (Small)",
        "first.weight.param_value",
        "fused.bias.param_grad",
    }
    assert names <= seen.tensors.keys()
    weight = seen.tensors["first.weight.param_grad"][1].statistics()["value"]
    torch.testing.assert_close(weight.float(), gradients[0].mean(0))
    half = seen.tensors["halves.output[1][0] (Half)"][1].statistics()["value"]
    torch.testing.assert_close(half.float(), model.first(x).bfloat16().float().mean(0))
    assert sorted(seen.curves) == [
        "fused (ActivationDropoutAndLinear), input",
        "left (SwooshL), output",
    ]
    for handle in handles:
        handle.remove()
    before = seen.tensors[".output (Small)"][0].calls
    model(x)
    assert seen.tensors[".output (Small)"][0].calls == before


@pytest.mark.parametrize("activation", [SwooshL, SwooshR, nn.ReLU, nn.Sigmoid, nn.Tanh, nn.SiLU])
def test_the_gradient_is_shown_by_the_value_in_equal_parts(activation: type[nn.Module]) -> None:
    seen = observe(model := nn.Sequential(activation()))[0]
    values = torch.linspace(-5, 5, 401).flip(0).requires_grad_()
    # The derivative of the square is twice the output.
    out = model(values)
    out.square().sum().backward()
    (name,) = seen.curves
    assert name == f"0 ({activation.__name__}), output"
    bins = seen.curves[name].bins()
    assert len(bins) == 20
    assert [low for low, *_ in bins] == sorted(low for low, *_ in bins)
    order = values.argsort()
    parts = (2 * out.detach())[order].tensor_split(20)
    for (_, _, mean, size), part in zip(bins, parts, strict=True):
        assert mean == pytest.approx(float(part.mean()), rel=1e-4, abs=1e-6)
        assert size == pytest.approx(float(part.abs().mean()), rel=1e-4, abs=1e-6)


def test_long_axes_are_percentiles_and_short_ones_whole() -> None:
    seen = Observed()
    for size in (10, 11, 31, 40):
        seen.note(f"t{size:02d}", torch.arange(float(size)))
    lines = [line for line in report(seen).splitlines() if " value" in line]
    assert "value: 0 1 2 3 4 5 6 7 8 9; norm 16.9, mean 4.5, rms 5.34" in lines[0]
    assert "value percentiles: 0 1 2 3 4 5 6 7 8 9 10; " in lines[1]
    assert len(re.search(r"value: ([\d ]+);", lines[2])[1].split()) == 31
    assert len(re.search(r"value percentiles: ([\d ]+);", lines[3])[1].split()) == 11
    assert [line.split(",")[0] for line in lines] == sorted(line.split(",")[0] for line in lines)


@pytest.mark.usefixtures("here")
def test_the_flag_prints_six_batches_and_saves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        words = f"--recipe ./tones --exp-dir {tmp_path} {SHORT} --print-diagnostics 1"
        parsed = read(TRAIN, [*words.split(), "--max-duration", "10"])
        run(ALONE, train_configs(parsed), data_source(parsed))
    said = capsys.readouterr().out.splitlines()
    assert not list(tmp_path.glob("*.pt"))
    (log,) = (tmp_path / "log").iterdir()
    assert "batch 6 of 6" in log.read_text()
    names = [line.split(",")[0] for line in said if " gradient by value" not in line]
    assert names == sorted(names)
    kinds = "output (", "output_grad (", "param_value", "param_grad"
    assert all(any(f".{kind}" in name for name in names) for kind in kinds)
    curves = [line for line in said if " gradient by value" in line]
    assert any("(SwooshR), output" in line for line in curves)
    assert any("(ActivationDropoutAndLinear), input" in line for line in curves)
