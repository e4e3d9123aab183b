"""Readers for --from: tables (TSV, CSV, LJSpeech's metadata.csv), and JSON lines as of NeMo."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zipasr.audio.faults import MISSING
from zipasr.base.errors import DataError, nearest
from zipasr.corpora.custom.audio_files import AudioFiles, is_sound
from zipasr.corpora.custom.columns import Column, Columns, match_columns, utterance_of
from zipasr.corpora.custom.delimited import Delimited
from zipasr.corpora.custom.source_text import Line, json_of, place, read_lines
from zipasr.corpora.custom.utterances import ImportedCorpus, RowFault, Utterance, printable

TABLE_SUFFIXES = {".tsv", ".csv"}
JSON_SUFFIXES = {".json", ".jsonl", ".ndjson", ".manifest"}
_COLUMNS = "audio and text; id, start, end, speaker, split if known."
_FIX = f"the first line names the columns: {_COLUMNS}"


def read_table(path: Path, encoding: str) -> ImportedCorpus:
    """Read a table.

    Audio paths count from the table's folder; a name that is not there is looked for below that
    folder. Without a column ``audio``, the file is the one named like the ``id``. A row that
    cannot be used is left out.

    Raises:
        DataError: no columns of sound and text, no rows, another encoding.
    """
    found = ImportedCorpus(f"table {path}")
    add_table(path, encoding, found, AudioFiles(path.parent, found.notes))
    return _not_empty(found, path, _FIX)


def _not_empty(found: ImportedCorpus, path: Path, fix: str) -> ImportedCorpus:
    if not found.utterances and not found.dropped:
        raise DataError(f"{path} is empty: 0 utterances.", fix)
    return found


def add_table(
    path: Path, encoding: str, found: ImportedCorpus, files: AudioFiles, split: str | None = None
) -> None:
    """Add the utterances of a table to those of others.

    Args:
        path: of the table.
        encoding: of the table.
        found: where they are added.
        files: where its sound files are looked for.
        split: of all rows; None reads the column of splits.

    Raises:
        DataError: see ``read_table``.
    """
    lines = read_lines(path, encoding, found)
    delimited = Delimited(path, lines, found)
    columns = match_columns(delimited.head)
    check_columns(path, columns, delimited.head)
    note_unused(path, columns, found)
    audio = columns.known.get("audio")
    rows = delimited.rows(None if audio is None else audio.index, is_sound)
    add_rows(
        (
            (
                place(path, row.line),
                {name: row.cells[column.index].strip() for name, column in columns.known.items()},
            )
            for row in rows
        ),
        columns,
        found,
        files,
        split,
    )


def check_columns(path: Path, columns: Columns, names: list[str]) -> None:
    """Refuse a source that names no sound or no text.

    Raises:
        DataError: it does not.
    """
    lacking = [] if "text" in columns.known else ["text"]
    lacking += [] if {"audio", "id"} & {*columns.known} else ["audio"]
    if not lacking:
        return
    fix = nearest(lacking[0], [name.lower() for name in names]) or _FIX
    if any(is_sound(name) for name in names):
        fix = f"its first line is an utterance: put one above it that names the columns: {_COLUMNS}"
    shown = printable(", ".join(name[:60] for name in names[:20]))
    raise DataError(f"{path} has no column {lacking[0]!r}; its first line names {shown}.", fix)


def note_unused(path: Path, columns: Columns, found: ImportedCorpus) -> None:
    """Note the columns that nothing is taken from."""
    for name in columns.unused:
        found.not_used(name, path.name)


def add_rows(
    rows: Iterable[tuple[str, Mapping[str, str]]],
    columns: Columns,
    found: ImportedCorpus,
    files: AudioFiles,
    split: str | None = None,
) -> None:
    """Add an utterance for each row that can be used, and note the others.

    Args:
        rows: file and line of each row, and its fields by meaning.
        columns: of the source.
        found: where they are added.
        files: where sound files are looked for.
        split: of all rows; None takes that of the row.
    """
    read: list[tuple[Utterance, str]] = []
    for where, fields in rows:
        values = fields if split is None else {**fields, "split": split}
        name = values.get("audio") or values.get("id", "")
        try:
            read.append((utterance_of(values, columns, files.find, where), name))
        except RowFault as fault:
            shown = values.get("id") or f"{where}: {name}"
            shown = found.unique_id(shown)
            found.drop(fault.reason, fault.detail, where=where, utterance=shown)
    for utterance, name in read:
        if files.is_doubtful(utterance.audio, name):
            detail = f"{name}; {utterance.audio} belongs to another row"
            shown = found.unique_id(utterance.id)
            found.drop(MISSING, detail, where=utterance.where, utterance=shown)
        else:
            found.add(utterance)


LJSPEECH = "metadata.csv"
_WAVS = "wavs"


def is_ljspeech(path: Path) -> bool:
    """Say whether a file is LJSpeech's table: no header, fields parted by ``|``, a folder wavs."""
    if path.name.lower() != LJSPEECH or not (path.parent / _WAVS).is_dir():
        return False
    with path.open("rb") as file:
        cells = file.readline(1 << 16).decode("utf-8", "replace").lstrip("\ufeff").split("|")
    return len(cells) in (2, 3) and not {"text", "audio"} & {cell.strip().lower() for cell in cells}


