"""Write, check, read, find and remove checkpoints."""

from __future__ import annotations

import pathlib
import pickle
import pickletools
import re
import shutil
import warnings
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from zipasr.base.errors import CheckpointError, ResourceError
from zipasr.base.files import atomic_path

ZIP_MAGIC = b"PK\x03\x04"
PICKLE_MAGIC = b"\x80"
# Of the format that torch wrote before version 1.6: pickles, then the bytes of the tensors.
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
LEGACY_PICKLES = 5
POINTER_MAGIC = b"version https://git-lfs"
PLAIN_TYPES = (type(None), bool, int, float, str, bytes, Tensor, nn.Parameter, torch.dtype)
# Published checkpoints carry the paths of their flags; a path object does nothing when loaded.
HARMLESS_TYPES: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    pathlib.PosixPath,
    pathlib.WindowsPath,
    pathlib.PurePath,
]
ITERATION_NAME = re.compile(r"checkpoint-(\d+)\.pt")


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint that is complete on disk under its name, or leave everything as it was.

    Args:
        path: file to make or replace; its folder is made when missing.
        content: entries by name: numbers, text, tensors, and lists, tuples and dictionaries of
            those.

    Raises:
        CheckpointError: an entry is of another type, so that it could not be read back safely.
        ResourceError: the file cannot be written, for example because the disk is full.
    """
    check_plain(dict(content), "checkpoint")
    try:
        with atomic_path(path) as temporary:
            torch.save(dict(content), temporary)
            check_written(temporary)
    # torch reports a failed write as RuntimeError, or as OSError, depending on where it happens.
    except (OSError, RuntimeError, zipfile.BadZipFile) as error:
        raise ResourceError(
            f"Cannot write {path}: {why_not_written(error)} ({free_space(path.parent)}).",
            "free some disk space or choose another --exp-dir; earlier checkpoints are untouched.",
        ) from error


def why_not_written(error: Exception) -> str:
    """Say why a file could not be written; of a full disk torch tells positions in the file."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if "unexpected pos" in str(error) or "failed writing" in str(error):
        return "it ended before all was written, as on a full disk"
    return first_line(error)


def check_plain(value: object, where: str) -> None:
    """Refuse a value that is not made of numbers, text, tensors, lists, tuples, dictionaries."""
    if type(value) in (dict, OrderedDict):
        for key, item in value.items():  # type: ignore[attr-defined]
            check_plain(key, f"a key of {where}")
            check_plain(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple, torch.Size):
        for index, item in enumerate(value):  # type: ignore[arg-type]
            check_plain(item, f"{where}[{index}]")
    elif type(value) not in PLAIN_TYPES:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise CheckpointError(
            f"{where} is a {kind}, which cannot be saved.",
            "convert it to numbers, text, lists, dictionaries or tensors.",
        )


def check_written(path: Path) -> None:
    """Read a checkpoint back and compare its checksums; raise ``BadZipFile`` when it is broken."""
    with zipfile.ZipFile(path) as archive:
        if not archive.namelist() or archive.testzip() is not None:
            raise zipfile.BadZipFile("what was written reads back as something else")


ReadCheckpoint: TypeAlias = Callable[[Path], dict[str, Any]]
"""Reads a checkpoint as ``load_checkpoint`` does."""


def reader_of_parts() -> ReadCheckpoint:
    """Return a ``load_checkpoint`` for who needs a few entries of checkpoints, for a short time.

    Each file is read once, however often it is asked for; values are read from the disk as they
    are looked at.
    """
    return cache(partial(load_checkpoint, mapped=True))


