"""Features of splits that are too large for memory, in pieces; several splits shuffled into one."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Sequence
from pathlib import Path
from random import Random

from lhotse.cut import Cut

from zipasr.audio.quarantine import Quarantine
from zipasr.base.errors import DataError
from zipasr.base.files import atomic_path
from zipasr.data.config import FbankConfig, cuts_path
from zipasr.data.fbank import FbankReport, FeatureFiles, quarantine_path, store, utterances_of
from zipasr.data.manifests import numbered_pieces, read_cuts, split_folder, split_lazily

logger = logging.getLogger(__name__)


def compute_and_store_pieces(
    corpus: str, split: str, manifest_dir: Path, output_dir: Path, count: int, config: FbankConfig
) -> list[FbankReport]:
    """Split the raw cuts of a split, then compute the features of each piece; see ``store``.

    Reads ``{corpus}_cuts_{split}_raw.jsonl.gz`` and writes, for each piece,
    ``{corpus}_{split}_split_{count}/{corpus}_cuts_{split}.NNNNNNNN.jsonl.gz``. Called again, it
    goes on with the piece that is not complete. Speed is not perturbed.

    Args:
        corpus: first part of the file names.
        split: last part of the file names.
        manifest_dir: where the raw cuts are.
        output_dir: where to write.
        count: of the pieces, where there are enough cuts.
        config: features and processes.

    Raises:
        DataError: the raw cuts are missing, or much of a piece cannot be read.
    """
    raw = manifest_dir / f"{corpus}_cuts_{split}_raw.jsonl.gz"
    if not raw.is_file():
        raise DataError(f"{raw} does not exist.", "run ./prepare.sh --stage 1 first")
    folder = split_folder(output_dir, corpus, split, count)
    pieces = split_lazily(raw, folder, count)
    quarantine = Quarantine.read(manifest_dir)
    manifests = [folder / piece.name.replace("_raw.", ".") for piece in pieces]
    for path in numbered_pieces(folder, f"{corpus}_cuts_{split}"):
        if path not in manifests:  # of a time when there were more
            path.unlink()
    reports = []
    for piece, manifest in zip(pieces, manifests, strict=True):
        number = manifest.name.split(".")[1]

        def cuts(piece: Path = piece) -> list[Cut]:
            raw_cuts = read_cuts(piece, allow_commands=config.allow_commands)
            return [*utterances_of(raw_cuts, quarantine)]

        files = FeatureFiles(
            manifest=manifest,
            features=folder / f"{corpus}_feats_{split}.{number}",
            quarantine=quarantine_path(folder, corpus, f"{split}.{number}"),
        )
        what = f"{corpus} {split}, piece {int(number)} of {len(pieces)}"
        reports.append(store(what, files, [piece], cuts, config))
    return reports


_SEED = 42


def join_splits(
    corpus: str, name: str, parts: Sequence[str], folder: Path, *, force: bool = False
) -> int:
    """Write the cuts of ``parts`` as the split ``name``, unless that was done after they were made.

    A large manifest is read a piece at a time, in its own order: batches of mixed splits need a
    shuffled one.

    Args:
        corpus: first part of the file names.
        name: last part of the name of the new manifest.
        parts: splits whose manifests are there.
        folder: where the manifests are.
        force: write it again in any case.

    Returns:
        The number of cuts; 0 when nothing had to be done.
    """
    target = cuts_path(folder, corpus, name)
    sources = [cuts_path(folder, corpus, part) for part in parts]
    newest = max(source.stat().st_mtime_ns for source in sources)
    if target.is_file() and target.stat().st_mtime_ns > newest and not force:
        logger.info("%s is up to date", target)
        return 0
    lines = [line for source in sources for line in _lines(source)]
    Random(_SEED).shuffle(lines)
    with atomic_path(target) as temporary, gzip.open(temporary, "wb", compresslevel=6) as out:
        out.writelines(lines)
    logger.info("%s: %d cuts of %s, shuffled", target, len(lines), ", ".join(parts))
    return len(lines)


def _lines(path: Path) -> list[bytes]:
    with gzip.open(path) as content:
        return content.readlines()
