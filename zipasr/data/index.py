"""Index of large manifests: filtered once, then read cut by cut from disk in any order.

The lines are copied, uncompressed, into the folder ``index`` beside the manifest, with the place
and the lengths of each cut that is kept in small arrays. A changed manifest has a new copy, another
tokenizer, filter or quarantine has arrays of its own. The arrays of all manifests of a training are
joined in one more file, which all processes map into memory.
"""

from __future__ import annotations

import hashlib
import json
import logging
from array import array
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from lhotse import CutSet

from zipasr.audio.quarantine import Quarantine
from zipasr.base.errors import is_not_writable
from zipasr.base.files import atomic_path
from zipasr.base.progress import Progress
from zipasr.data.config import Extra
from zipasr.data.corpus_mixing import shards_of
from zipasr.data.cuts import TrainCuts, TrainCutsBuilder, in_memory
from zipasr.data.epoch_plan import CutLengths, Numbers
from zipasr.data.filters import BROKEN_MANIFEST, DropReport, TrainFilter, broken_manifest
from zipasr.data.lines_on_disk import CutTable, LinesOnDisk, is_table, mapped_table, write_table
from zipasr.data.loaders import are_large, load_cuts, load_extra
from zipasr.data.manifest_scan import Rules, scan
from zipasr.data.manifests import manifests_at, manifests_of_split

logger = logging.getLogger(__name__)

_CHECKED = "checked"


class _Manifests(NamedTuple):
    """Manifests of cuts, the folder of the table that says what is left out, commands allowed."""

    folder: Path
    paths: Sequence[Path]
    allow_commands: bool


class _Index(NamedTuple):
    """Offsets, lengths and names of the kept cuts of one manifest."""

    names: str
    report: DropReport
    lengths: CutLengths
    offsets: Numbers
    sizes: Numbers


def load_train_cuts(
    manifest_dir: Path,
    corpus: str,
    splits: Sequence[str],
    wanted: TrainFilter,
    *,
    tokenizer: str = "",
    verbose: bool = False,
    writes: bool = True,
    allow_commands: bool = False,
) -> tuple[TrainCuts, DropReport]:
    """Return the cuts of the splits that can be trained on: small sets in memory, large ones not.

    Args:
        manifest_dir: where ``compute_and_store`` wrote.
        corpus: first part of the file names.
        splits: last part of the file names.
        wanted: the filter.
        tokenizer: names what ``wanted`` counts tokens with; another one makes another index.
        verbose: show progress; set on rank 0 only.
        writes: False leaves no file behind: without an index large sets are held in memory too.
        allow_commands: shell commands that the manifests name may run.

    Raises:
        DataError: a manifest is missing, empty or damaged, or names commands that may not run.
    """
    cuts = load_cuts(manifest_dir, corpus, splits, allow_commands=allow_commands)
    paths = [path for split in splits for path in manifests_of_split(manifest_dir, corpus, split)]
    manifests = _Manifests(manifest_dir, paths, allow_commands)
    return _kept(manifests, cuts, wanted, tokenizer, verbose, writes)


def load_extra_cuts(
    extra: Extra,
    wanted: TrainFilter,
    *,
    tokenizer: str = "",
    verbose: bool = False,
    writes: bool = True,
) -> tuple[TrainCuts, DropReport]:
    """Return the cuts of a corpus that is mixed in; see ``load_train_cuts``.

    Raises:
        DataError: its manifest is missing, empty or damaged.
    """
    cuts = load_extra(extra)
    manifests = _Manifests(extra.path.parent, manifests_at(extra.path), extra.allow_commands)
    return _kept(manifests, cuts, wanted, tokenizer, verbose, writes)


def _kept(
    manifests: _Manifests,
    cuts: CutSet,
    wanted: TrainFilter,
    tokenizer: str,
    verbose: bool,
    writes: bool,
) -> tuple[TrainCuts, DropReport]:
    """Keep what can be trained on of the cuts of manifests, in memory unless they are large."""
    folder, paths, allow_commands = manifests
    if not are_large(paths):
        return in_memory(cuts, wanted)
    quarantine = Quarantine.read(folder)
    left_out = _digest(repr(quarantine.rows))
    key = f"{left_out} {tokenizer} {wanted.use_ctc} {wanted.min_duration} {wanted.max_duration}"
    # What was indexed when commands were allowed, or not looked for, is looked through again.
    key += f" {_CHECKED} {allow_commands}"
    if not writes and not all(_arrays_path(path, key).is_file() for path in paths):
        return in_memory(cuts, wanted)
    try:
        with Progress("manifests indexed", len(paths), visible=verbose and len(paths) > 1) as done:
            indices = []
            for path in paths:
                visible = verbose and len(paths) == 1
                indices.append(_index_of(path, manifests, wanted, quarantine, key, visible))
                done.step()
    except OSError as problem:
        if not is_not_writable(problem):
            raise
        if verbose:
            logger.warning(
                "no index can be written beside the manifests in %s (%s): every process keeps all "
                "cuts in memory, about 4 GB for a million",
                folder,
                problem.strerror,
            )
        return in_memory(cuts, wanted)
    return _joined(manifests, indices, key, writes)


