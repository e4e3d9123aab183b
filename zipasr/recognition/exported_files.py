"""Files of an exported model in a folder: which they are, told by their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zipasr.base.errors import CheckpointError, UserError
from zipasr.recognition.config import KINDS, PART_FLAGS, PARTS, Kind
from zipasr.text.timed_words import WORD_START
from zipasr.text.tokenizer import unit_of

#: Tokens and their numbers, one on a line.
TABLE = "tokens.txt"

# An entry of the metadata of an encoder that hears chunks.
_CHUNKS = b"decode_chunk_len"


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
        CheckpointError: there is no such folder, or a file is missing.
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
                "name a folder from export.py, or the files one by one.",
            )
        if len(found[part]) > 1:
            raise UserError(
                f"--model {folder} holds several models: {', '.join(found[part])}.",
                f"name the files of one: {'--nn-model-filename' if is_ctc else PART_FLAGS[0]}.",
            )
        files.append(folder / found[part][0])
    return files


def hears_chunks(encoder: Path) -> bool:
    """Say whether an encoder was exported for speech as it comes."""
    return _CHUNKS in encoder.read_bytes()


def modeling_unit(pieces: Sequence[str]) -> str:
    """Return what sherpa-onnx calls the unit of tokens, by which it cuts hot-words.

    Pieces of bytes are pieces to it, which it knows by their characters.

    Args:
        pieces: of the table of tokens.
    """
    if unit_of(pieces) != "char":
        return "bpe"
    return "cjkchar+bpe" if WORD_START in pieces else "cjkchar"
