"""Exported files read back: TorchScript and ONNX, of this project and of published recipes."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from zipasr.base.errors import CheckpointError, ResourceError
from zipasr.encoder.protocol import ChunkSize, Geometry
from zipasr.recognition.config import ModelFileConfig
from zipasr.recognition.exported_files import files_in
from zipasr.search.ctc_greedy import CtcOutput
from zipasr.search.transducer_step import DecoderLike, JoinerLike

if TYPE_CHECKING:
    from zipasr.recognition.onnx_runtime import OnnxGraph

Encode: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Features (N, T, 80) and lengths (N,) to encoder frames (N, T', C) and lengths (N,)."""


class Chunks(NamedTuple):
    """An encoder for speech as it comes.

    Attributes:
        size: how features are cut.
        start: makes the states of N streams before the first chunk.
        step: features (N, T, 80), valid lengths (N,) and states to frames (N, T', C), their valid
            lengths (N,), and the states after.
    """

    size: ChunkSize
    start: Callable[[int], list[Tensor]]
    step: Callable[[Tensor, Tensor, list[Tensor]], tuple[Tensor, Tensor, list[Tensor]]]


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model that was exported; it computes on the CPU.

    Attributes:
        path: of the file, of the encoder if there are several.
        encoder: features (N, T, 80) and lengths (N,) to frames (N, T', C) and lengths, or the
            same chunk by chunk.
        vocab_size: V; ``None`` if the file does not say.
        decoder: of a transducer, or ``None``.
        joiner: of a transducer, or ``None``.
        ctc_log_probs: frames to log-probabilities (N, T', V), or ``None``.
        geometry: features in, frames out.
    """

    path: Path
    encoder: Encode | Chunks
    vocab_size: int | None
    decoder: DecoderLike | None = None
    joiner: JoinerLike | None = None
    ctc_log_probs: CtcOutput | None = None
    geometry: Geometry = Geometry()


def read_model_file(config: ModelFileConfig, prefers_ctc: bool) -> ModelFile:
    """Read the model that the flags name.

    Args:
        config: names one.
        prefers_ctc: which head of a folder is read, where it has both.

    Raises:
        CheckpointError: a file is missing, or holds something else.
        ResourceError: the package that runs it is not installed.
        UserError: the folder holds several models.
    """
    if config.model is not None:
        files = files_in(config.model, prefers_ctc)
    elif config.nn_model_filename is not None:
        files = [config.nn_model_filename]
    else:
        files = [path for path in config.parts if path is not None]
    for path in files:
        if not path.is_file():
            raise CheckpointError(f"there is no file {path}.", "see that the path is right.")
    if len(files) == 1 and files[0].suffix != ".onnx":
        return _read_torchscript(files[0])
    if not importlib.util.find_spec("onnxruntime"):
        raise ResourceError(
            f"{files[0]} needs the package onnxruntime.", "pip install -r export-requirements.txt"
        )
    try:
        return _read_ctc_onnx(files[0]) if len(files) == 1 else _read_onnx(*files)
    except KeyError as problem:
        raise CheckpointError(
            f"{files[0]}: the files do not say their {problem.args[0]}.",
            "export the model again: sherpa-onnx needs this entry of their metadata, too.",
        ) from problem


def _read_torchscript(path: Path) -> ModelFile:
    try:
        module: Any = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        module.eval()
        encoder = module.encoder
        joiner = getattr(module, "joiner", None)
        ctc = getattr(module, "ctc_output", None)
        last = module.ctc_output if joiner is None else joiner.output_linear
    except (RuntimeError, AttributeError, ValueError) as problem:
        raise CheckpointError(
            f"{path} is not a recogniser in TorchScript.",
            "give a jit_script*.pt from export.py --jit 1; a pretrained.pt goes to --checkpoint.",
        ) from problem
    geometry = getattr(module, "geometry", {})
    return ModelFile(
        path,
        _scripted_chunks(encoder, geometry) if hasattr(encoder, "get_init_states") else encoder,
        next(tensor for name, tensor in last.named_parameters() if name.endswith("bias")).numel(),
        getattr(module, "decoder", None),
        joiner,
        ctc,
        Geometry.from_metadata(geometry),
    )


def _scripted_chunks(encoder: Any, geometry: Mapping[str, str]) -> Chunks:
    step, look_ahead = 2 * int(encoder.chunk_size), int(encoder.pad_length)
    size = ChunkSize(step + look_ahead, step, Geometry.from_metadata(geometry, look_ahead))

    def advance(
        features: Tensor, lens: Tensor, states: list[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        frames, _, after = encoder(features, torch.full_like(lens, size.frames), states)
        return frames, size.output_lens(lens, frames.size(1)), after

    return Chunks(size, lambda num: encoder.get_init_states(num, torch.device("cpu")), advance)


def _read_onnx(encoder: Path, decoder: Path, joiner: Path) -> ModelFile:
    from zipasr.recognition.onnx_runtime import OnnxDecoder, OnnxJoiner

    metadata, graph = _graph(decoder).metadata, _graph(encoder)
    return ModelFile(
        encoder,
        _onnx_encoder(graph, encoder),
        int(metadata["vocab_size"]),
        OnnxDecoder(decoder, int(metadata["context_size"])),  # type: ignore[arg-type]
        OnnxJoiner(joiner),
        geometry=Geometry.from_metadata(graph.metadata),
    )


def _read_ctc_onnx(path: Path) -> ModelFile:
    graph = _graph(path)
    width = graph.output_shape[-1]
    vocab_size = width if isinstance(width, int) else None
    return ModelFile(
        path,
        _onnx_encoder(graph, path),
        vocab_size,
        ctc_log_probs=torch.nn.Identity(),
        geometry=Geometry.from_metadata(graph.metadata),
    )


def _graph(path: Path) -> OnnxGraph:
    from onnxruntime.capi.onnxruntime_pybind11_state import (
        Fail,
        InvalidArgument,
        InvalidGraph,
        InvalidProtobuf,
        NotImplemented,
    )

    from zipasr.recognition.onnx_runtime import OnnxGraph

    try:
        return OnnxGraph(path)
    except (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf, NotImplemented) as problem:
        raise CheckpointError(
            f"{path} is no ONNX file that onnxruntime can run: {str(problem).splitlines()[0]}.",
            "export it again, or fetch it again.",
        ) from problem


def _onnx_encoder(graph: OnnxGraph, path: Path) -> Encode | Chunks:
    if "decode_chunk_len" in graph.metadata:
        frames, step = int(graph.metadata["T"]), int(graph.metadata["decode_chunk_len"])
        size = ChunkSize(frames, step, Geometry.from_metadata(graph.metadata, frames - step))
        return Chunks(size, graph.initial_states, lambda *inputs: _onnx_step(graph, size, *inputs))
    length = graph.input_shape[1]
    if graph.num_inputs != 2 or isinstance(length, int):
        what = "no lengths" if graph.num_inputs != 2 else f"utterances of {length} frames only"
        raise CheckpointError(
            f"{path} takes {what}: it was exported for other programs.",
            "export it with --keep-x-lens -1 and --dynamic-axes 1, the defaults.",
        )

    def encode(features: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        frames, num = graph(features, lens)
        return frames, num

    return encode


def _onnx_step(
    graph: OnnxGraph, size: ChunkSize, features: Tensor, lens: Tensor, states: list[Tensor]
) -> tuple[Tensor, Tensor, list[Tensor]]:
    frames, *after = graph(features, *states)
    return frames, size.output_lens(lens, frames.size(1)), after
