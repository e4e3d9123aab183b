"""Settings of exports, and of exported files that are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zipasr.base.config import flag
from zipasr.base.constants import FRAMES_PER_SECOND
from zipasr.base.errors import nearest
from zipasr.encoder.protocol import Geometry
from zipasr.recognition.config import KINDS, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What ONNX files take; the defaults are those that sherpa-onnx reads.

    Attributes:
        frames: of the utterance with which files are recorded; ``None``: some.
        is_fixed: whether files take one utterance of so many frames alone; of a model for speech as
            it comes, one chunk of one stream.
        takes_lengths: whether files take the lengths of utterances; else all frames count.
        uses_int32: whether integers have 32 bits, else 64.
    """

    frames: int | None = None
    is_fixed: bool = False
    takes_lengths: bool = True
    uses_int32: bool = False

    def client_limits(self) -> list[str]:
        """Return what sherpa-onnx will not do with the files, for the user."""
        flags = {
            "--static-shapes": self.is_fixed,
            "--keep-x-lens 0": not self.takes_lengths,
            "--use-int32-inputs 1": self.uses_int32,
        }
        return [
            f"{flag}: the ONNX files are for other programs than sherpa-onnx."
            for flag, is_on in flags.items()
            if is_on
        ]


EXPORT_FORMATS = ("pretrained", "torchscript", "onnx")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """Export."""

    format: tuple[str, ...] = flag(
        ("pretrained", "onnx"), f"comma list of {', '.join(EXPORT_FORMATS)}"
    )
    jit: bool = flag(False, "add torchscript to --format")
    enable_int8_quantization: bool = flag(True, "ONNX: also write files with 8-bit weights")
    fp16: bool = flag(False, "ONNX: also write files in half precision")
    dynamic_axes: bool = flag(
        True,
        "ONNX: any batch size and length; 0: one utterance of --max-len frames",
    )
    static_shapes: float = flag(
        0.0,
        "ONNX: all sizes are fixed, for NPUs: one utterance of so long, silence behind it; of a "
        "model that hears chunks, one stream; 0: any batch size and length",
        unit="seconds",
    )
    max_len: int = flag(
        -1,
        "ONNX: length of the utterance that the graphs are traced with; -1: any",
        unit="frames of 10 ms",
    )
    keep_x_lens: int = flag(-1, "ONNX: 0 removes the input of lengths; all frames count then")
    use_int32_inputs: bool = flag(False, "ONNX: 32-bit integer inputs instead of 64-bit")
    keywords_file: Path | None = flag(
        None,
        "phrases for the keyword spotter of sherpa-onnx, one per line; becomes keywords.txt",
    )
    output_dir: Path | None = flag(
        None,
        "folder to write to; none: in --exp-dir, named after checkpoints",
    )

    def __post_init__(self) -> None:
        for name in self.format:
            if name not in EXPORT_FORMATS:
                hint = nearest(name, EXPORT_FORMATS) or f"choose from {', '.join(EXPORT_FORMATS)}."
                raise ValueError(f"--format {name} is unknown. Fix: {hint}")
        if self.fp16 and "onnx" not in self.format:
            raise ValueError("--fp16 1 is for ONNX files: add onnx to --format")
        self._check_shape()

    def _check_shape(self) -> None:
        shortest = Geometry().min_frames
        if self.static_shapes:
            if not self.dynamic_axes or self.max_len != -1:
                raise ValueError("--static-shapes is --dynamic-axes 0 and --max-len in one: choose")
            if not self.static_shapes * FRAMES_PER_SECOND >= shortest:
                least = shortest / FRAMES_PER_SECOND
                raise ValueError(f"--static-shapes must be at least {least} seconds, or 0")
        if self.max_len != -1 and self.max_len < shortest:
            raise ValueError(f"--max-len must be at least {shortest} frames, or -1")
        if not self.dynamic_axes and self.max_len == -1:
            raise ValueError("--dynamic-axes 0 settles the length of utterances: add --max-len")
        if self.shape != Shape() and "onnx" not in self.format:
            raise ValueError(
                "--static-shapes, --dynamic-axes, --max-len, --keep-x-lens and --use-int32-inputs "
                "are for ONNX files: add onnx to --format"
            )

    @property
    def formats(self) -> set[str]:
        """All formats that are asked for."""
        return {*self.format, "torchscript"} if self.jit else {*self.format}

    @property
    def kinds(self) -> list[Kind]:
        """Precisions of the ONNX files."""
        wanted = {"": True, "int8": self.enable_int8_quantization, "fp16": self.fp16}
        return [kind for kind in KINDS if wanted[kind]]

    @property
    def shape(self) -> Shape:
        """What the ONNX files take."""
        frames = round(self.static_shapes * FRAMES_PER_SECOND) or self.max_len
        return Shape(
            frames=None if frames == -1 else frames,
            is_fixed=not self.dynamic_axes or self.static_shapes > 0,
            takes_lengths=self.keep_x_lens != 0,
            uses_int32=self.use_int32_inputs,
        )
