"""Headers of ONNX files are read as the package onnx reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zipasr.recognition.exported_files import hears_chunks, read_header

onnx = pytest.importorskip("onnx", reason="onnx is not installed")


def model(*, width: int = 80, **metadata: str) -> bytes:
    """Return the bytes of a small model with weights, two inputs and two outputs."""
    make, floats = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    weights = onnx.helper.make_tensor("w", floats, [1000], [0.5] * 1000)
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Identity", ["x"], ["y"]),
            onnx.helper.make_node("Identity", ["x_lens"], ["y_lens"]),
        ],
        "a graph",
        [make("x", floats, ["N", "T", width]), make("x_lens", onnx.TensorProto.INT64, ["N"])],
        [make("y", floats, ["N", "T", 300]), make("y_lens", onnx.TensorProto.INT64, ["N"])],
        [weights],
    )
    built = onnx.helper.make_model(graph)
    onnx.helper.set_model_props(built, metadata)
    return bytes(built.SerializeToString())


def test_metadata_and_shapes(tmp_path: Path) -> None:
    path = tmp_path / "encoder.onnx"
    path.write_bytes(model(model_type="zipformer2", comment="", decode_chunk_len="32"))
    header = read_header(path)
    assert header is not None
    expected = {"model_type": "zipformer2", "comment": "", "decode_chunk_len": "32"}
    assert header.metadata == expected
    assert header.inputs == {"x": ("N", "T", 80), "x_lens": ("N",)}
    assert header.outputs == {"y": ("N", "T", 300), "y_lens": ("N",)}
    assert hears_chunks(path)
    path.write_bytes(model(model_type="zipformer2"))
    assert not hears_chunks(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 something else", b"\xff" * 50])
def test_what_is_no_onnx_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert read_header(path) is None


@given(end=st.integers(1, 4000), place=st.integers(0, 4000), byte=st.integers(0, 255))
def test_damage_is_survived(
    end: int, place: int, byte: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "model.onnx"
    content = bytearray(model(vocab_size="300"))
    content[place % len(content)] = byte
    path.write_bytes(content[:end])
    read_header(path)  # None, or what can still be read: no other error
