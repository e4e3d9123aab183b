"""Files of an exported folder: which there are, and what the header of an ONNX file says."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from zipasr.audio.sound_profile import PROFILE
from zipasr.base.config import flag_name
from zipasr.base.errors import CheckpointError, UserError
from zipasr.recognition.config import (
    KINDS,
    PART_FLAGS,
    PARTS,
    Kind,
    ModelFileConfig,
    RecognitionConfig,
)
from zipasr.recognition.export_check import CONFIDENCE, TABLE, check_files
from zipasr.text.timed_words import WORD_START
from zipasr.text.tokenizer import unit_of

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


#: Searches of exported files whose calibration is that of the run.
PLAIN_METHODS = ("greedy_search", "modified_beam_search", "ctc-greedy-search")

#: Metadata of a state that does not begin with zeros: its name behind this, and its number.
INITIAL_STATE = "initial_"

# An entry of the metadata of an encoder that hears chunks.
_CHUNKS = "decode_chunk_len"


def in_kind(path: Path, kind: Kind) -> Path:
    """Return the name of a float32 file in another precision."""
    return path.with_suffix(f".{kind}.onnx") if kind else path


def kind_of(name: str) -> Kind:
    """Return the precision of a file."""
    stem = name.removesuffix(".onnx")
    return next((kind for kind in KINDS if kind and stem.endswith(f".{kind}")), "")


def is_exported_folder(path: Path) -> bool:
    """Say whether a folder holds ONNX files."""
    return path.is_dir() and any(path.glob("*.onnx"))


def files_in(folder: Path, prefers_ctc: bool, kind: Kind = "") -> list[Path]:
    """Return the files of one model in a folder: of a transducer three, of a CTC head one.

    Args:
        folder: of exported files.
        prefers_ctc: which head is read, where it has both.
        kind: precision of the files.

    Raises:
        CheckpointError: there is no such folder; a file is missing, damaged or of another export.
        UserError: the folder holds several models.
    """
    if not folder.is_dir():
        raise CheckpointError(
            f"there is no folder --model {folder}.", "see that the path is right."
        )
    names = sorted(path.name for path in folder.glob("*.onnx") if kind_of(path.name) == kind)
    found = {
        part: [name for name in names if name.startswith((f"{part}-", f"{part}."))]
        for part in (*PARTS, "model")
    }
    is_ctc = bool(found["model"]) and (prefers_ctc or not found["encoder"])
    files = []
    for part in ("model",) if is_ctc else PARTS:
        if not found[part]:
            raise CheckpointError(
                f"--model {folder} has no {part}*.onnx of {kind or 'float32'}.",
                "name a folder from export.py, or the files one by one; that of a training run is "
                "--exp-dir.",
            )
        if len(found[part]) > 1:
            raise UserError(
                f"--model {folder} holds several models: {', '.join(found[part])}.",
                f"name the files of one: {'--nn-model-filename' if is_ctc else PART_FLAGS[0]}.",
            )
        files.append(folder / found[part][0])
    # A table may be elsewhere, and calibrations may be done without.
    beside = (name for name in (TABLE, CONFIDENCE) if (folder / name).is_file())
    check_files(folder, [*(file.name for file in files), *beside, PROFILE])
    return files


def plain_way(method: str, beam_size: int) -> str:
    """Name a search of exported files without language model, hot-words or penalties."""
    beam = f" beam-size-{beam_size}" if method == "modified_beam_search" else ""
    return f"{method}{beam}"


def hears_chunks(encoder: Path) -> bool:
    """Say whether an encoder was exported for speech as it comes."""
    header = read_header(encoder)
    return header is not None and _CHUNKS in header.metadata


def runs_in_sherpa(files: Sequence[Path], table: Path) -> bool:
    """Say whether sherpa-onnx can recognise whole recordings of any length with a model.

    It ends the process where a file lacks what it needs, or has another vocabulary than the table.

    Args:
        files: of the three parts of a transducer, or of a CTC model.
        table: of tokens.
    """
    encoder, *others = (read_header(file) for file in files)
    if encoder is None or None in others or not table.is_file() or _CHUNKS in encoder.metadata:
        return False
    frames = next(iter(encoder.inputs.values()), ())
    if len(encoder.inputs) != 2 or len(frames) != 3 or isinstance(frames[1], int):
        return False
    named = others[0].metadata.get("vocab_size") if others and others[0] is not None else None
    last = [shape[-1:] for shape in encoder.outputs.values()][:1]
    sizes = {named} if others else {str(size) for shape in last for size in shape}
    lines = table.read_bytes().splitlines()
    return "model_type" in encoder.metadata and sizes == {str(len(lines))}


def check_settings(files: ModelFileConfig, config: RecognitionConfig) -> None:
    """Refuse settings that say something else about the model than its files.

    Raises:
        UserError: names them.
    """
    place, checkpoint = files.place, config.checkpoint.checkpoint
    if checkpoint is not None:
        raise UserError(
            f"there are two models: --checkpoint {checkpoint} and {place}.", "give one of them."
        )
    if config.model_flags:
        names = " and ".join(flag_name(name) for name in config.model_flags)
        raise UserError(
            f"{names} cannot change the model in {place}.",
            "leave it out: an exported file has its sizes and its chunks inside.",
        )
    if config.decoding.use_bf16:
        raise UserError(
            f"--use-bf16 1: {place} computes in the precision of its export.", "leave it out."
        )


def modeling_unit(pieces: Sequence[str]) -> str:
    """Return what sherpa-onnx calls the unit of tokens, by which it cuts hot-words.

    Pieces of bytes are pieces to it, which it knows by their characters.

    Args:
        pieces: of the table of tokens.
    """
    if unit_of(pieces) != "char":
        return "bpe"
    return "cjkchar+bpe" if WORD_START in pieces else "cjkchar"
