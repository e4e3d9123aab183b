"""The CUDA kernels of ``kernels.elementwise``, compiled for the host, against their definitions."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from zipasr.kernels import elementwise
from zipasr.kernels.elementwise import ElementwiseKernel

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
KERNELS = {
    name: kernel
    for name, kernel in vars(elementwise).items()
    if isinstance(kernel, ElementwiseKernel)
}


def call_of(name: str, kernel: ElementwiseKernel, num_tensors: int, num_numbers: int) -> str:
    """C code that runs a kernel over arrays, as torch's template does."""
    inputs = [f"in[{i}][k]" for i in range(num_tensors)] + [f"at[{i}]" for i in range(num_numbers)]
    function = kernel.code.split("(")[0].split()[-1]
    if kernel.num_results == 1:
        body = f"out[0][k] = {function}<float>({', '.join(inputs)});"
    else:
        outs = [f"out[{i}][k]" for i in range(kernel.num_results)]
        body = f"{function}<float>({', '.join(inputs + outs)});"
    head = f"void run_{name}(int n, float** in, float** out, double* at)"
    return f'{kernel.code}\nextern "C" {head} {{ for (int k = 0; k < n; k++) {{ {body} }} }}\n'


@needs_compiler
def test_the_code_computes_the_definition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The very cases that are compared on a device, through a compiler that is at hand here."""
    calls = []

    def noted(
        self: ElementwiseKernel, *tensors: torch.Tensor, **numbers: float
    ) -> tuple[torch.Tensor, ...]:
        calls.append((self, tensors, numbers))
        found = self.definition(*(x.float() for x in tensors), **numbers)
        return tuple(x.to(tensors[0].dtype) for x in found)

    monkeypatch.setattr(ElementwiseKernel, "__call__", noted)
    assert max(elementwise._errors(torch.device("cpu"))) < elementwise.LARGEST_ERROR
    cases = [call for call in calls if call[1][0].dtype == torch.float32]
    assert {id(case[0]) for case in cases} == {id(kernel) for kernel in KERNELS.values()}
    names = {id(kernel): name for name, kernel in KERNELS.items()}
    code = [call_of(names[id(k)], k, len(tensors), len(at)) for k, tensors, at in cases]
    (tmp_path / "kernels.cpp").write_text("#include <math.h>\n" + "".join(code))
    command = ["g++", "-O1", "-shared", "-fPIC", "-o", "kernels.so", "kernels.cpp"]
    subprocess.run(command, cwd=tmp_path, check=True)
    library = ctypes.CDLL(str(tmp_path / "kernels.so"))
    for kernel, tensors, numbers in cases:
        arrays = [np.ascontiguousarray(x.numpy()) for x in torch.broadcast_tensors(*tensors)]
        outs = [np.empty_like(arrays[0]) for _ in range(kernel.num_results)]
        at = np.array(list(numbers.values()), np.float64)
        pointers = [
            (ctypes.c_void_p * len(group))(*(array.ctypes.data for array in group))
            for group in (arrays, outs)
        ]
        run = getattr(library, f"run_{names[id(kernel)]}")
        run(arrays[0].size, *pointers, ctypes.c_void_p(at.ctypes.data))
        wanted = kernel.definition(*(x.double() for x in tensors), **numbers)
        for out, values in zip(outs, wanted, strict=True):
            torch.testing.assert_close(torch.from_numpy(out).double(), values, rtol=1e-4, atol=1e-5)


def test_names_of_numbers_are_those_of_the_code() -> None:
    """Numbers are handed over by place: the names stand in the order of the definition."""
    for kernel in KERNELS.values():
        head = kernel.code.split("(", 1)[1].split(")")[0].replace("\n", " ")
        words = [part.split()[-1].lstrip("&") for part in head.split(",")]
        definition = kernel.definition.__code__
        named = definition.co_varnames[: definition.co_argcount]
        assert words[: len(named)] == list(named)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.cuda
def test_kernels_on_a_gpu() -> None:
    assert elementwise.self_check(torch.device("cuda")) is None
