"""ONNX files with the inputs, outputs and metadata that sherpa-onnx expects.

Names, order and types of inputs and outputs, and the metadata, are those of published exports.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import onnx
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.float16 import convert_float_to_float16
from torch import Tensor, nn

from zipasr.encoder.protocol import ExportLayout
from zipasr.exporting.config import Shape
from zipasr.exporting.graphs import (
    ChunkEncoder,
    CtcHead,
    FromInt32,
    FullChunkEncoder,
    Joining,
    Prediction,
    SentenceNll,
    WholeEncoder,
    WithoutLengths,
    example_batch,
)
from zipasr.lm.neural import NeuralLm
from zipasr.model.transducer import AsrModel
from zipasr.recognition.exported_files import INITIAL_STATE

OPSET = 13
#: The first that knows attention as one operation.
LM_OPSET = 14
AUTHOR = "zipasr"


class Graph(NamedTuple):
    """What becomes one file.

    Attributes:
        module: to be recorded.
        example: its arguments.
        inputs: their names.
        outputs: names of the results.
        axes: of inputs and outputs: the axes whose size is free.
        metadata: key -> value.
        opset: of the operators.
    """

    module: nn.Module
    example: tuple[Tensor, ...]
    inputs: Sequence[str]
    outputs: Sequence[str]
    axes: Mapping[str, Mapping[int, str]]
    metadata: Mapping[str, str]
    opset: int = OPSET


def transducer_graphs(model: AsrModel, layout: ExportLayout) -> dict[str, Graph]:
    """Return encoder, decoder and joiner of a transducer."""
    decoder, joiner = model.decoder, model.joiner
    assert decoder is not None
    assert joiner is not None
    head = joiner.encoder_proj
    kind = layout.model_type
    names = ("encoder_out", "encoder_out_lens")
    encoder = (
        chunk_graph(model, layout, head, names[0])
        if layout.is_streaming
        else whole_graph(model, head, names, _about(kind, f"non-streaming {kind}"))
    )
    joiner_dim = joiner.output_linear.in_features
    free = {0: "N"}
    vectors = torch.zeros(1, joiner_dim), torch.zeros(1, joiner_dim)
    return {
        "encoder": encoder,
        "decoder": Graph(
            Prediction(decoder, joiner),
            (torch.zeros(1, decoder.context_size, dtype=torch.int64),),
            ("y",),
            ("decoder_out",),
            {"y": free, "decoder_out": free},
            {"vocab_size": str(model.vocab_size), "context_size": str(decoder.context_size)},
        ),
        "joiner": Graph(
            Joining(joiner),
            vectors,
            ("encoder_out", "decoder_out"),
            ("logit",),
            {"encoder_out": free, "decoder_out": free, "logit": free},
            {"joiner_dim": str(joiner_dim)},
        ),
    }


def ctc_graph(model: AsrModel, layout: ExportLayout) -> Graph:
    """Return encoder and CTC head in one."""
    head, names = CtcHead(model), ("log_probs", "log_probs_len")
    if layout.is_streaming:
        return chunk_graph(model, layout, head, names[0])
    # Clients know one type, whichever encoder is inside.
    about = _about("zipformer2_ctc", f"non-streaming {layout.model_type} CTC")
    return whole_graph(model, head, names, about)


def lm_graph(model: NeuralLm) -> Graph:
    """Return a language model that scores whole sentences."""
    ends = str(model.sentence_ends_id)
    about = _about("lm", "language model of whole sentences")
    return Graph(
        SentenceNll(model),
        (torch.tensor([[2, 3, 4], [2, 3, 4]]), torch.tensor([3, 2])),
        ("x", "x_lens"),
        ("nll",),
        {"x": {0: "N", 1: "L"}, "x_lens": {0: "N"}, "nll": {0: "N"}},
        about | {"sos_id": ends, "eos_id": ends, "blank_id": "0"},
        LM_OPSET,
    )


def whole_graph(
    model: AsrModel, head: nn.Module, outputs: tuple[str, str], about: Mapping[str, str]
) -> Graph:
    """Return the encoder for whole utterances, with a head."""
    return Graph(
        WholeEncoder(model, head),
        example_batch(model),
        ("x", "x_lens"),
        outputs,
        {
            "x": {0: "N", 1: "T"},
            "x_lens": {0: "N"},
            outputs[0]: {0: "N", 1: "T_out"},
            outputs[1]: {0: "N"},
        },
        {**about, **model.geometry.to_metadata()},
    )


def shaped(graph: Graph, shape: Shape) -> Graph:
    """Return a graph that takes what is asked for; see ``Shape``.

    Args:
        graph: encoder, decoder or joiner.
        shape: what it shall take.
    """
    is_whole = "x_lens" in graph.inputs
    if is_whole and shape.frames is not None:
        features = graph.example[0].new_zeros(1, shape.frames, graph.example[0].size(2))
        example = features, torch.tensor([shape.frames])
        graph = graph._replace(example=example)
    if is_whole and not shape.takes_lengths:
        graph = graph._replace(
            module=WithoutLengths(graph.module),
            example=graph.example[:1],
            inputs=graph.inputs[:1],
            outputs=graph.outputs[:1],
            axes={name: graph.axes[name] for name in (graph.inputs[0], graph.outputs[0])},
        )
    if shape.uses_int32:
        narrow = tuple(t if t.is_floating_point() else t.to(torch.int32) for t in graph.example)
        module = FromInt32(graph.module, returns_states=not is_whole)
        graph = graph._replace(module=module, example=narrow)
    return graph._replace(axes={}) if shape.is_fixed else graph


def chunk_graph(model: AsrModel, layout: ExportLayout, head: nn.Module, output: str) -> Graph:
    """Return the encoder for one chunk of streams, with a head."""
    encoder = FullChunkEncoder(ChunkEncoder(model, head), layout)
    chunks, names, kind = model.chunk_encoder, layout.state_names, layout.model_type
    states = layout.to_file(model.init_state(1))
    axes = {"x": {0: "N"}, output: {0: "N"}}
    for name, dim in zip(names, chunks.batch_dims(), strict=True):
        axes[name] = axes[f"new_{name}"] = {dim: "N"}
    example = torch.zeros(1, encoder.num_frames, model.geometry.mel_bins)
    return Graph(
        encoder,
        (example, *states),
        ("x", *names),
        (output, *(f"new_{name}" for name in names)),
        axes,
        {
            **_about(kind, f"streaming {kind}"),
            **layout.streaming_metadata,
            **_initial_values(names, states),
            **model.geometry.to_metadata(),
        },
    )


def _initial_values(names: Sequence[str], states: Sequence[Tensor]) -> dict[str, str]:
    """Return what metadata say of states that do not begin with zeros, but with one number."""
    found = {}
    for name, state in zip(names, states, strict=True):
        if state.any():
            (value,) = {*state.flatten().tolist()}
            found[f"{INITIAL_STATE}{name}"] = repr(value)
    return found


@torch.no_grad()
def write_onnx(path: Path, graph: Graph) -> None:
    """Record a graph and write it with its metadata."""
    # In memory first: on a full disk the recorder would leave half a file and not say so.
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Sizes that are the same for every input are meant to become constants.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.module.eval(),
            graph.example,
            buffer,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=graph.opset,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_axes={name: dict(axes) for name, axes in graph.axes.items()},
        )
    recorded = onnx.load_from_string(buffer.getvalue())
    for key, value in graph.metadata.items():
        recorded.metadata_props.add(key=key, value=value)
    _settle_states(recorded)
    onnx.checker.check_model(recorded)
    onnx.save(recorded, str(path))


def write_int8(path: Path, source: Path, is_decoder: bool) -> None:
    """Write a file whose matrices have 8 bits; activations are measured as they come."""
    kinds = ["MatMul", "Gather"] if is_decoder else ["MatMul"]
    # Advice to prepare the file first does not hold for dynamic quantisation.
    before = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        quantize_dynamic(source, path, op_types_to_quantize=kinds, weight_type=QuantType.QInt8)
    except DecodeError as problem:
        # Half of its intermediate file was written.
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from problem
    finally:
        logging.root.setLevel(before)


def write_fp16(path: Path, source: Path) -> None:
    """Write a file that computes in half precision; inputs and outputs stay float32."""
    with warnings.catch_warnings():
        # Numbers too small for half precision become the smallest one, or zero.
        warnings.simplefilter("ignore")
        half = convert_float_to_float16(onnx.load(str(source)), keep_io_types=True)
    onnx.save(half, str(path))


def _settle_states(recorded: onnx.ModelProto) -> None:
    """Give the states after a chunk the shapes of those before it, which the recorder lost."""
    before = {value.name: value for value in recorded.graph.input}
    for output in recorded.graph.output:
        if state := before.get(output.name.removeprefix("new_")):
            output.type.CopyFrom(state.type)


def _about(model_type: str, comment: str) -> dict[str, str]:
    return {"model_type": model_type, "version": "1", "model_author": AUTHOR, "comment": comment}
