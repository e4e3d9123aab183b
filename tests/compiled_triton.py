"""Triton kernels compiled for GPUs that are not here, and what the machine code needs."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
# A100, H100 and H200, and B200, for which Triton 3.2 has no assembler.
CAPABILITIES = (80, 90, *([100] if (TOOLS / "ptxas-blackwell").is_file() else []))


def compile_everywhere(
    kernel: Any, types: Mapping[str, str], options: Mapping[str, int], **constants: Any
) -> list[str]:
    """Return the PTX code of a kernel for each of ``CAPABILITIES``; none may spill registers.

    Args:
        kernel: the function.
        types: of its arguments by name, in order.
        options: of the compiler, such as ``num_warps``.
        constants: the values of its last arguments.
    """
    signature = {**types, **dict.fromkeys(constants, "constexpr")}
    assert list(signature) == kernel.arg_names
    codes = []
    for capability in CAPABILITIES:
        source = ASTSource(kernel, signature, constants)
        made = triton.compile(
            source, target=GPUTarget("cuda", capability, 32), options=dict(options)
        )
        usage = resources(made.asm["cubin"])
        spilled = usage["STACK"] + usage["LOCAL"]
        assert not spilled, f"{kernel.__name__} spills for sm_{capability}: {usage}"
        codes.append(made.asm["ptx"])
    return codes


def resources(cubin: bytes) -> dict[str, int]:
    """Return what a kernel uses: registers of a thread (REG), bytes of spilled ones (STACK)."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(TOOLS / "cuobjdump"), "-res-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in re.findall(r"([A-Z]+):(\d+)", said)}
