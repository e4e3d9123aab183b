"""Readers for --from: folders of sound with text, Kaldi data directories, lhotse manifests."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import lhotse
from lhotse import Recording, SupervisionSegment

from zipasr.audio.quarantine import LeftOut
from zipasr.base.errors import DataError
from zipasr.corpora.custom.recipe import purpose_of
from zipasr.corpora.custom.table import (
    AUDIO_SUFFIXES,
    SUFFIXES,
    ImportedCorpus,
    Utterance,
    collapse_spaces,
    read_table,
)
from zipasr.text.text_io import read_text

NO_TRANSCRIPT = "no .txt of the same name"


def read_folder(folder: Path, encoding: str) -> ImportedCorpus:
    """Read a folder and all below it.

    Where the topmost folders below are called train, dev and test (or the like), they are the
    splits.

    Raises:
        DataError: transcripts that are not text of this encoding; how many is said too.
    """
    found = ImportedCorpus(f"folder {folder}")
    refused: list[DataError] = []
    for audio in sound_files(folder):
        transcript = audio.with_suffix(".txt")
        if not transcript.is_file():
            found.left_out.append(LeftOut(str(audio), NO_TRANSCRIPT))
            continue
        try:
            text = read_text(transcript, encoding, found.notes)
        except DataError as problem:
            refused.append(problem)
            continue
        inside = audio.relative_to(folder)
        found.add(
            Utterance(
                id="-".join(inside.with_suffix("").parts),
                audio=audio,
                text=collapse_spaces(text),
                split=inside.parts[0] if _is_split(inside) else None,
            )
        )
    if refused:
        many = f" ({len(refused)} files are like this.)" if len(refused) > 1 else ""
        raise DataError(refused[0].what + many, refused[0].fix)
    return found


def sound_files(folder: Path) -> list[Path]:
    """Return all sound files below a folder, in the order of their names."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)


def _is_split(inside: Path) -> bool:
    return len(inside.parts) > 1 and purpose_of(inside.parts[0]) is not None


NO_RECORDING = "not in wav.scp"


def kaldi_folders(folder: Path) -> list[Path]:
    """Return the data directories: the folder itself, or those in it that are named as splits."""
    if (folder / "wav.scp").is_file():
        return [folder]
    inside = sorted(path.parent for path in folder.glob("*/wav.scp"))
    return [path for path in inside if purpose_of(path.name) is not None]


def read_kaldi(folder: Path, encoding: str, piped: Path) -> ImportedCorpus:
    """Read one data directory, or the ``train``, ``dev`` and ``test`` directories in it.

    Args:
        folder: of the files.
        encoding: of the files.
        piped: folder for the sound that commands in ``wav.scp`` write.

    Raises:
        DataError: a file is missing or has other lines than Kaldi's.
    """
    folders = kaldi_folders(folder)
    found = ImportedCorpus(f"Kaldi data directory {folder}")
    for part in folders:
        split = part.name if len(folders) > 1 else None
        for utterance in _utterances(part, encoding, piped, found):
            found.add(Utterance(**utterance, split=split))  # type: ignore[arg-type]
    return found


def _utterances(
    folder: Path, encoding: str, piped: Path, found: ImportedCorpus
) -> list[dict[str, object]]:
    def table(name: str, *, needed: bool = False) -> dict[str, str]:
        return _table(folder / name, encoding, found, needed=needed)

    recordings, texts = table("wav.scp", needed=True), table("text", needed=True)
    speakers, segments = table("utt2spk"), table("segments")
    rows: list[dict[str, object]] = []
    for utt_id, text in texts.items():
        place = _place(folder, utt_id, segments)
        if place is None or place[0] not in recordings:
            found.left_out.append(LeftOut("", NO_RECORDING, utt_id))
            continue
        recording, start, end = place
        audio, command = _audio(recordings[recording], recording, folder, piped)
        rows.append(
            {
                "id": utt_id,
                "audio": audio,
                "command": command,
                "text": collapse_spaces(text),
                "start": start,
                "end": end,
                "speaker": speakers.get(utt_id),
            }
        )
    return rows


def _table(path: Path, encoding: str, found: ImportedCorpus, *, needed: bool) -> dict[str, str]:
    """Return the first word of each line -> the rest of it."""
    if not path.is_file():
        if needed:
            raise DataError(
                f"{path} does not exist.", "a Kaldi data directory has wav.scp and text."
            )
        return {}
    lines = read_text(path, encoding, found.notes).splitlines()
    split = (line.strip().split(maxsplit=1) for line in lines if line.strip())
    return {words[0]: words[1] if len(words) > 1 else "" for words in split}


