"""Header of an ONNX file: metadata, inputs and outputs, read without any package for ONNX."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

Shape: TypeAlias = tuple[int | str, ...]
"""Sizes of a tensor; those that are free have names."""

# Numbers of fields in onnx.proto, by message.
_MODEL_GRAPH, _MODEL_METADATA = 7, 14
_GRAPH_INPUT, _GRAPH_OUTPUT = 11, 12


class OnnxHeader(NamedTuple):
    """What a file says about itself.

    Attributes:
        metadata: its entries.
        inputs: name to shape, in order.
        outputs: name to shape, in order.
    """

    metadata: Mapping[str, str]
    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]


def read_header(path: Path) -> OnnxHeader | None:
    """Read the header of a file; ``None`` if it is no ONNX file.

    Weights are skipped, not read.
    """
    metadata: dict[str, str] = {}
    inputs: dict[str, Shape] = {}
    outputs: dict[str, Shape] = {}
    try:
        with path.open("rb") as file, _mapped(file.fileno()) as content:
            for number, start, end in _fields(content, 0, len(content)):
                if number == _MODEL_METADATA:
                    entry = dict(_texts(content, start, end))
                    metadata[entry[1]] = entry.get(2, "")
                elif number == _MODEL_GRAPH:
                    for part, first, last in _fields(content, start, end):
                        if part in (_GRAPH_INPUT, _GRAPH_OUTPUT):
                            values = inputs if part == _GRAPH_INPUT else outputs
                            values.update([_value(content, first, last)])
    except (IndexError, KeyError, ValueError):
        return None
    return OnnxHeader(metadata, inputs, outputs)


def _mapped(descriptor: int) -> mmap.mmap:
    return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)


def _value(content: mmap.mmap, start: int, end: int) -> tuple[str, Shape]:
    """Read a ValueInfoProto: name = 1, type = 2, of which tensor_type = 1, shape = 2, dim = 1."""
    name = next(text for number, text in _texts(content, start, end) if number == 1)
    spans = [(start, end)]
    for wanted in (2, 1, 2, 1):
        spans = [
            (first, last)
            for span in spans
            for number, first, last in _fields(content, *span)
            if number == wanted and last >= first
        ]
    return name, tuple(_size(content, *span) for span in spans)


def _size(content: mmap.mmap, start: int, end: int) -> int | str:
    """Read a dimension: dim_value = 1, a number; or dim_param = 2, a name."""
    for number, first, last in _fields(content, start, end):
        if number == 2:
            return content[first:last].decode()
        return first  # of a number, what stands for the start is its value
    return ""


def _texts(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, str]]:
    for number, first, last in _fields(content, start, end):
        if last >= first and number in (1, 2):
            yield number, content[first:last].decode(errors="replace")


def _fields(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the fields of a message: number, and where its bytes start and end.

    For a number that stands for itself, the start is its value and the end is -1.

    Source: the wire format of protocol buffers.
    """
    place = start
    while place < end:
        key, place = _number(content, place)
        kind = key & 7
        if kind == 0:
            value, place = _number(content, place)
            yield key >> 3, value, -1
        elif kind == 2:
            size, place = _number(content, place)
            yield key >> 3, place, place + size
            place += size
        elif kind in (1, 5):
            place += 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
    if place != end:
        raise ValueError("a field ends after its message")


def _number(content: mmap.mmap, place: int) -> tuple[int, int]:
    """Read a number of 7 bits a byte, the lowest first; return it and what follows it."""
    value = shift = 0
    while True:
        byte = content[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
        shift += 7
