"""Names of ONNX files: the part of the model, what it was made of, its precision."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

#: Precision of a file as it stands in its name; nothing for float32.
Kind: TypeAlias = Literal["", "int8", "fp16"]

KINDS: tuple[Kind, ...] = ("", "int8", "fp16")


def in_kind(path: Path, kind: Kind) -> Path:
    """Return the name of a float32 file in another precision."""
    return path.with_suffix(f".{kind}.onnx") if kind else path


def kind_of(name: str) -> Kind:
    """Return the precision of a file."""
    stem = name.removesuffix(".onnx")
    return next((kind for kind in KINDS if kind and stem.endswith(f".{kind}")), "")
