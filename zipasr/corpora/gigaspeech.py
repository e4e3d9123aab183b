"""GigaSpeech: manifests from a downloaded folder.

Nothing is downloaded here: the corpus is given to those who have agreed to its terms. Its folder
holds ``GigaSpeech.json``, which describes all subsets, and the recordings below ``audio``.
"""

from __future__ import annotations

import importlib
import itertools
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import soundfile
from lhotse import CutSet, RecordingSet, SupervisionSegment, SupervisionSet, fix_manifests
from lhotse.recipes.gigaspeech import parse_utterance

from zipasr.audio.quarantine import too_many_lost
from zipasr.base.errors import DataError, ResourceError, UserError, nearest
from zipasr.base.files import atomic_path
from zipasr.base.progress import Progress

logger = logging.getLogger(__name__)

#: Every subset for training holds the smaller ones.
PARTS = ("XS", "S", "M", "L", "XL", "DEV", "TEST")
METADATA = "GigaSpeech.json"

# What is no speech has one of these instead of a text.
_NO_SPEECH = re.compile("<(?:SIL|MUSIC|NOISE|OTHER)>")
_PUNCTUATION = re.compile("<(?:COMMA|PERIOD|QUESTIONMARK|EXCLAMATIONPOINT)>")
_BLANKS = re.compile(r"\s{2,}")
_KINDS: Mapping[str, Any] = {
    "recordings": RecordingSet,
    "supervisions": SupervisionSet,
    "cuts": CutSet,
}
# Recordings whose headers are read side by side.
_AHEAD = 64


class _Entry(NamedTuple):
    """A recording as ``GigaSpeech.json`` has it, and why it cannot be read, if so."""

    audio: dict[str, Any]
    fault: str | None


@dataclass(slots=True)
class _Found:
    """What there is of a part: recordings, and faults of those that cannot be had."""

    recordings: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class GigaSpeechCorpus:
    """The subsets of GigaSpeech that a recipe names.

    Attributes:
        folder: with ``GigaSpeech.json``.
        parts: such as ``S`` and ``DEV``.
    """

    folder: Path
    parts: tuple[str, ...]
    name: ClassVar[str] = "gigaspeech"

    @classmethod
    def from_settings(
        cls, folder: Path, parts: Sequence[str], settings: Mapping[str, Any]
    ) -> GigaSpeechCorpus:
        """Take the parts; there are no settings.

        Raises:
            UserError: a part that there is not, or a setting.
        """
        for name in settings:
            raise UserError(f"corpus 'gigaspeech' has no option {name!r}.", "leave it out.")
        for part in parts:
            if part not in PARTS:
                hint = nearest(part, PARTS) or f"there are {', '.join(PARTS)}."
                raise UserError(f"corpus 'gigaspeech' has no part {part!r}.", hint)
        return cls(folder, tuple(parts))

    def prepare(self, manifest_dir: Path, num_jobs: int) -> dict[str, int]:
        """Write the manifests of all parts, and cuts of whole recordings; see ``Corpus.prepare``.

        The cuts, ``gigaspeech_cuts_PART_raw.jsonl.gz``, are what a large part is split into.
        """
        missing = [part for part in self.parts if not _is_done(manifest_dir, part)]
        if missing:
            found = {part: _Found() for part in missing}
            with ExitStack() as stack:
                writers = {part: _Writers(stack, manifest_dir, part) for part in missing}
                for entry in _entries(self.folder, num_jobs):
                    for part in missing:
                        _write(entry, part, self.folder, writers[part], found[part])
                for part in missing:
                    _check(part, found[part], self.folder)
        return {
            part: sum(1 for _ in SupervisionSet.from_jsonl_lazy(_path(manifest_dir, kind, part)))
            for part in self.parts
            for kind in ["supervisions"]
        }


class _Writers:
    """Writers of the manifests of a part; files get their names at the end."""

    def __init__(self, stack: ExitStack, folder: Path, part: str) -> None:
        paths = [stack.enter_context(atomic_path(_path(folder, kind, part))) for kind in _KINDS]
        self._writers = [
            stack.enter_context(kind.open_writer(path))
            for kind, path in zip(_KINDS.values(), paths, strict=True)
        ]

    def write(self, recordings: RecordingSet, supervisions: SupervisionSet) -> None:
        """Add a recording and what is said in it."""
        cuts = CutSet.from_manifests(recordings=recordings, supervisions=supervisions)
        for writer, items in zip(self._writers, (recordings, supervisions, cuts), strict=True):
            for item in items:
                writer.write(item)


