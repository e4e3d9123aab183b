"""Training and decoding on a pretended CUDA device: values, waits of the host, launches.

A process cannot be told otherwise once it believes in the device: each module has one of its own.
"""

import importlib.util

import pytest
import torch

from tests.other_process import run_python

needs_pretended_device = pytest.mark.skipif(
    not hasattr(torch._C, "_ensureCUDADeviceGuardSet"), reason="this torch cannot pretend a device"
)
needs_numba = pytest.mark.skipif(
    importlib.util.find_spec("numba") is None, reason="numba stands for Triton's kernels"
)


@needs_numba
@needs_pretended_device
@pytest.mark.parametrize("modules", [("rules", "decoding"), ("training",)], ids="-".join)
def test_on_the_device(modules: tuple[str, ...]) -> None:
    files = [f"tests/pretended_cuda/on_device_{module}.py" for module in modules]
    command = "-m pytest -q -p no:cacheprovider"
    run_python(*command.split(), *files, CUDA_VISIBLE_DEVICES="")
