"""ONNX files with the inputs, outputs and metadata that sherpa-onnx expects.

Names, order and types of inputs and outputs, and the metadata, are those of published exports.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn

from zipasr.encoder.layer_states import BATCH_DIMS, NUM_STATES
from zipasr.encoder.streaming import chunk_frames
from zipasr.encoder.zipformer import ZipformerConfig
from zipasr.export.graphs import (
    ChunkEncoder,
    CtcHead,
    FullChunkEncoder,
    Joining,
    Prediction,
    WholeEncoder,
    client_states,
)
from zipasr.model.inputs import FEATURE_DIM
from zipasr.model.transducer import AsrModel

OPSET = 13
AUTHOR = "zipasr"

#: Length of the utterance with which the encoder is recorded; any other will do.
EXAMPLE_FRAMES = 100

_LAYER_STATES = (
    "cached_key",
    "cached_nonlin_attn",
    "cached_val1",
    "cached_val2",
    "cached_conv1",
    "cached_conv2",
)


class Graph(NamedTuple):
    """What becomes one file.

    Attributes:
        module: to be recorded.
        example: its arguments.
        inputs: their names.
        outputs: names of the results.
        axes: of inputs and outputs: the axes whose size is free.
        metadata: key -> value.
    """

    module: nn.Module
    example: tuple[Tensor, ...]
    inputs: Sequence[str]
    outputs: Sequence[str]
    axes: Mapping[str, Mapping[int, str]]
    metadata: Mapping[str, str]


def transducer_graphs(
    model: AsrModel, config: ZipformerConfig, streaming: bool
) -> dict[str, Graph]:
    """Return encoder, decoder and joiner of a transducer."""
    decoder, joiner = model.decoder, model.joiner
    assert decoder is not None
    assert joiner is not None
    head = joiner.encoder_proj
    encoder = (
        chunk_graph(model, config, head, "encoder_out")
        if streaming
        else whole_graph(
            model,
            head,
            ("encoder_out", "encoder_out_lens"),
            "zipformer2",
            "non-streaming zipformer2",
        )
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


def ctc_graph(model: AsrModel, config: ZipformerConfig, streaming: bool) -> Graph:
    """Return encoder and CTC head in one."""
    head = CtcHead(model)
    if streaming:
        return chunk_graph(model, config, head, "log_probs")
    names = ("log_probs", "log_probs_len")
    return whole_graph(model, head, names, "zipformer2_ctc", "non-streaming zipformer2 CTC")


def whole_graph(
    model: AsrModel, head: nn.Module, outputs: tuple[str, str], model_type: str, comment: str
) -> Graph:
    """Return the encoder for whole utterances, with a head."""
    example = torch.zeros(1, EXAMPLE_FRAMES, FEATURE_DIM), torch.tensor([EXAMPLE_FRAMES])
    return Graph(
        WholeEncoder(model, head),
        example,
        ("x", "x_lens"),
        outputs,
        {
            "x": {0: "N", 1: "T"},
            "x_lens": {0: "N"},
            outputs[0]: {0: "N", 1: "T_out"},
            outputs[1]: {0: "N"},
        },
        _about(model_type, comment),
    )


def chunk_graph(model: AsrModel, config: ZipformerConfig, head: nn.Module, output: str) -> Graph:
    """Return the encoder for one chunk of streams, with a head."""
    encoder = FullChunkEncoder(ChunkEncoder(model, head))
    *layers, embed, processed = client_states(model.init_state(1).to_list())
    names = state_names(len(layers) // NUM_STATES)
    dims = BATCH_DIMS * (len(layers) // NUM_STATES) + (0, 0)
    axes = {"x": {0: "N"}, output: {0: "N"}}
    for name, dim in zip(names, dims, strict=True):
        axes[name] = axes[f"new_{name}"] = {dim: "N"}
    example = torch.zeros(1, encoder.num_frames, FEATURE_DIM)
    return Graph(
        encoder,
        (example, *layers, embed, processed.to(torch.int64)),
        ("x", *names),
        (output, *(f"new_{name}" for name in names)),
        axes,
        _about("zipformer2", "streaming zipformer2") | streaming_metadata(config),
    )


def state_names(num_layers: int) -> list[str]:
    """Return the names of the states, in their order."""
    layers = [f"{name}_{i}" for i in range(num_layers) for name in _LAYER_STATES]
    return [*layers, "embed_states", "processed_lens"]


def streaming_metadata(config: ZipformerConfig) -> dict[str, str]:
    """Return what sherpa-onnx needs to make the states; lists have one value for each stack."""
    (size,), (left,) = config.chunk_size, config.left_context_frames
    left = max(1, left // size) * size
    lists = {
        "num_encoder_layers": config.per_stack("num_encoder_layers"),
        "encoder_dims": config.per_stack("encoder_dim"),
        "cnn_module_kernels": config.per_stack("cnn_module_kernel"),
        "left_context_len": tuple(left // factor for factor in config.downsampling_factor),
        "query_head_dims": config.per_stack("query_head_dim"),
        "value_head_dims": config.per_stack("value_head_dim"),
        "num_heads": config.per_stack("num_heads"),
    }
    numbers = {"decode_chunk_len": str(2 * size), "T": str(chunk_frames(size))}
    return numbers | {name: ",".join(map(str, values)) for name, values in lists.items()}


@torch.no_grad()
def write_onnx(path: Path, graph: Graph) -> None:
    """Record a graph and write it with its metadata."""
    with warnings.catch_warnings():
        # Sizes that are the same for every input are meant to become constants.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.module.eval(),
            graph.example,
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_axes={name: dict(axes) for name, axes in graph.axes.items()},
        )
    recorded = onnx.load(str(path))
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
    finally:
        logging.root.setLevel(before)


def _settle_states(recorded: onnx.ModelProto) -> None:
    """Give the states after a chunk the shapes of those before it, which the recorder lost."""
    before = {value.name: value for value in recorded.graph.input}
    for output in recorded.graph.output:
        if state := before.get(output.name.removeprefix("new_")):
            output.type.CopyFrom(state.type)


def _about(model_type: str, comment: str) -> dict[str, str]:
    return {"model_type": model_type, "version": "1", "model_author": AUTHOR, "comment": comment}
