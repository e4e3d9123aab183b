"""A table of utterances: TSV or CSV with a header line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from zipasr.base.errors import DataError, nearest
from zipasr.corpora.utterances import AUDIO_SUFFIXES, Found, Utterance, squeezed
from zipasr.text.text_io import read_text

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


def read_table(path: Path, encoding: str) -> Found:
    """Read a table.

    Audio paths count from the table's folder; a name that is not there is looked for below that
    folder. Without a column ``audio``, the file is the one named like the ``id``.

    Raises:
        DataError: no such columns, rows of another width, times that are no numbers.
    """
    found = Found(f"table {path}")
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
    """Sound files by what a table may call them.

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
        text=squeezed(values["text"]),
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