def read_ljspeech(path: Path, encoding: str) -> ImportedCorpus:
    """Read LJSpeech's table: id, transcript, and the transcript with numbers written out.

    Raises:
        DataError: another encoding.
    """
    found = ImportedCorpus(f"LJSpeech table {path}")
    lines = read_lines(path, encoding, found)
    has_normalised = any(line.text.count("|") >= 2 for line in lines)
    if has_normalised:
        found.not_used("column 2, the text as printed (column 3 is used)", path.name)
    columns = match_columns(["id", "text"])
    rows = (_ljspeech_row(path, line, 2 if has_normalised else 1, found) for line in lines)
    files = AudioFiles(path.parent / _WAVS, found.notes)
    add_rows((row for row in rows if row is not None), columns, found, files)
    return found


def _ljspeech_row(
    path: Path, line: Line, text_column: int, found: ImportedCorpus
) -> tuple[str, Mapping[str, str]] | None:
    cells = [cell.strip() for cell in line.text.split("|")]
    where = place(path, line.number)
    if len(cells) != text_column + 1:
        detail = f"{len(cells)}, not {text_column + 1}"
        found.drop("another number of fields than most rows", detail, where=where)
        return None
    return where, {"id": cells[0], "text": cells[text_column]}


NOT_JSON = "no JSON object"
NOT_A_WORD = "a field that is neither text nor a number"

_JSON_FIX = 'a line is {"audio_filepath": "a.wav", "text": "...", "offset": 0.0, "duration": 2.5}.'


def read_json_lines(path: Path, encoding: str) -> ImportedCorpus:
    """Read a file of JSON lines, or a JSON list of objects; fields are named as columns are.

    Raises:
        DataError: no fields of sound and text, no objects, another encoding.
    """
    found = ImportedCorpus(f"JSON lines {path}")
    add_json_lines(path, encoding, found, AudioFiles(path.parent, found.notes))
    return _not_empty(found, path, _JSON_FIX)


def add_json_lines(
    path: Path, encoding: str, found: ImportedCorpus, files: AudioFiles, split: str | None = None
) -> None:
    """Add the utterances of a file to those of others; arguments as of ``add_table``.

    Raises:
        DataError: see ``read_json_lines``.
    """
    before = len(found.dropped)
    objects = _objects(path, encoding, found)
    if not objects:
        if len(found.dropped) > before:
            raise DataError(f"{path} holds no JSON object: {found.dropped[before].why}.", _JSON_FIX)
        return
    names = list(dict.fromkeys(name for _, one in objects for name in one))
    columns = match_columns(names)
    check_columns(path, columns, names)
    note_unused(path, columns, found)
    rows = []
    for where, one in objects:
        values = _values(one, columns.known)
        if isinstance(values, str):
            found.drop(NOT_A_WORD, values, where=where, utterance=where)
        else:
            rows.append((where, values))
    add_rows(rows, columns, found, files, split)


def _values(one: Mapping[str, Any], known: Mapping[str, Column]) -> dict[str, str] | str:
    """Return the fields as a table would have them, or the name of one that no table has."""
    values: dict[str, str] = {}
    for meaning, column in known.items():
        value = one.get(column.name)
        if meaning == "audio" and isinstance(value, dict):  # as Hugging Face writes them
            value = value.get("path")
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, bool) or not isinstance(value, (str, int, float, type(None))):
            return repr(column.name)
        values[meaning] = "" if value is None else _word(value).strip()
    return values


def _word(value: str | float) -> str:
    try:
        return str(value)
    except ValueError:  # an integer of thousands of digits
        return "a very large number"


def _objects(path: Path, encoding: str, found: ImportedCorpus) -> list[tuple[str, dict[str, Any]]]:
    lines = read_lines(path, encoding, found)
    if lines and lines[0].text.lstrip().startswith("["):
        entries = json_of("\n".join(line.text for line in lines))
        if isinstance(entries, list):
            named = [(f"{path.name}, entry {n}", one) for n, one in enumerate(entries, start=1)]
            return _only_objects(named, found)
    return _only_objects([(place(path, n), json_of(text)) for n, text in lines], found)


def _only_objects(
    named: list[tuple[str, Any]], found: ImportedCorpus
) -> list[tuple[str, dict[str, Any]]]:
    for where, one in named:
        if not isinstance(one, dict):
            found.drop(NOT_JSON, where=where, utterance=where)
    return [(where, one) for where, one in named if isinstance(one, dict)]