def load_checkpoint(path: Path, mapped: bool = False) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; no code stored in the file is run.

    The checksums in the file are compared, which torch does not do by itself.

    Args:
        path: of the file.
        mapped: whether values stay in the file until they are looked at.

    Raises:
        CheckpointError: the file is missing, empty, cut off, damaged, a git-lfs pointer, holds
            objects other than tensors and plain values, or is no checkpoint at all.
    """
    check_readable(path)
    try:
        with torch.serialization.safe_globals(HARMLESS_TYPES), warnings.catch_warnings():
            # Of files that are no checkpoints of torch's, which are refused in our words.
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            content = torch.load(
                path, map_location="cpu", weights_only=True, mmap=mapped and _is_archive(path)
            )
    # The reader follows whatever a damaged file says, so it can fail in any way.
    except Exception as error:
        raise unreadable_file_error(path, error) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__} instead of named entries.",
            "choose a file written by train.py.",
        )
    return content


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(ZIP_MAGIC)) == ZIP_MAGIC


def check_readable(path: Path) -> None:
    """Recognise a file that cannot be a checkpoint, or is damaged, without loading it."""
    if not path.is_file():
        raise no_file_error(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(len(POINTER_MAGIC))
    except OSError as problem:
        raise CheckpointError(
            f"{path} cannot be read: {problem.strerror}.", "choose another file."
        ) from problem
    if size == 0:
        raise CheckpointError(f"{path} is empty (0 bytes).", "copy or download it again.")
    if start == POINTER_MAGIC:
        raise CheckpointError(f"{path} is a git-lfs pointer ({size} bytes).", "run git lfs pull")
    if any(magic.startswith(start) for magic in (ZIP_MAGIC, LEGACY_MAGIC)):
        raise cut_file_error(path)
    if start.startswith(ZIP_MAGIC):
        check_archive(path)
    elif not start.startswith(PICKLE_MAGIC):
        raise other_file_error(path, start)


def other_file_error(path: Path, start: bytes) -> CheckpointError:
    """Return the error of a file of another kind, by its first bytes."""
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return CheckpointError(f"{path} is a web page.", "download the file itself.")
    return CheckpointError(
        f"{path} is not a checkpoint: it begins with {start[:16]!r}.",
        f"give its folder, {path.parent}, to ./transcribe.py with --model."
        if path.suffix == ".onnx"
        else "choose a file written by train.py.",
    )


def no_file_error(path: Path) -> CheckpointError:
    """Return the error of a path that is no file; says what there is, and what to give."""
    if not path.is_dir():
        what = "is no file" if path.exists() else "does not exist"
        return CheckpointError(f"{path} {what}; {describe(path.parent)}.")
    return CheckpointError(
        f"{path} is a folder, not a checkpoint; {describe(path)}.",
        "give it to ./transcribe.py with --model, or give a .pt file."
        if any(path.glob("*.onnx"))
        else "give a .pt file in it, or the folder of a run with --exp-dir.",
    )


def check_archive(path: Path) -> None:
    """Recognise a cut or damaged archive, and an exported model: code that must not be run."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            damaged = first_damaged(archive)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise cut_file_error(path) from None
    if damaged is not None:
        raise CheckpointError(
            f"{path} is damaged: {damaged!r} in it does not have the checksum that it was written "
            "with.",
            "copy or download it again, or use an earlier checkpoint.",
        )
    if any(name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(
            f"{path} is a TorchScript model, which holds code.",
            "choose the checkpoint that it was exported from, such as pretrained.pt.",
        )


def first_damaged(archive: zipfile.ZipFile) -> str | None:
    """Return the first member of an archive whose content does not have its checksum, if any."""
    for member in archive.infolist():
        if member.CRC == 0:  # written without: torch.serialization.set_crc32_options(False)
            continue
        try:
            with archive.open(member) as content:
                while content.read(1 << 20):
                    pass
        except (zipfile.BadZipFile, EOFError, RuntimeError, zlib.error):
            return member.filename
    return None


def unreadable_file_error(path: Path, error: Exception) -> CheckpointError:
    """Explain why a file was refused: cut, with classes of another program, or no checkpoint."""
    if is_cut_legacy_file(path, error):
        return cut_file_error(path)
    if not isinstance(error, pickle.UnpicklingError):
        return CheckpointError(
            f"{path} cannot be read: {first_line(error)}.", "copy or download it again."
        )
    if found := re.search(r"GLOBAL (\S+)", str(error)):
        return CheckpointError(
            f"{path} holds objects other than tensors and plain values ({found[1]}).",
            "load it in the program that wrote it, and save its 'model' entry alone.",
        )
    return CheckpointError(f"{path} is not a checkpoint.", "choose a file written by train.py.")


def cut_file_error(path: Path) -> CheckpointError:
    """Say that the end of a file is missing."""
    return CheckpointError(
        f"{path} is cut: it has {path.stat().st_size} bytes and lacks its end.",
        "copy or download it again, or use an earlier checkpoint.",
    )


def is_cut_legacy_file(path: Path, error: Exception) -> bool:
    """Say whether a file in torch's old format, which could not be read, ends too early."""
    with path.open("rb") as file:
        if file.read(len(LEGACY_MAGIC)) != LEGACY_MAGIC:
            return False
        file.seek(0)
        try:
            for _ in range(LEGACY_PICKLES):
                for _ in pickletools.genops(file):
                    pass
        except ValueError:
            return True
    # What is read behind the pickles has no structure to be wrong in, only an end.
    return not isinstance(error, pickle.UnpicklingError)


def find_checkpoints(exp_dir: Path, iteration: int = 0) -> list[Path]:
    """Return the files ``checkpoint-N.pt``, largest N first.

    Args:
        exp_dir: folder of a training run; may be missing.
        iteration: when positive, only N up to this number.
    """
    numbered = {
        int(found[1]): path
        for path in exp_dir.glob("checkpoint-*.pt")
        if (found := ITERATION_NAME.fullmatch(path.name))
    }
    return [
        numbered[number]
        for number in sorted(numbered, reverse=True)
        if iteration <= 0 or number <= iteration
    ]


def iteration_of(path: Path) -> int:
    """Return the N of a file ``checkpoint-N.pt`` that ``find_checkpoints`` gave."""
    return int(path.stem.removeprefix("checkpoint-"))


def saved_epochs(exp_dir: Path) -> list[int]:
    """Return the N of all files ``epoch-N.pt``, smallest first; the folder may be missing."""
    return sorted(
        int(path.stem.removeprefix("epoch-"))
        for path in exp_dir.glob("epoch-*.pt")
        if path.stem.removeprefix("epoch-").isdigit()
    )


def epoch_checkpoint(exp_dir: Path, epoch: int) -> Path:
    """Return the checkpoint written at the end of an epoch, counted from 1.

    Raises:
        CheckpointError: there is none; the message says what there is.
    """
    path = exp_dir / f"epoch-{epoch}.pt"
    if not path.is_file():
        raise CheckpointError(
            f"{path} does not exist; {describe(exp_dir)}.",
            "choose another --epoch or --avg, give one file with --checkpoint, or train first.",
        )
    return path


def describe(folder: Path) -> str:
    """Say in a few words which checkpoints a folder has."""
    if not folder.is_dir():
        return f"the folder {folder} does not exist either"
    iterations = [path.name for path in reversed(find_checkpoints(folder))]
    found = [f"epoch-{epoch}.pt" for epoch in saved_epochs(folder)] + iterations
    if not found:
        others = sorted(path.name for path in folder.glob("*.pt"))
        single = f" but {folder / others[0]}, which decode.py --checkpoint takes" if others else ""
        return f"{folder} has no checkpoints{single}"
    shown = found if len(found) <= 6 else [*found[:3], "...", *found[-2:]]
    return f"{folder} has {', '.join(shown)}"


def first_line(error: Exception) -> str:
    """Return the beginning of an error message, fit to stand inside another one."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def free_space(folder: Path) -> str:
    """Say how much room there is on the disk of a folder."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return "free space unknown"
    return f"{free / 1e6:.0f} MB free on the disk"
