"""Exported graphs run by onnxruntime, with the faces that searches know."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import torch
from torch import Tensor

from zipasr.search.steps import TransducerSteps


class OnnxGraph:
    """One file.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = [value.name for value in self._session.get_inputs()]

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """Run it; inputs and outputs in the order of the file."""
        arrays = [tensor.detach().contiguous().numpy() for tensor in inputs]
        named = dict(zip(self._inputs, arrays, strict=True))
        return [torch.from_numpy(array) for array in self._session.run(None, named)]


class OnnxDecoder:
    """Contexts (M, C) to projected predictions (M, 1, J)."""

    blank_id = 0

    def __init__(self, path: Path, context_size: int) -> None:
        self.context_size = context_size
        self._graph = OnnxGraph(path)

    def __call__(self, contexts: Tensor, need_pad: bool = False) -> Tensor:
        """Predict; histories are always whole, ``need_pad`` is there for the face."""
        assert not need_pad
        return self._graph(contexts)[0].unsqueeze(1)


class OnnxJoiner:
    """Projected frames and predictions (..., J) to logits (..., V); leading axes broadcast."""

    def __init__(self, path: Path) -> None:
        self._graph = OnnxGraph(path)
        self.encoder_proj = self.decoder_proj = torch.nn.Identity()

    def __call__(self, frames: Tensor, predictions: Tensor, project_input: bool = False) -> Tensor:
        """Score; inputs are always projected, ``project_input`` is there for the face."""
        assert not project_input
        shape = torch.broadcast_shapes(frames.shape, predictions.shape)  # type: ignore[no-untyped-call]
        # The file has one axis of frames.
        flat = (tensor.expand(shape).reshape(-1, shape[-1]) for tensor in (frames, predictions))
        return self._graph(*flat)[0].reshape(*shape[:-1], -1)


def onnx_steps(decoder: Path, joiner: Path, context_size: int) -> TransducerSteps:
    """Return the steps of a search through exported files."""
    prediction, joining = OnnxDecoder(decoder, context_size), OnnxJoiner(joiner)
    return TransducerSteps(prediction, joining)  # type: ignore[arg-type]
