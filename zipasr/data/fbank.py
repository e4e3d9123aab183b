"""80 log-mel features of every cut, stored on disk."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import logging
import re
import shutil
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import lhotse
from lhotse import CutSet
from lhotse.cut import Cut

from zipasr.audio.quarantine import Quarantine
from zipasr.base.constants import SAMPLING_RATE
from zipasr.base.errors import DataError, ResourceError
from zipasr.base.files import atomic_path, digest_of
from zipasr.base.progress import Progress
from zipasr.data.config import FbankConfig, cuts_path
from zipasr.data.feature_store import (
    Archive,
    begin_extraction,
    forget_archives,
    is_begun,
    run_tasks,
    store_archive,
)
from zipasr.data.filters import BROKEN_MANIFEST, Failure, quarantine_text
from zipasr.data.manifests import check_rows

logger = logging.getLogger(__name__)

#: Of the copies of an utterance with ``--perturb-speed 1``.
SPEEDS = (0.9, 1.0, 1.1)
_SHARD_SEED = 42
_SPEED_SUFFIX = re.compile(r"_sp[0-9.]+$")
# Seconds; ends are rounded by whoever wrote the manifest.
_SAME_TIME = 0.01
_CUTS_PER_ARCHIVE = 200

# Extraction goes on past damaged files, unless that many suggests a fault of the whole corpus.
_TOLERATED_FAILURES = 3
_TOLERATED_SHARE = 0.01


class FbankReport(NamedTuple):
    """Counts and durations of a call of ``compute_and_store``.

    Attributes:
        cuts: number of cuts with features.
        seconds: their length.
        failed: cuts that could not be read; they are listed in ``quarantine``.
        reused: everything was there already.
        manifest: the cuts.
        quarantine: table of the failed cuts; None when there are none.
    """

    cuts: int
    seconds: float
    failed: int
    reused: bool
    manifest: Path
    quarantine: Path | None


def quarantine_path(folder: Path, corpus: str, split: str) -> Path:
    """Return the table of the cuts that could not be read: cut, path, reason."""
    return folder / f"{corpus}_quarantine_{split}.tsv"


def features_folder(folder: Path, corpus: str, split: str) -> Path:
    """Return the folder of the features of a split that is made at once."""
    return folder / f"{corpus}_feats_{split}"


def features_folders(folder: Path, corpus: str, split: str) -> list[Path]:
    """Return the folders of features of a split that are there, in pieces or not."""
    pieces = folder.glob(f"{corpus}_{split}_split_*/{corpus}_feats_{split}.*")
    whole = features_folder(folder, corpus, split)
    return [path for path in (whole, *sorted(pieces)) if path.is_dir()]


def compute_and_store(
    corpus: str, split: str, manifest_dir: Path, output_dir: Path, config: FbankConfig
) -> FbankReport:
    """Compute the features of a split, unless they are there already.

    Reads ``{corpus}_recordings_{split}.jsonl.gz`` and ``{corpus}_supervisions_{split}.jsonl.gz``
    and writes ``{corpus}_feats_{split}/`` and, last of all, ``{corpus}_cuts_{split}.jsonl.gz``. So
    where there is a manifest of cuts, its features are complete. Features that were made from
    other manifests or with other settings are made again, and so are those that were changed or
    deleted since. The result does not depend on the number of processes.

    What ``quarantine.tsv`` among the manifests lists is left out. A cut of which the audio cannot
    be read all the same is counted and listed in ``{corpus}_quarantine_{split}.tsv``.

    Args:
        corpus: first part of the file names.
        split: last part of the file names; with "train" in it, speed may be perturbed.
        manifest_dir: where the manifests of recordings and supervisions are.
        output_dir: where to write.
        config: features and processes.

    Raises:
        DataError: the manifests are missing or empty, or more than 1 % of the cuts (and more
            than 3) cannot be read.
        ResourceError: a process was killed, or the storage needs a package that is missing.
    """
    sources = [manifest_dir / f"{corpus}_{k}_{split}.jsonl.gz" for k in _KINDS]
    files = FeatureFiles(
        manifest=cuts_path(output_dir, corpus, split),
        features=features_folder(output_dir, corpus, split),
        quarantine=quarantine_path(output_dir, corpus, split),
    )

    quarantine = Quarantine.read(manifest_dir)

    def cuts() -> list[Cut]:
        perturb = config.perturb_speed and "train" in split
        for path in sources:
            check_rows(path, allow_commands=config.allow_commands)
        computed = _cuts_to_compute(sources, quarantine, perturb=perturb)
        if config.storage == "shar" and "train" in split:
            # Batches are made of the cuts of a few shards: neighbours should not be alike.
            Random(_SHARD_SEED).shuffle(computed)
        return computed

    return store(f"{corpus} {split}", files, sources, cuts, config)


class FeatureFiles(NamedTuple):
    """What is written for one set of cuts: their manifest, the folder of features, the failures."""

    manifest: Path
    features: Path
    quarantine: Path


def store(
    what: str,
    files: FeatureFiles,
    sources: Sequence[Path],
    cuts_of: Callable[[], list[Cut]],
    config: FbankConfig,
) -> FbankReport:
    """Compute the features of cuts, unless they are there already; see ``compute_and_store``.

    Args:
        what: the name of the set, for people.
        files: where to write.
        sources: the manifests that the cuts are made from; when one changes, all is done again.
        cuts_of: makes the cuts, when they are needed.
        config: features and processes.
    """
    origin = _origin(sources, config)
    manifest, feats, quarantine = files
    if config.force:
        manifest.unlink(missing_ok=True)
        shutil.rmtree(_partial(feats), ignore_errors=True)
    if manifest.is_file() and _made_from(feats, origin) and _is_intact(what, manifest, feats):
        logger.info("%s: features are complete in %s", what, feats)
        report = _report(CutSet.from_file(manifest), manifest, quarantine, reused=True)
        if report.failed:
            missing = "%d cuts are missing in %s, see %s; delete it to try them again"
            logger.warning(missing, report.failed, manifest, quarantine)
        return report
    manifest.unlink(missing_ok=True)
    _require_storage(config)
    cuts = cuts_of()
    done, failures = _computed(cuts, feats, origin, config, what)
    _write_quarantine(quarantine, failures)
    _stop_when_too_many(failures, len(cuts), what, quarantine)
    stored = CutSet.from_cuts(done)
    with atomic_path(manifest) as temporary:
        stored.to_file(temporary)
    return _report(stored, manifest, quarantine, reused=False)


_KINDS = ("recordings", "supervisions")
_ORIGIN_FILE = "made_from.json"
_FILES = "files"  # key of the checksums in it


def _origin(sources: Iterable[Path], config: FbankConfig) -> dict[str, Any]:
    """Describe what the features are made from and how, to notice when it changes."""
    settings = {k: getattr(config, k) for k in ("num_mel_bins", "perturb_speed", "storage")}
    digests = {}
    for path in sources:
        if not path.is_file():
            raise DataError(f"{path} does not exist.", "run ./prepare.sh --stage 1 first")
        try:
            digests[path.name] = hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()
        except (OSError, EOFError, zlib.error) as error:
            raise _damaged(path) from error
    return {"settings": settings, "manifests": digests}


def _damaged(path: Path) -> DataError:
    return DataError(
        f"{path} is damaged or empty.", "delete it and run ./prepare.sh --stage 1 again"
    )


def _made_from(feats: Path, origin: dict[str, Any]) -> bool:
    record = feats / _ORIGIN_FILE
    if not record.is_file():
        # Features of another tool: they are taken as they are.
        return True
    known = _record(feats)
    if {name: known.get(name) for name in origin} == origin:
        return True
    logger.info("%s was made from other manifests or with other settings: making it again", feats)
    return False


def _record(feats: Path) -> dict[str, Any]:
    """Return what the features of a folder were made from; empty when it does not say."""
    try:
        known = json.loads((feats / _ORIGIN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def damaged_archives(feats: Path) -> list[str]:
    """Return what became of the archives of a folder since they were written: a phrase for each.

    There is none for features of another tool, whose checksums are not known.
    """
    found = []
    for name, digest in _record(feats).get(_FILES, {}).items():
        path = feats / name
        if not path.exists():
            found.append(f"{path} is gone")
        elif digest_of(path) != digest:
            found.append(f"{path} was changed since it was written")
    return found


def _is_intact(what: str, manifest: Path, feats: Path) -> bool:
    """Say whether the cuts of a manifest can be read, and have the features that were stored."""
    try:
        cuts = CutSet.from_file(manifest)
        paths = {Path(cut.features.storage_path) for cut in cuts if cut.has_features}
        paths = {path for path in paths if path.parent == feats}
    except BROKEN_MANIFEST as error:
        logger.warning("%s: %s is damaged (%s): making it again", what, manifest, error)
        return False
    wrong = damaged_archives(feats)
    wrong += [f"{path} is gone" for path in sorted(paths) if not path.exists()]
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        logger.warning("%s: %s%s: computing the features again", what, wrong[0], more)
    return not wrong


def _require_storage(config: FbankConfig) -> None:
    if config.storage in ("lilcom_chunky", "shar") and importlib.util.find_spec("lilcom") is None:
        raise ResourceError(
            f"--storage {config.storage} needs the package lilcom, which is not installed.",
            "pip install lilcom, or give --storage numpy_files",
        )


def _cuts_to_compute(sources: list[Path], quarantine: Quarantine, *, perturb: bool) -> list[Cut]:
    recordings, supervisions = (_loaded(path) for path in sources)
    cuts = CutSet.from_manifests(recordings=recordings, supervisions=supervisions)
    cuts = utterances_of(cuts, quarantine)
    if not len(cuts):
        raise DataError(f"{sources[0]}: the quarantine leaves nothing of it.", "mend the corpus.")
    speeds = [cuts.perturb_speed(speed) for speed in SPEEDS if speed != 1.0] if perturb else []
    return [cut for part in (cuts, *speeds) for cut in part]


def utterances_of(cuts: CutSet, quarantine: Quarantine) -> CutSet:
    """Return one cut for each utterance, at 16 kHz, without what the quarantine lists."""
    if not all(map(_is_one_utterance, cuts)):
        # Recordings without any utterance disappear.
        cuts = cuts.trim_to_supervisions(keep_overlapping=False)
    return CutSet.from_cuts(
        at_sampling_rate(cut) for cut in cuts if not is_left_out(cut, quarantine)
    )


def _is_one_utterance(cut: Cut) -> bool:
    return len(cut.supervisions) == 1 and (
        abs(cut.supervisions[0].start) < _SAME_TIME
        and abs(cut.supervisions[0].end - cut.duration) < _SAME_TIME
    )


def is_left_out(cut: Cut, quarantine: Quarantine) -> bool:
    """Say whether the quarantine lists the file of a cut, or its utterance at any speed."""
    if not len(quarantine):
        return False
    recording = getattr(cut, "recording", None)
    paths = [str(source.source) for source in recording.sources] if recording is not None else [""]
    names = [_SPEED_SUFFIX.sub("", supervision.id) for supervision in cut.supervisions] or [""]
    return any(quarantine.holds(path, name) for path in paths for name in names)


def _loaded(path: Path) -> Any:
    try:
        manifest = lhotse.load_manifest(path)
    except Exception as error:
        raise _damaged(path) from error
    if len(manifest) == 0:
        raise DataError(f"{path} is empty: it lists nothing.", "run ./prepare.sh --stage 1 again")
    return manifest


def at_sampling_rate(cut: Cut) -> Cut:
    """Return the cut at 16 kHz, resampled when it is read."""
    return cut if cut.sampling_rate == SAMPLING_RATE else cut.resample(SAMPLING_RATE)


def _computed(
    cuts: list[Cut], feats: Path, origin: dict[str, Any], config: FbankConfig, what: str
) -> tuple[list[Cut], list[Failure]]:
    """Compute into a temporary folder and rename it to ``feats`` when it is whole.

    Archives that an interrupted call has finished there are not computed again.
    """
    partial = _partial(feats)
    begin_extraction(partial, origin)
    starts = range(0, len(cuts), _CUTS_PER_ARCHIVE)
    kind = config.storage, config.num_mel_bins
    tasks = [
        Archive(cuts[start : start + _CUTS_PER_ARCHIVE], f"feats-{i:05d}", partial, feats, *kind)
        for i, start in enumerate(starts)
    ]
    done: list[Cut] = []
    failures: list[Failure] = []
    digests: dict[str, str] = {}
    try:
        results = run_tasks(store_archive, tasks, num_jobs=config.jobs, scheduler=config.scheduler)
        with Progress(f"features of {what}", len(cuts)) as progress:
            for task, stored in zip(tasks, results, strict=True):
                done += stored.cuts
                failures += stored.failures
                digests |= stored.digests
                progress.step(count=len(task.cuts))
    except BaseException:
        if not is_begun(partial):
            shutil.rmtree(partial, ignore_errors=True)
        raise
    forget_archives(partial)
    with atomic_path(partial / _ORIGIN_FILE) as temporary:
        text = json.dumps({**origin, _FILES: digests}, indent=2)
        temporary.write_text(text + "\n", encoding="utf-8")
    shutil.rmtree(feats, ignore_errors=True)
    partial.replace(feats)
    return done, failures


def _partial(feats: Path) -> Path:
    """Return the folder in which features are computed."""
    return feats.with_name(f".partial-{feats.name}")


def _write_quarantine(path: Path, failures: list[Failure]) -> None:
    if not failures:
        path.unlink(missing_ok=True)
        return
    with atomic_path(path) as temporary:
        temporary.write_text(quarantine_text(failures), encoding="utf-8")


def _stop_when_too_many(failures: list[Failure], total: int, what: str, listed: Path) -> None:
    if not failures:
        return
    message = (
        f"{len(failures)} of {total} cuts of {what} cannot be read; they are listed in {listed}"
    )
    tolerated = max(_TOLERATED_FAILURES, int(_TOLERATED_SHARE * total))
    if len(failures) > tolerated or len(failures) == total:
        raise DataError(
            f"{message}; the first: {failures[0].path}: {failures[0].reason}.",
            "restore the audio files, or prepare the corpus again from stage 1",
        )
    logger.warning("%s; going on without them", message)


def _report(cuts: CutSet, manifest: Path, quarantine: Path, *, reused: bool) -> FbankReport:
    failed = 0
    if quarantine.is_file():
        failed = len(quarantine.read_text(encoding="utf-8").splitlines()) - 1
    durations = [cut.duration for cut in cuts]
    listed = quarantine if failed else None
    return FbankReport(len(durations), sum(durations), failed, reused, manifest, listed)
