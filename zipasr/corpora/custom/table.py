"""Reader for --from: tables of utterances (TSV, CSV); the utterances every reader yields."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zipasr.audio.quarantine import LeftOut
from zipasr.base.errors import DataError, nearest
from zipasr.text.text_io import read_text

AUDIO_SUFFIXES = {
    ".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".au", ".w64", ".sph", ".m4a",
}  # fmt: skip

NO_TEXT = "empty transcript"
SAME_ID = "same id as another utterance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """A segment of a sound file with its transcript.

    Attributes:
        id: unique in the corpus.
        audio: the file; or, with ``command``, where the command's output is going to be.
        text: the transcript, spaces squeezed.
        start: seconds from the beginning of the file.
        end: seconds; None is the end of the file.
        channel: the only channel to use; None takes all that are not silent.
        speaker: None when it is not known.
        split: name given by the source; None when it gives none.
        command: writes the audio to its standard output (Kaldi's pipes).
    """

    id: str
    audio: Path
    text: str
    start: float = 0.0
    end: float | None = None
    channel: int | None = None
    speaker: str | None = None
    split: str | None = None
    command: str | None = None

    @property
    def is_whole(self) -> bool:
        """The utterance is all of its file."""
        return self.start == 0.0 and self.end is None


@dataclass(slots=True)
class ImportedCorpus:
    """Contents of a source: utterances by split.

    Attributes:
        kind: of the source, for people.
        utterances: with a text, each with an id of its own.
        left_out: what cannot be used, found without opening a sound file.
        notes: small things that were put right, with their counts.
    """

    kind: str
    utterances: list[Utterance] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    ids: set[str] = field(default_factory=set)

    def add(self, utterance: Utterance) -> None:
        """Take an utterance in, unless it has no text or the id of another one."""
        reason = NO_TEXT if not utterance.text else ""
        if utterance.id in self.ids:
            reason = SAME_ID
        if reason:
            self.left_out.append(LeftOut(str(utterance.audio), reason, utterance.id))
            return
        self.ids.add(utterance.id)
        self.utterances.append(utterance)


def collapse_spaces(text: str) -> str:
    """Return the words separated by single spaces."""
    return " ".join(text.split())


SUFFIXES = {".tsv", ".csv"}

# The first name is ours; the others are what well-known corpora call the same thing.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "audio": ("audio", "path", "file", "wav", "filename", "file_name", "audio_path", "audio_file"),
    "text": ("text", "transcript", "transcription", "sentence"),
    "id": ("id", "utt_id", "utt", "utterance", "utterance_id"),
    "start": ("start", "begin", "start_time"),
    "end": ("end", "stop", "end_time"),
    "speaker": ("speaker", "speaker_id", "spk", "client_id"),
    "split": ("split", "subset", "set"),
    "channel": ("channel",),
}
_FIX = "the first line names the columns: audio and text; id, start, end, speaker, split if known."


def read_table(path: Path, encoding: str) -> ImportedCorpus:
    """Read a table.

    Audio paths count from the table's folder; a name that is not there is looked for below that
    folder. Without a column ``audio``, the file is the one named like the ``id``.

    Raises:
        DataError: no such columns, rows of another width, times that are no numbers.
    """
    found = ImportedCorpus(f"table {path}")
    rows = _rows(path, read_text(path, encoding, found.notes))
    _, head = next(rows, (1, []))
    columns = _columns(path, head)
    files = AudioFiles(path.parent)
    for line, cells in rows:
        if len(cells) != len(head):
            raise DataError(
                f"{path}, line {line}: {len(cells)} fields, but the header has {len(head)}.",
                "see that no field contains the separator or an open quotation mark.",
            )
        values = {name: cells[column].strip() for name, column in columns.items()}
        found.add(_utterance(f"{path}, line {line}", values, files))
    if not found.utterances and not found.left_out:
        raise DataError(f"{path} is empty: 0 utterances.", _FIX)
    return found


def separator_of(path: Path, head: str) -> str:
    """Return what separates the fields: a tab in a .tsv, else the commonest in the header."""
    if path.suffix.lower() == ".tsv" or "\t" in head:
        return "\t"
    return max(",;|", key=head.count)


class AudioFiles:
    """Sound files found by the names that a table may use for them.

    Args:
        folder: from which names count, and below which they are looked for.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._by_name: dict[str, list[Path]] | None = None

    def find(self, name: str) -> Path:
        """Return the file called ``name``; where it should be, when there is none.

        Raises:
            DataError: several files below the folder have that name.
        """
        path = self._folder / name
        if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file():
            return path
        if self._by_name is None:
            self._by_name = _by_name(self._folder)
        there = self._by_name.get(Path(name).name, [])
        if len(there) > 1:
            raise DataError(
                f"{name} is the name of {len(there)} files, such as {there[0]} and {there[1]}.",
                "give their paths in a column 'audio'.",
            )
        return there[0] if there else path


def _by_name(folder: Path) -> dict[str, list[Path]]:
    names: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in AUDIO_SUFFIXES:
            names.setdefault(path.name, []).append(path)
            names.setdefault(path.stem, []).append(path)
    return names


def _rows(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and fields of every line that is not blank."""
    separator = separator_of(path, text.partition("\n")[0])
    # In tab-separated files quotation marks are text.
    is_plain = separator == "\t"
    reader = csv.reader(
        io.StringIO(text),
        delimiter=separator,
        quoting=csv.QUOTE_NONE if is_plain else csv.QUOTE_MINIMAL,
        strict=True,
    )
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as problem:
        raise DataError(f"{path}, line {reader.line_num}: {problem}.") from problem


def _columns(path: Path, head: Sequence[str]) -> dict[str, int]:
    names = [name.strip().lower() for name in head]
    places = {
        ours: names.index(next(name for name in known if name in names))
        for ours, known in COLUMNS.items()
        if any(name in names for name in known)
    }
    lacking = [] if "text" in places else ["text"]
    lacking += [] if {"audio", "id"} & {*places} else ["audio"]
    if lacking:
        raise DataError(
            f"{path} has no column {lacking[0]!r}; its first line names {', '.join(names)}.",
            nearest(lacking[0], names) or _FIX,
        )
    return places


def _utterance(where: str, values: Mapping[str, str], files: AudioFiles) -> Utterance:
    start = _number(where, "start", values) or 0.0
    end = _number(where, "end", values)
    if start < 0 or (end is not None and end <= start):
        raise DataError(f"{where}: start {start:g} and end {end} are no stretch of time.")
    name = values.get("audio") or values.get("id", "")
    channel = _number(where, "channel", values)
    return Utterance(
        id=values.get("id") or _id_of(name, start, end),
        audio=files.find(name),
        text=collapse_spaces(values["text"]),
        start=start,
        end=end,
        channel=None if channel is None else int(channel),
        speaker=values.get("speaker") or None,
        split=values.get("split") or None,
    )


def _id_of(name: str, start: float, end: float | None) -> str:
    """Name an utterance after its file, folders included, and its first millisecond."""
    stem = "-".join(Path(name).with_suffix("").parts).replace("/", "").strip("-.")
    return stem if start == 0.0 and end is None else f"{stem}-{round(start * 1000):07d}"


def _number(where: str, name: str, values: Mapping[str, str]) -> float | None:
    word = values.get(name)
    if not word:
        return None
    try:
        return float(word)
    except ValueError:
        fix = "give seconds from the beginning of the file, such as 12.5."
        raise DataError(f"{where}: {name} {word!r} is no number.", fix) from None
