"""What is told where Triton's kernels cannot be used."""

import logging
from collections.abc import Iterable
from typing import Any

import pytest
import torch

from zipasr.kernels import launch

GPU = torch.device("cuda", 0)


def kernels(errors: Any) -> launch.CheckedKernels:
    return launch.CheckedKernels("none", errors, f"A step takes longer, {id(errors)}.")


def missing(device: torch.device) -> Iterable[float]:
    raise ImportError(device)


def failing(device: torch.device) -> Iterable[float]:
    raise RuntimeError(f"no code for {device}\nand more")


def test_a_missing_package_is_told_once_with_its_cost_and_how_to_get_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = kernels(missing)
    with caplog.at_level(logging.WARNING):
        assert not found.work_on(GPU)
        assert not found.work_on(GPU)
        assert not found.work_on(torch.device("cpu"))
    assert [record.message for record in caplog.records] == [
        f"The package triton is not installed: pip install triton. {found.cost}"
    ]


def test_a_missing_compiler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "c_compiler", lambda: None)
    assert kernels(failing).fault(GPU) == (
        "Triton needs a C compiler: apt-get install gcc python3-dev."
    )


def test_kernels_that_fail_or_are_wrong_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "c_compiler", lambda: "/usr/bin/cc")
    fault = "The Triton kernels fail on cuda:0: RuntimeError: no code for cuda:0."
    assert kernels(failing).fault(GPU) == fault
    assert kernels(lambda device: [0.0, 1e-5]).work_on(GPU)
    wrong = "The Triton kernels are wrong on cuda:0: off by 2.0e-02."
    assert kernels(lambda device: [0.0, 0.02]).fault(GPU) == wrong
    assert "nan" in str(kernels(lambda device: [0.0, float("nan"), 1.0]).fault(GPU))
