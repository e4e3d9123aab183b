"""A folder of lhotse manifests with any names of splits, rates and channels, as utterances."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import lhotse
from lhotse import Recording, SupervisionSegment

from zipasr.base.errors import DataError
from zipasr.corpora.splits import purpose_of
from zipasr.corpora.utterances import Found, Utterance, squeezed

# train_supervisions.jsonl.gz, librispeech_supervisions_dev-clean.jsonl.gz, supervisions.jsonl
_NAME = re.compile(r"^(?P<before>.*?)_?supervisions_?(?P<after>.*?)\.jsonl(\.gz)?$")


def supervision_files(folder: Path) -> list[Path]:
    """Return the manifests of supervisions that have one of recordings beside them."""
    files = sorted(path for path in folder.glob("*supervisions*.jsonl*") if _NAME.match(path.name))
    return [path for path in files if recordings_of(path).is_file()]


def recordings_of(supervisions: Path) -> Path:
    """Return the manifest of recordings that belongs to one of supervisions."""
    return supervisions.with_name(supervisions.name.replace("supervisions", "recordings"))


def read_lhotse(folder: Path) -> Found:
    """Read all pairs of manifests in a folder.

    Raises:
        DataError: a manifest is damaged, or its recordings are not files.
    """
    found = Found(f"lhotse manifests in {folder}")
    files = supervision_files(folder)
    for path in files:
        split = _split_of(path) if len(files) > 1 else None
        for segment, recording in _pairs(path):
            found.add(_utterance(segment, recording, split))
    return found


def _split_of(path: Path) -> str | None:
    match = _NAME.match(path.name)
    parts = [match["after"], match["before"]] if match else []
    named = [part for part in parts if part and purpose_of(part) is not None]
    return named[0] if named else next((part for part in parts if part), None)


def _pairs(path: Path) -> Iterator[tuple[SupervisionSegment, Recording]]:
    try:
        recordings = {r.id: r for r in lhotse.load_manifest(recordings_of(path))}
        segments = list(lhotse.load_manifest(path))
    # lhotse raises whatever its parsers, gzip and constructors raise.
    except Exception as problem:
        said = " ".join(str(problem).split()) or type(problem).__name__
        raise DataError(f"{path} or its recordings cannot be read: {said}.") from problem
    for segment in segments:
        if segment.recording_id not in recordings:
            raise DataError(
                f"{path}: {segment.id} is in recording {segment.recording_id!r}, absent."
            )
        yield segment, recordings[segment.recording_id]


def _utterance(segment: SupervisionSegment, recording: Recording, split: str | None) -> Utterance:
    source = recording.sources[0]
    if len(recording.sources) > 1 or source.type != "file" or recording.transforms:
        raise DataError(
            f"recording {recording.id} is not one plain file ({source.type}).",
            'write a recipe with corpus = "manifests" for it: egs/README.md.',
        )
    whole = segment.start == 0.0 and abs(segment.duration - recording.duration) < 0.01
    one_of_many = recording.num_channels > 1 and isinstance(segment.channel, int)
    return Utterance(
        id=segment.id,
        audio=Path(source.source),
        text=squeezed(segment.text or ""),
        start=segment.start,
        end=None if whole else segment.end,
        channel=recording.channel_ids.index(segment.channel) if one_of_many else None,
        speaker=segment.speaker,
        split=split,
    )
