"""Reader for --from: lhotse manifests, as pairs of recordings and supervisions or as cuts."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zipasr.base.errors import DataError
from zipasr.corpora.custom.audio_files import is_file
from zipasr.corpora.custom.columns import REVERSED, ROUNDING_SECONDS, check_times
from zipasr.corpora.custom.source_text import json_of, place
from zipasr.corpora.custom.utterances import ImportedCorpus, RowFault, Utterance, purpose_of

NO_RECORDING = "its recording is in no manifest"
NOT_A_FILE = "its recording is not one plain file"
NOT_AN_ITEM = "no item of a lhotse manifest"
BAD_FIELD = "a field that is missing or of another kind"
SPEED_COPY = "a copy at another speed, as training makes them anew"
MIXED = "a mix of several cuts"
NO_SOUND = "a cut with features alone, without its recording"
OUTSIDE_CUT = "reaches beyond its cut"
NO_SUPERVISION = "cuts without a supervision"

# train_supervisions.jsonl.gz, librispeech_supervisions_dev-clean.jsonl.gz, cuts_train.jsonl
_SUPERVISIONS = re.compile(r"^(?P<before>.*?)_?supervisions_?(?P<after>.*?)\.jsonl(\.gz)?$")
_LONGEST_LINE = 1 << 24
_CUTS = re.compile(r"^(?P<before>.*?)[_.]?cuts[_.]?(?P<after>.*?)\.jsonl(\.gz)?$")


def supervision_files(folder: Path) -> list[Path]:
    """Return the manifests of supervisions that have one of recordings beside them."""
    files = sorted(path for path in folder.glob("*.jsonl*") if _SUPERVISIONS.match(path.name))
    return [path for path in files if is_file(path) and is_file(recordings_of(path))]


def recordings_of(supervisions: Path) -> Path:
    """Return the manifest of recordings that belongs to one of supervisions."""
    return supervisions.with_name(supervisions.name.replace("supervisions", "recordings"))


def cut_files(folder: Path) -> list[Path]:
    """Return the manifests of cuts, whatever they are called; a single one may be given itself."""
    paths = [folder] if is_file(folder) else sorted(folder.glob("*.jsonl*"))
    return [path for path in paths if is_file(path) and _begins_with_a_cut(path)]


def _begins_with_a_cut(path: Path) -> bool:
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            first = json_of(file.readline(_LONGEST_LINE))
    except (OSError, EOFError, zlib.error):
        return bool(_CUTS.match(path.name))
    kind = first.get("type") if isinstance(first, dict) else None
    return bool(_CUTS.match(path.name)) or (isinstance(kind, str) and kind.endswith("Cut"))


def read_lhotse(folder: Path) -> ImportedCorpus:
    """Read all pairs of manifests in a folder.

    Raises:
        DataError: a manifest is damaged.
    """
    found = ImportedCorpus(f"lhotse manifests in {folder}")
    files = supervision_files(folder)
    for path in cut_files(folder):
        found.not_used(path.name, "recordings and supervisions are read")
    for path in files:
        split = _split_of(path, _SUPERVISIONS) if len(files) > 1 else None
        recordings = {str(one.get("id")): one for _, one in _items(recordings_of(path), found)}
        for where, one in _items(path, found):
            with _Noted(found, where, one):
                recording = recordings.get(str(one.get("recording_id")))
                if recording is None:
                    raise RowFault(NO_RECORDING, repr(one.get("recording_id")))
                found.add(_utterance(one, recording, where, split, path.parent))
    return found


def read_cuts(source: Path) -> ImportedCorpus:
    """Read all manifests of cuts in a folder, or one of them.

    Raises:
        DataError: a manifest is damaged.
    """
    found = ImportedCorpus(f"lhotse cuts in {source}")
    files = cut_files(source)
    for path in files:
        split = _split_of(path, _CUTS) if len(files) > 1 else None
        for where, one in _items(path, found):
            with _Noted(found, where, one):
                _add_cut(one, found, where, split, path.parent)
    return found


class _Noted:
    """Context in which a fault of an item leaves it out."""

    def __init__(self, found: ImportedCorpus, where: str, item: Mapping[str, Any]) -> None:
        self._found, self._where, self._item = found, where, item

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, fault: BaseException | None, trace: object) -> bool:
        if not isinstance(fault, RowFault):
            return False
        self._found.drop(
            fault.reason,
            fault.detail,
            where=self._where,
            utterance=self._found.unique_id(str(self._item.get("id", self._where))),
            is_fault=fault.is_fault,
        )
        return True


def _add_cut(
    cut: Mapping[str, Any], found: ImportedCorpus, where: str, split: str | None, folder: Path
) -> None:
    if "tracks" in cut:
        raise RowFault(MIXED)
    recording = cut.get("recording")
    if not isinstance(recording, dict):
        raise RowFault(NO_SOUND)
    start, length = _number(cut, "start"), _number(cut, "duration")
    supervisions = cut.get("supervisions") or []
    if not isinstance(supervisions, list) or not all(isinstance(s, dict) for s in supervisions):
        raise RowFault(BAD_FIELD, "supervisions")
    if not supervisions:
        found.notes[NO_SUPERVISION] += 1
    for one in supervisions:
        with _Noted(found, where, one):
            moved = {**one, "start": start + _start_inside(one, length)}
            found.add(_utterance(moved, recording, where, split, folder))


def _start_inside(segment: Mapping[str, Any], length: float) -> float:
    """Return where a supervision starts in its cut of so many seconds."""
    start = _number(segment, "start")
    end = start + _number(segment, "duration")
    if start < -ROUNDING_SECONDS or end > length + ROUNDING_SECONDS:
        raise RowFault(OUTSIDE_CUT, f"{start:g} s to {end:g} s of {length:g} s")
    return max(0.0, start)


def _split_of(path: Path, form: re.Pattern[str]) -> str | None:
    match = form.match(path.name)
    whole = path.name.partition(".jsonl")[0]
    parts = [match["after"], match["before"]] if match else [whole]
    named = [part for part in parts if part and purpose_of(part) is not None]
    return named[0] if named else next((part for part in parts if part), None)


def _items(path: Path, found: ImportedCorpus) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield file and line of each item of a manifest, and the item."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                one = json_of(line)
                if isinstance(one, dict):
                    yield place(path, number), one
                elif line.strip():
                    where = place(path, number)
                    found.drop(NOT_AN_ITEM, where=where, utterance=where)
    except (OSError, EOFError, zlib.error) as problem:
        said = " ".join(str(problem).split()) or type(problem).__name__
        raise DataError(f"{path} cannot be read: {said}.", "write the manifest again.") from problem


def _number(item: Mapping[str, Any], name: str) -> float:
    value: Any = item.get(name)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not -1e9 < value < 1e9:
        raise RowFault(BAD_FIELD, name)
    return float(value)


def _utterance(
    segment: Mapping[str, Any],
    recording: Mapping[str, Any],
    where: str,
    split: str | None,
    folder: Path,
) -> Utterance:
    path, channel = _source(segment, recording)
    start, length = _number(segment, "start"), _number(segment, "duration")
    if length <= 0:
        raise RowFault(REVERSED, f"its duration is {length:g} s")
    begin, end = check_times(start, round(start + length, 6))
    whole = begin == 0.0 and abs(length - _number(recording, "duration")) < 0.01
    text, speaker, name = segment.get("text"), segment.get("speaker"), segment.get("id")
    if not isinstance(text, (str, type(None))) or name is None:
        raise RowFault(BAD_FIELD, "text" if name is not None else "id")
    return Utterance(
        id=str(name),
        audio=_at_its_place(Path(path), folder),
        text=text or "",
        start=begin or 0.0,
        end=None if whole else end,
        channel=channel,
        speaker=None if speaker is None else str(speaker),
        split=split,
        where=where,
    )


def _source(segment: Mapping[str, Any], recording: Mapping[str, Any]) -> tuple[str, int | None]:
    """Return the file of an utterance, and its channel in it if the file has several."""
    channel = segment.get("channel")
    if isinstance(channel, list) and len(channel) == 1:
        channel = channel[0]
    is_one = isinstance(channel, int) and not isinstance(channel, bool)
    source = _the_source(recording, channel if is_one else None)
    path, kind = source.get("source"), source.get("type")
    if kind != "file" or not isinstance(path, str) or "\0" in path:
        raise RowFault(NOT_A_FILE, f"{recording.get('id')}: {str(kind)[:40]}")
    channels = _channels(source)
    if len(channels) < 2 or not is_one:
        return path, None
    if channel not in channels:
        raise RowFault(BAD_FIELD, f"channel = {channel}, of {channels}")
    return path, channels.index(channel)


def _the_source(recording: Mapping[str, Any], channel: int | None) -> Mapping[str, Any]:
    """Return the only source of a recording, or the only one that has a channel."""
    sources = recording.get("sources")
    if not isinstance(sources, list) or not all(isinstance(one, dict) for one in sources):
        raise RowFault(BAD_FIELD, "sources")
    if _is_speed_copy(recording):
        raise RowFault(SPEED_COPY, is_fault=False)
    if len(sources) > 1 and channel is not None:
        sources = [one for one in sources if channel in _channels(one)]
    if len(sources) != 1 or recording.get("transforms"):
        kind = "transforms" if recording.get("transforms") else f"{len(sources)} sources"
        raise RowFault(NOT_A_FILE, f"{recording.get('id')}: {kind}")
    only: Mapping[str, Any] = sources[0]
    return only


def _is_speed_copy(recording: Mapping[str, Any]) -> bool:
    transforms = recording.get("transforms")
    return bool(transforms) and isinstance(transforms, list) and all(
        isinstance(one, dict) and one.get("name") == "Speed" for one in transforms
    )  # fmt: skip


def _channels(source: Mapping[str, Any]) -> list[Any]:
    channels = source.get("channels")
    return channels if isinstance(channels, list) else []


def _at_its_place(path: Path, folder: Path) -> Path:
    """Return the file: paths count from the current folder, or from that of the manifest."""
    if path.is_absolute() or is_file(path):
        return path
    bases = [folder, *folder.absolute().parents[:3]]
    there = (base / path for base in bases if is_file(base / path))
    return Path(os.path.normpath(next(there, path)))
