"""Values and gradients of k2 1.23.2, recorded by ``tests/golden/losses/make_k2.py``."""

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.losses.oracle import GOLDEN
from zipasr.losses import (
    do_rnnt_pruning,
    get_rnnt_prune_ranges,
    mutual_information_recursion,
    rnnt_loss,
    rnnt_loss_pruned,
    rnnt_loss_simple,
    rnnt_loss_smoothed,
)

ARRAYS = dict(np.load(GOLDEN / "k2.npz"))
INDEX = json.loads((GOLDEN / "k2.json").read_text())
DTYPES = (torch.float64, torch.float32)
# Of the loss of an utterance; of the largest entry of any other tensor.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


class Run:
    """One call of k2: its settings, inputs and outputs."""

    def __init__(self, settings: dict[str, Any], first: int) -> None:
        self.first = first
        self.batch: str = settings["batch"]
        self.function: str = settings["function"]
        self.rnnt_type: Any = settings["rnnt_type"]
        self.scales: list[float] = settings.get("scales", [0.0, 0.0])
        self.s_range: int = settings.get("s_range", 0)
        self.delay_penalty: float = settings.get("delay_penalty", 0.0)
        self.shapes: dict[str, list[int]] = settings["outputs"]
        self.blank: int = INDEX["blanks"][self.batch]

    def __str__(self) -> str:
        varied = (self.batch, self.rnnt_type, *self.scales, self.s_range, self.delay_penalty)
        return "-".join(str(x) for x in varied if x)

    @property
    def size(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def kind(self) -> str:
        return "regular" if self.rnnt_type == "regular" else "other"

    def input(self, name: str, dtype: torch.dtype) -> Tensor:
        values = torch.from_numpy(ARRAYS[f"{self.batch}.{name}"])
        return values.to(dtype) if values.is_floating_point() else values.long()

    def leaf(self, name: str, dtype: torch.dtype) -> Tensor:
        return self.input(name, dtype).requires_grad_()

    @property
    def boundary(self) -> Tensor | None:
        name = f"boundary_{self.kind}"
        return self.input(name, torch.float64) if f"{self.batch}.{name}" in ARRAYS else None

    @property
    def boundary_or_whole(self) -> Tensor:
        n, s, t = ARRAYS[f"{self.batch}.py_grad_regular"].shape
        return torch.tensor([[0, 0, s - 1, t]] * n) if self.boundary is None else self.boundary

    def band(self, dtype: torch.dtype = torch.float64) -> Tensor:
        occupations = [self.input(f"{name}_{self.kind}", dtype) for name in ("px_grad", "py_grad")]
        return get_rnnt_prune_ranges(*occupations, self.boundary_or_whole, self.s_range)

    def band_logits(self, band: Tensor, dtype: torch.dtype) -> Tensor:
        logits = self.input("logits", dtype)
        return logits.gather(2, band[..., None].expand(-1, -1, -1, logits.shape[3]))

    @property
    def options(self) -> dict[str, Any]:
        return {
            "boundary": self.boundary,
            "rnnt_type": self.rnnt_type,
            "delay_penalty": self.delay_penalty,
            "reduction": "none",
        }

    def outputs(self, dtype: torch.dtype) -> dict[str, Tensor]:
        vector = torch.from_numpy(ARRAYS[str(dtype).removeprefix("torch.")])
        parts = vector[self.first : self.first + self.size].split(
            [math.prod(shape) for shape in self.shapes.values()]
        )
        named = zip(self.shapes.items(), parts, strict=True)
        return {name: part.view(shape) for (name, shape), part in named}

    def check(self, dtype: torch.dtype, **results: Tensor) -> None:
        """Compare with what k2 found in the same precision."""
        outputs = self.outputs(dtype)
        assert results.keys() == outputs.keys()
        for name, expected in outputs.items():
            result, tolerance = results[name].detach(), TOLERANCE[dtype]
            if name in ("loss", "scores"):
                torch.testing.assert_close(result, expected, rtol=tolerance, atol=0.0)
            else:
                largest = expected.abs().max().item()
                close = {"rtol": 0.0, "atol": tolerance * largest}
                torch.testing.assert_close(result, expected, **close)

    def check_gradients(self, loss: Tensor, leaves: dict[str, Tensor], **results: Tensor) -> None:
        """Compare the loss, the gradients of its sum, and other results."""
        loss.sum().backward()
        gradients = {f"grad_{name}": leaf.grad for name, leaf in leaves.items()}
        self.check(loss.dtype, loss=loss, **results, **gradients)  # type: ignore[arg-type]


def _all_runs() -> list[Run]:
    runs: list[Run] = []
    for settings in INDEX["runs"]:
        runs.append(Run(settings, runs[-1].first + runs[-1].size if runs else 0))
    return runs


RUNS = _all_runs()


def cases(*functions: str) -> pytest.MarkDecorator:
    """All runs of some functions, in both precisions."""
    runs = [run for run in RUNS if run.function in functions]
    return pytest.mark.parametrize(("run", "dtype"), list(itertools.product(runs, DTYPES)), ids=str)


@cases("recursion")
def test_recursion(run: Run, dtype: torch.dtype) -> None:
    px, py = run.input("px", dtype), run.leaf("py", dtype)
    px = (px if run.rnnt_type == "regular" else px[:, :, :-1]).requires_grad_()
    scores, (px_grad, py_grad) = mutual_information_recursion(
        px, py, run.boundary, return_grad=True
    )
    run.check(dtype, scores=scores, px_grad=px_grad, py_grad=py_grad)
    scores.sum().backward()
    run.check(dtype, scores=scores, px_grad=px.grad, py_grad=py.grad)


@cases("simple", "smoothed")
def test_simple_and_smoothed(run: Run, dtype: torch.dtype) -> None:
    leaves = {name: run.leaf(name, dtype) for name in ("lm", "am")}
    inputs = (*leaves.values(), run.input("symbols", dtype), run.blank)
    if run.function == "simple":
        loss, (px_grad, py_grad) = rnnt_loss_simple(*inputs, return_grad=True, **run.options)
    else:
        loss, (px_grad, py_grad) = rnnt_loss_smoothed(
            *inputs, *run.scales, return_grad=True, **run.options
        )
    run.check_gradients(loss, leaves, px_grad=px_grad, py_grad=py_grad)


@cases("ranges")
def test_ranges(run: Run, dtype: torch.dtype) -> None:
    assert torch.equal(run.band(dtype), run.outputs(torch.float64)["ranges"].long())


@cases("pruning")
def test_pruning(run: Run, dtype: torch.dtype) -> None:
    leaves = {name: run.leaf(name, dtype) for name in ("am", "lm")}
    band = run.band()
    am, lm = do_rnnt_pruning(*leaves.values(), band)
    weights = run.band_logits(band, dtype)
    run.check_gradients((weights * am + 2 * weights * lm).sum((1, 2, 3)), leaves)


@cases("pruned")
def test_pruned(run: Run, dtype: torch.dtype) -> None:
    band = run.band()
    logits = run.band_logits(band, dtype).requires_grad_()
    loss = rnnt_loss_pruned(logits, run.input("symbols", dtype), band, run.blank, **run.options)
    run.check_gradients(loss, {"logits": logits})


@cases("full")
def test_full(run: Run, dtype: torch.dtype) -> None:
    logits = run.leaf("logits", dtype)
    loss = rnnt_loss(logits, run.input("symbols", dtype), run.blank, **run.options)
    run.check_gradients(loss, {"logits": logits})