def _joined(
    manifests: _Manifests, indices: Sequence[_Index], key: str, writes: bool
) -> tuple[TrainCuts, DropReport]:
    report = DropReport()
    for index in indices:
        report.include(index.report)
    shards = shards_of([index.lengths for index in indices])
    table = CutTable(
        np.repeat(np.arange(len(indices)), [len(index.offsets) for index in indices]),
        np.concatenate([index.offsets for index in indices]),
        np.concatenate([index.sizes for index in indices]),
        np.concatenate([index.lengths.seconds for index in indices]),
        np.concatenate([index.lengths.tokens for index in indices]),
        shards,
    )
    path = _shared(manifests, table, key, writes)
    if path is not None:
        table = mapped_table(path)
    lines = tuple(_lines_path(manifest) for manifest in manifests.paths)
    arrays = (table.parts, table.offsets, table.sizes)
    source = LinesOnDisk(lines, *arrays, manifests.allow_commands, path)
    lengths = CutLengths(table.seconds, table.tokens, shards=table.shards)
    return TrainCuts(source, lengths, _digest("".join(index.names for index in indices))), report


def _shared(manifests: _Manifests, table: CutTable, key: str, writes: bool) -> Path | None:
    """Return a file that holds the table, written if need be; None where that is not possible."""
    names = [path.name for path in manifests.paths]
    lines = [_lines_path(path) for path in manifests.paths]
    same = f"{lines[0].stem}.{_digest(f'{key} {names}')}"
    path = lines[0].with_name(f"{same}.{_digest(repr([one.name for one in lines]))}.npy")
    if is_table(path, table):
        return path
    if not writes:
        return None
    try:
        write_table(path, table)
    except OSError as problem:
        if not is_not_writable(problem):
            raise
        return None
    for old in path.parent.glob(f"{same}.*.npy"):
        if old != path:
            old.unlink(missing_ok=True)
    return path


def _index_of(
    manifest: Path,
    manifests: _Manifests,
    wanted: TrainFilter,
    quarantine: Quarantine,
    key: str,
    verbose: bool,
) -> _Index:
    """Read the index of a manifest; make it when there is none for this manifest and filter."""
    lines = _lines_path(manifest)
    path = _arrays_path(manifest, key)
    index = _read(path) if path.is_file() and lines.is_file() else None
    if index is None:
        try:
            index = _made(manifest, manifests, wanted, quarantine, verbose)
        except BROKEN_MANIFEST as error:
            if is_not_writable(error):
                raise
            raise broken_manifest(manifest, error) from error
        _write(path, index)
        _remove_stale(manifest, lines)
    return index


def _remove_stale(manifest: Path, lines: Path) -> None:
    """Delete what was made of the manifest before it was written anew."""
    for path in lines.parent.glob(f"{_name(manifest)}.*"):
        if not path.name.startswith(f"{lines.stem}."):
            path.unlink(missing_ok=True)


def _made(
    manifest: Path,
    manifests: _Manifests,
    wanted: TrainFilter,
    quarantine: Quarantine,
    verbose: bool,
) -> _Index:
    """Copy the lines of a manifest, and note where those are that are kept."""
    register = TrainCutsBuilder()
    offsets, sizes = array("q"), array("q")
    rules = Rules(manifest, wanted, quarantine, manifests.allow_commands)
    with (
        Progress(f"index of {manifest.name}", None, visible=verbose) as progress,
        atomic_path(_lines_path(manifest)) as temporary,
        closing(scan(rules, temporary)) as pieces,
    ):
        for piece in pieces:
            progress.step(count=piece.num_lines)
            for offset, size, cut in zip(piece.offsets, piece.sizes, piece.cuts, strict=True):
                if register.add(cut):
                    offsets.append(offset)
                    sizes.append(size)
    return _Index(
        names=register.names(),
        report=register.report,
        lengths=register.lengths(),
        offsets=np.asarray(offsets, np.int64),
        sizes=np.asarray(sizes, np.int64),
    )


def _write(path: Path, index: _Index) -> None:
    about = {
        "names": index.names,
        "report": index.report.to_dict(),
    }
    with atomic_path(path) as temporary:
        np.savez(
            temporary,
            about=np.asarray(json.dumps(about)),
            seconds=index.lengths.seconds,
            tokens=index.lengths.tokens,
            offsets=index.offsets,
            sizes=index.sizes,
            shards=np.empty(0, np.int64) if index.lengths.shards is None else index.lengths.shards,
        )


def _read(path: Path) -> _Index | None:
    """Return an index that was written earlier; None when it is damaged."""
    try:
        with np.load(path) as stored:
            about = json.loads(str(stored["about"]))
            return _Index(
                names=about["names"],
                report=DropReport.from_dict(about["report"]),
                lengths=CutLengths(
                    stored["seconds"],
                    stored["tokens"],
                    shards=stored["shards"] if len(stored["shards"]) else None,
                ),
                offsets=stored["offsets"],
                sizes=stored["sizes"],
            )
    except Exception as error:  # whatever a damaged file says
        logger.warning("%s cannot be read (%s): it is made again", path, error)
        return None


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _name(manifest: Path) -> str:
    return manifest.name.removesuffix(".gz").removesuffix(".jsonl")


def _arrays_path(manifest: Path, key: str) -> Path:
    return _lines_path(manifest).with_suffix(f".{_digest(key)}.npz")


def _lines_path(manifest: Path) -> Path:
    """Name the copy after what it is a copy of: a run keeps its lines whatever others do."""
    status = manifest.stat()
    stamp = _digest(f"{status.st_size} {status.st_mtime_ns}")
    return manifest.parent / "index" / f"{_name(manifest)}.{stamp}.jsonl"
