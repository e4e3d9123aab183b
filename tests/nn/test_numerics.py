"""Which devices multiply bfloat16 matrices in hardware."""

from __future__ import annotations

import pytest
import torch

from zipasr.nn.numerics import has_bfloat16

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("limit", "found"),
    [
        (None, True),
        ("", True),
        ("default", True),
        ("AVX512_CORE_BF16", True),
        ("avx512_core_amx", True),
        ("AVX2", False),
        ("AVX512_CORE_VNNI", False),
    ],
)
def test_a_processor_with_bfloat16_that_is_held_to_less(
    limit: str | None, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    if limit is not None:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert has_bfloat16(CPU) == found


def test_a_processor_without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    assert not has_bfloat16(CPU)
