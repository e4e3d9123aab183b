"""Reader for --from: JSON lines, one object for each utterance, as NeMo writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zipasr.base.errors import DataError
from zipasr.corpora.custom.audio_files import AudioFiles
from zipasr.corpora.custom.columns import Column, match_columns
from zipasr.corpora.custom.source_text import place, read_lines
from zipasr.corpora.custom.table import add_rows, check_columns, note_unused
from zipasr.corpora.custom.utterances import ImportedCorpus

SUFFIXES = {".json", ".jsonl", ".ndjson", ".manifest"}
NOT_JSON = "no JSON object"
NOT_A_WORD = "a field that is neither text nor a number"

_FIX = 'a line is {"audio_filepath": "a.wav", "text": "...", "offset": 0.0, "duration": 2.5}.'


def read_json_lines(path: Path, encoding: str) -> ImportedCorpus:
    """Read a file of JSON lines, or a JSON list of objects; fields are named as columns are.

    Raises:
        DataError: no fields of sound and text, no objects, another encoding.
    """
    found = ImportedCorpus(f"JSON lines {path}")
    add_json_lines(path, encoding, found, AudioFiles(path.parent, found.notes))
    if not found.utterances and not found.dropped:
        raise DataError(f"{path} is empty: 0 utterances.", _FIX)
    return found


def add_json_lines(
    path: Path, encoding: str, found: ImportedCorpus, files: AudioFiles, split: str | None = None
) -> None:
    """Add the utterances of a file to those of others; arguments as of ``table.add_table``.

    Raises:
        DataError: see ``read_json_lines``.
    """
    before = len(found.dropped)
    objects = _objects(path, encoding, found)
    if not objects:
        if len(found.dropped) > before:
            raise DataError(f"{path} holds no JSON object: {found.dropped[before].why}.", _FIX)
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
        entries = _loaded("\n".join(line.text for line in lines))
        if isinstance(entries, list):
            named = [(f"{path.name}, entry {n}", one) for n, one in enumerate(entries, start=1)]
            return _only_objects(named, found)
    return _only_objects([(place(path, n), _loaded(text)) for n, text in lines], found)


def _only_objects(
    named: list[tuple[str, Any]], found: ImportedCorpus
) -> list[tuple[str, dict[str, Any]]]:
    for where, one in named:
        if not isinstance(one, dict):
            found.drop(NOT_JSON, where=where, utterance=where)
    return [(where, one) for where, one in named if isinstance(one, dict)]


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