def _path(folder: Path, kind: str, part: str) -> Path:
    raw = "_raw" if kind == "cuts" else ""
    return folder / f"{GigaSpeechCorpus.name}_{kind}_{part}{raw}.jsonl.gz"


def _is_done(folder: Path, part: str) -> bool:
    return all(_path(folder, kind, part).is_file() for kind in _KINDS)


def _entries(folder: Path, num_jobs: int) -> Iterator[_Entry]:
    """Yield all recordings, with the length and the rate that their files have."""

    def looked_at(audio: dict[str, Any]) -> _Entry:
        path = folder / audio["path"]
        try:
            header = soundfile.info(path)
        except Exception as problem:  # whatever libsndfile says of a file that is none
            reason = " ".join(str(problem).split()) if path.is_file() else f"{path} does not exist"
            return _Entry(audio, reason)
        length = {"duration": header.frames / header.samplerate, "sample_rate": header.samplerate}
        return _Entry(audio | length, None)

    described = _described(folder / METADATA)
    with (
        ThreadPoolExecutor(num_jobs) as pool,
        Progress(f"recordings of {METADATA}", None) as progress,
    ):
        while ahead := [*itertools.islice(described, _AHEAD)]:
            yield from pool.map(looked_at, ahead)
            progress.step(count=len(ahead))


def _described(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the recordings of ``GigaSpeech.json``, which is too large to be read as a whole.

    Raises:
        DataError: it is missing, or not what it should be.
        ResourceError: the package that reads it is missing.
    """
    if not path.is_file():
        raise DataError(
            f"{path} does not exist.",
            "tell with --giga-dir where GigaSpeech is. It is given to those who agree to its terms "
            "(https://github.com/SpeechColab/GigaSpeech); nothing is downloaded here",
        )
    try:
        ijson = importlib.import_module("ijson")
    except ImportError as problem:
        raise ResourceError(
            f"{path} is read with the package ijson, which is not installed.",
            "local/install.sh requirements.txt egs/gigaspeech/requirements.txt",
        ) from problem
    count = 0
    try:
        with path.open("rb") as file:
            for audio in ijson.items(file, "audios.item", use_float=True):
                count += 1
                yield audio
    except ijson.JSONError as problem:
        raise DataError(
            f"{path} ends or breaks after {count} recordings: {' '.join(str(problem).split())}.",
            "take the file from the published corpus again",
        ) from problem
    if not count:
        raise DataError(f"{path} describes no recording.", "it should list them as 'audios'")


def _write(entry: _Entry, part: str, folder: Path, writers: _Writers, found: _Found) -> None:
    """Add what a part has of a recording."""
    segments = [_cleaned(s) for s in entry.audio["segments"] if f"{{{part}}}" in s["subsets"]]
    kept = [segment for segment in segments if segment is not None]
    if not kept:
        return
    if entry.fault is not None:
        found.faults.append(entry.fault)
        return
    recording, supervisions = parse_utterance(entry.audio | {"segments": kept}, folder)
    # Times beyond the end of the file are put right.
    recordings, trimmed = fix_manifests(
        RecordingSet.from_recordings([recording]),
        SupervisionSet.from_segments(map(_with_origin, supervisions)),
    )
    if len(trimmed):
        found.recordings += 1
        writers.write(recordings, trimmed)


def _cleaned(segment: dict[str, Any]) -> dict[str, Any] | None:
    """Return a segment with a plain text; None where nothing is said."""
    text = segment["text_tn"]
    if _NO_SPEECH.search(text):
        return None
    text = _BLANKS.sub(" ", _PUNCTUATION.sub("", text)).strip()
    return segment | {"text_tn": text} if text else None


def _with_origin(supervision: SupervisionSegment) -> SupervisionSegment:
    # Published checkpoints and manifests tell the corpora apart by this field.
    supervision.custom = {"origin": "giga"}
    return supervision


def _check(part: str, found: _Found, folder: Path) -> None:
    """Refuse a part that is not there, or of which much is missing."""
    lost, total = len(found.faults), found.recordings + len(found.faults)
    if not total:
        raise DataError(f"{folder / METADATA} has no speech of the subset {part}.")
    if not lost:
        return
    message = f"{part}: {lost} of {total} recordings cannot be read: {found.faults[0]}"
    if too_many_lost(lost, total):
        raise DataError(
            f"{message}.", f"complete the copy of GigaSpeech, or take {part} out of the recipe"
        )
    logger.warning("%s; going on without them", message)
