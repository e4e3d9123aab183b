"""Exported graphs run by onnxruntime, with the faces that searches know."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import torch
from torch import Tensor

from zipasr.recognition.exported_files import INITIAL_STATE
from zipasr.search.transducer_step import TransducerSteps


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
        inputs = self._session.get_inputs()
        self._inputs = [value.name for value in inputs]
        self._narrow = {value.name for value in inputs if value.type == "tensor(int32)"}
        # Of a file without free axes; the first one of an input is that of the batch.
        self._is_single = all(isinstance(size, int) for value in inputs for size in value.shape)

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """Run it; inputs and outputs in the order of the file."""
        if self._is_single and inputs[0].size(0) > 1:
            rows = [self(*(one[i : i + 1] for one in inputs)) for i in range(len(inputs[0]))]
            return [torch.cat(parts) for parts in zip(*rows, strict=True)]
        arrays = {
            name: tensor.to(torch.int32) if name in self._narrow else tensor
            for name, tensor in zip(self._inputs, inputs, strict=True)
        }
        named = {name: tensor.detach().contiguous().numpy() for name, tensor in arrays.items()}
        return [torch.from_numpy(array) for array in self._session.run(None, named)]

    @property
    def metadata(self) -> dict[str, str]:
        """What the file says about itself."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    @property
    def num_inputs(self) -> int:
        """How many inputs it takes."""
        return len(self._inputs)

    @property
    def input_shape(self) -> list[int | str]:
        """Sizes of the first input; those that are free have names."""
        return list(self._session.get_inputs()[0].shape)

    @property
    def output_shape(self) -> list[int | str]:
        """Sizes of the first output; those that are free have names."""
        return list(self._session.get_outputs()[0].shape)

    def initial_states(self, num: int) -> list[Tensor]:
        """Return the states of ``num`` streams before the first chunk: all inputs but features.

        They are zeros where the metadata does not say another number.
        """
        about = self.metadata
        return [
            torch.full(
                [size if isinstance(size, int) else num for size in value.shape],
                float(about.get(f"{INITIAL_STATE}{value.name}", 0.0)),
                dtype=torch.float32 if value.type == "tensor(float)" else torch.int64,
            )
            for value in self._session.get_inputs()[1:]
        ]


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