def _place(
    folder: Path, utt_id: str, segments: Mapping[str, str]
) -> tuple[str, float, float | None] | None:
    """Return recording, start and end of an utterance; None when ``segments`` lacks it."""
    if not segments:
        return utt_id, 0.0, None
    if utt_id not in segments:
        return None
    words = segments[utt_id].split()
    try:
        recording, start, end = words[0], float(words[1]), float(words[2])
    except (IndexError, ValueError):
        raise DataError(
            f"{folder / 'segments'}: {utt_id!r} is followed by {segments[utt_id]!r}.",
            "a line is: utterance, recording, start and end in seconds.",
        ) from None
    # Kaldi writes -1 for the end of the recording.
    return recording, start, end if end > start else None


def _audio(entry: str, recording: str, folder: Path, piped: Path) -> tuple[Path, str | None]:
    """Return the file of a line of ``wav.scp`` and the command that makes it, if one does."""
    if entry.rstrip().endswith("|"):
        return piped / f"{recording}.wav", entry.rstrip()[:-1].strip()
    path = Path(entry.strip())
    if path.is_absolute():
        return path, None
    # Kaldi's paths count from where its scripts run: the folder above data, as a rule.
    bases = [Path(), folder, *folder.absolute().parents[:3]]
    there = (base / path for base in bases if (base / path).is_file())
    return Path(os.path.normpath(next(there, folder / path))), None


# train_supervisions.jsonl.gz, librispeech_supervisions_dev-clean.jsonl.gz, supervisions.jsonl
_NAME = re.compile(r"^(?P<before>.*?)_?supervisions_?(?P<after>.*?)\.jsonl(\.gz)?$")


def supervision_files(folder: Path) -> list[Path]:
    """Return the manifests of supervisions that have one of recordings beside them."""
    files = sorted(path for path in folder.glob("*supervisions*.jsonl*") if _NAME.match(path.name))
    return [path for path in files if recordings_of(path).is_file()]


def recordings_of(supervisions: Path) -> Path:
    """Return the manifest of recordings that belongs to one of supervisions."""
    return supervisions.with_name(supervisions.name.replace("supervisions", "recordings"))


def read_lhotse(folder: Path) -> ImportedCorpus:
    """Read all pairs of manifests in a folder.

    Raises:
        DataError: a manifest is damaged, or its recordings are not files.
    """
    found = ImportedCorpus(f"lhotse manifests in {folder}")
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
        text=collapse_spaces(segment.text or ""),
        start=segment.start,
        end=None if whole else segment.end,
        channel=recording.channel_ids.index(segment.channel) if one_of_many else None,
        speaker=segment.speaker,
        split=split,
    )


_FORMS = (
    "give a table (.tsv, .csv), a folder of sound files with .txt files of the same names, "
    "a Kaldi data directory, or a folder of lhotse manifests."
)
_MOST_SHOWN = 5


def read_source(source: Path, encoding: str, piped: Path) -> ImportedCorpus:
    """Read the utterances of a table, a folder, a Kaldi data directory or lhotse manifests.

    Args:
        source: the file or folder.
        encoding: of text files.
        piped: folder for the sound that commands of Kaldi write.

    Raises:
        DataError: there is none of these, or it is damaged.
    """
    if not source.exists():
        raise DataError(f"{source} does not exist; {_beside(source)}.", _FORMS)
    if source.is_file():
        return read_table(source, encoding)
    for is_there, read in _readers(encoding, piped):
        if is_there(source):
            return _with_something(source, read(source))
    raise DataError(f"{source} holds nothing to import; {_inside(source)}.", _FORMS)


def _readers(
    encoding: str, piped: Path
) -> list[tuple[Callable[[Path], object], Callable[[Path], ImportedCorpus]]]:
    return [
        (kaldi_folders, lambda folder: read_kaldi(folder, encoding, piped)),
        (supervision_files, read_lhotse),
        (_only_table, lambda folder: read_table(_the_table(folder), encoding)),
        (sound_files, lambda folder: read_folder(folder, encoding)),
    ]


def _with_something(source: Path, found: ImportedCorpus) -> ImportedCorpus:
    if found.utterances:
        return found
    if any(source.rglob("*.trans.txt")):
        raise DataError(
            f"{source} is laid out as LibriSpeech (*.trans.txt).",
            "./prepare.sh --recipe librispeech prepares that.",
        )
    why = f"; the first of {len(found.left_out)} is left out for: {found.left_out[0].reason}"
    raise DataError(f"{found.kind}: 0 utterances{why if found.left_out else ''}.", _FORMS)


def _tables(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def _only_table(folder: Path) -> bool:
    tables = _tables(folder)
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables)
        raise DataError(f"{folder} has several tables: {names}.", "give one of them: --from FILE.")
    return bool(tables)


def _the_table(folder: Path) -> Path:
    return _tables(folder)[0]


def _beside(source: Path) -> str:
    parent = next((p for p in source.absolute().parents if p.is_dir()), Path("/"))
    return _inside(parent)


def _inside(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return f"{folder} has {', '.join(names[:_MOST_SHOWN]) or 'nothing'}{more}"
