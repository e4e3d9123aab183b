"""Readers for --from: a folder of sound files with transcripts, or of tables named as splits."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from zipasr.base.errors import DataError
from zipasr.corpora.custom.audio_files import (
    NOT_A_FILE,
    AudioFiles,
    files_below,
    is_file,
    is_sound,
    kind_of,
)
from zipasr.corpora.custom.source_text import is_one_off, read_whole
from zipasr.corpora.custom.table import JSON_SUFFIXES, TABLE_SUFFIXES, add_json_lines, add_table
from zipasr.corpora.custom.utterances import ImportedCorpus, Utterance, is_unicode, purpose_of

NO_TRANSCRIPT = "no .txt of the same name"
NO_SOUND = ".txt files without a sound file of the same name, not used"
BAD_NAME = "a name that is not UTF-8"

_SPLIT_TABLE = re.compile(r"^(train|dev|test|valid|validation|val|eval)([-_.].*)?$")


def read_folder(folder: Path, encoding: str) -> ImportedCorpus:
    """Read a folder and all below it.

    Where the topmost folders below are called train, dev and test (or the like), they are the
    splits.

    Raises:
        DataError: the transcripts are in another encoding.
    """
    found = ImportedCorpus(f"folder {folder}")
    files = files_below(folder, found.notes)
    transcripts = {_key(path): path for path in files if path.suffix.lower() == ".txt"}
    alike = {(parent, stem.casefold()): path for (parent, stem), path in transcripts.items()}
    refused: list[tuple[Path, DataError]] = []
    shown_right = False
    for audio in (path for path in files if is_sound(path)):
        parent, stem = _key(audio)
        transcript = transcripts.get((parent, stem)) or alike.get((parent, stem.casefold()))
        fault = _fault(audio, transcript)
        if fault[0] or transcript is None:
            found.drop(*fault, where=str(audio.relative_to(folder)), audio=audio)
            continue
        try:
            text = read_whole(transcript, encoding, found.notes)
        except DataError as problem:
            refused.append((audio, problem))
            continue
        shown_right = shown_right or not text.isascii()
        found.add(_utterance(audio, text, folder))
    if refused and not is_one_off(len(refused), shown_right=shown_right):
        first, many = refused[0][1], f" ({len(refused)} files are like this.)"
        raise DataError(first.what + (many if len(refused) > 1 else ""), first.fix)
    for audio, wrong in refused:
        found.drop("its .txt cannot be decoded", wrong.what, audio=audio)
    used = {(parent, stem.casefold()) for parent, stem in map(_key, filter(is_sound, files))}
    lonely = len(alike.keys() - used)
    if lonely:
        found.notes[NO_SOUND] += lonely
    return found


def _key(path: Path) -> tuple[Path, str]:
    return path.parent, unicodedata.normalize("NFC", path.stem)


def _fault(audio: Path, transcript: Path | None) -> tuple[str, str]:
    """Return what is wrong with a pair of files, and the detail; empty when nothing is."""
    if not is_unicode(str(audio)):
        return BAD_NAME, ""
    if not is_file(audio):
        return NOT_A_FILE, kind_of(audio) or "a link to nothing"
    if transcript is None:
        return NO_TRANSCRIPT, ""
    return ("", "") if is_file(transcript) else (NOT_A_FILE, f"{transcript.name}")


def _utterance(audio: Path, text: str, folder: Path) -> Utterance:
    inside = audio.relative_to(folder)
    return Utterance(
        id=unicodedata.normalize("NFC", "-".join(inside.with_suffix("").parts)),
        audio=audio,
        text=text,
        split=inside.parts[0] if _is_split(inside) else None,
        where=str(inside),
    )


def _is_split(inside: Path) -> bool:
    return len(inside.parts) > 1 and purpose_of(inside.parts[0]) is not None


def split_tables(folder: Path) -> list[Path]:
    """Return the tables of a folder that are named as splits, when one of them is for training.

    Such are Common Voice's ``train.tsv``, ``dev.tsv`` and ``test.tsv``; its other tables are no
    splits.
    """
    named = [path for path in tables_in(folder) if _SPLIT_TABLE.match(path.stem.lower())]
    is_set = len(named) > 1 and any(path.stem.lower().startswith("train") for path in named)
    return named if is_set else []


def tables_in(folder: Path) -> list[Path]:
    """Return the tables and JSON lines of a folder, those below it apart."""
    suffixes = TABLE_SUFFIXES | JSON_SUFFIXES
    return sorted(
        path for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and is_file(path)
    )  # fmt: skip


def read_split_tables(folder: Path, encoding: str) -> ImportedCorpus:
    """Read a folder of tables, each of them a split.

    Raises:
        DataError: a table has no columns of sound and text, or is in another encoding.
    """
    tables = split_tables(folder)
    kind = "Common Voice folder" if (folder / "clips").is_dir() else "folder of tables"
    found = ImportedCorpus(f"{kind} {folder}")
    files = AudioFiles(folder, found.notes)
    for path in tables:
        add = add_json_lines if path.suffix.lower() in JSON_SUFFIXES else add_table
        add(path, encoding, found, files, split=path.stem)
    for path in tables_in(folder):
        if path not in tables:
            found.not_used(path.name, "no split")
    return found
