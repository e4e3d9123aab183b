"""Reader for --from: Kaldi data directories, with sound that commands write."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from zipasr.base.errors import DataError
from zipasr.base.files import atomic_path, write_text
from zipasr.corpora.custom.audio_files import is_file
from zipasr.corpora.custom.columns import NOT_A_TIME, channel_of, check_times, seconds_of_word
from zipasr.corpora.custom.source_text import read_lines
from zipasr.corpora.custom.utterances import ImportedCorpus, RowFault, Utterance, purpose_of

NO_RECORDING = "not in wav.scp"
NO_SEGMENT = "not in segments"
NOT_TRANSCRIBED = "utterances of segments that have no text"
TWICE = "stands twice, with different entries"
REPEATED = "lines that repeat an earlier one"
SEVERAL_SPEAKERS = "utterances with several speakers in utt2spk: theirs is not known"
BAD_SEGMENT = "a line of segments that is not: utterance, recording, start, end, channel if known"
ARCHIVE = (
    "an archive in wav.scp (FILE.ark:OFFSET), which is not read; make files of it, or pipes "
    "(ID wav-copy FILE.ark:OFFSET - |)"
)
NOT_PLAIN = "wav.scp names the standard input"

_USED = {"wav.scp", "text", "segments", "utt2spk"}
_ARCHIVE = re.compile(r"^(?P<file>.+):\d+(\[.*\])?$")
_BLANKS = re.compile(r"[ \t]+")
_SAFE = re.compile(r"[^\w.=+-]+")


class Entry(NamedTuple):
    """What follows the first word of a line, and the place of the line."""

    rest: str
    where: str


class _Place(NamedTuple):
    """Place of an utterance in a recording; see ``Utterance``."""

    recording: str
    start: float = 0.0
    end: float | None = None
    channel: int | None = None


def kaldi_folders(folder: Path) -> list[Path]:
    """Return the data directories: the folder itself, or those in it that are named as splits."""
    if is_file(folder / "wav.scp"):
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
        DataError: ``wav.scp`` or ``text`` is missing, or in another encoding.
    """
    folders = kaldi_folders(folder)
    found = ImportedCorpus(f"Kaldi data directory {folder}")
    for part in folders:
        split = part.name if len(folders) > 1 else None
        _DataDirectory(part, encoding, piped, split, found).read()
    for path in sorted(folder.glob("*/wav.scp")):
        if path.parent not in folders and folder not in folders:
            found.not_used(f"folder {path.parent.name}", "it is named as no split")
    return found


def feats_alone(folder: Path) -> bool:
    """Say whether a data directory has features instead of sound."""
    return is_file(folder / "feats.scp") and not is_file(folder / "wav.scp")


class _DataDirectory:
    """The files of one directory."""

    def __init__(
        self, folder: Path, encoding: str, piped: Path, split: str | None, found: ImportedCorpus
    ) -> None:
        self._folder, self._encoding, self._piped = folder, encoding, piped
        self._split, self._found = split, found
        self._recordings, self._wrong_recordings = self._table("wav.scp", needed=True)
        self._texts, self._wrong_texts = self._table("text", needed=True)
        self._segments, self._wrong_segments = self._table("segments")
        self._speakers, unknown = self._table("utt2spk")
        if unknown:
            found.notes[SEVERAL_SPEAKERS] += len(unknown)
        for path in sorted(folder.iterdir()):
            # What Kaldi writes into such a folder has no ending, scripts and sound beside it have.
            is_table = path.suffix in ("", ".scp") and path.name not in _USED
            if is_table and is_file(path) and not path.name.startswith((".", "README")):
                found.not_used(path.name, split or folder.name)

    def read(self) -> None:
        """Add the utterances that can be used, and note the others."""
        for utt_id, (text, line) in self._texts.items():
            where = self._segments[utt_id].where if utt_id in self._segments else line
            try:
                self._found.add(self._utterance(utt_id, text, where))
            except RowFault as fault:
                self._drop(utt_id, fault, where)
        for utt_id, places in self._wrong_texts.items():
            self._drop(utt_id, RowFault(f"its id {TWICE}", places), places)
        untold = [u for u in self._segments if u not in self._texts and u not in self._wrong_texts]
        for utt_id in untold:
            self._found.drop(
                NOT_TRANSCRIBED,
                where=self._segments[utt_id].where,
                utterance=self._found.unique_id(utt_id),
                is_fault=False,
            )
        if untold:
            self._found.notes[NOT_TRANSCRIBED] += len(untold)

    def _drop(self, utt_id: str, fault: RowFault, where: str) -> None:
        name = self._found.unique_id(utt_id)
        self._found.drop(fault.reason, fault.detail, where=where, utterance=name)

    def _utterance(self, utt_id: str, text: str, where: str) -> Utterance:
        has_segments = bool(self._segments or self._wrong_segments)
        if utt_id in self._wrong_segments:
            raise RowFault(f"its id {TWICE}", self._wrong_segments[utt_id])
        if has_segments and utt_id not in self._segments:
            raise RowFault(NO_SEGMENT)
        place = _place(self._segments[utt_id].rest) if has_segments else _Place(utt_id)
        audio, command = self._audio(place.recording)
        speaker = self._speakers.get(utt_id)
        return Utterance(
            id=utt_id,
            audio=audio,
            command=command,
            text=text,
            start=place.start,
            end=place.end,
            channel=place.channel,
            speaker=speaker.rest if speaker and speaker.rest else None,
            split=self._split,
            where=where,
        )

    def _table(self, name: str, *, needed: bool = False) -> tuple[dict[str, Entry], dict[str, str]]:
        """Return first word -> rest of the line, and first word -> places where they differ."""
        path = self._folder / name
        if not is_file(path):
            if needed:
                fix = "a Kaldi data directory has wav.scp and text."
                raise DataError(f"{path} does not exist.", fix)
            return {}, {}
        label = name if self._split is None else f"{self._folder.name}/{name}"
        entries: dict[str, Entry] = {}
        wrong: dict[str, str] = {}
        for number, line in read_lines(path, self._encoding, self._found):
            key, _, rest = _BLANKS.sub(" ", line.strip(" \t"), count=1).partition(" ")
            entry = Entry(rest.strip(), f"{label}, line {number}")
            if key not in entries:
                entries[key] = entry
            elif entries[key].rest == entry.rest:
                self._found.notes[f"{REPEATED} of {name}"] += 1
            else:
                wrong[key] = f"{wrong.get(key) or entries[key].where} and {number}"
        return {key: entry for key, entry in entries.items() if key not in wrong}, wrong

    def _audio(self, recording: str) -> tuple[Path, str | None]:
        """Return the file of a recording and the command that makes it, if one does."""
        if recording in self._wrong_recordings:
            raise RowFault(f"its recording {TWICE}", self._wrong_recordings[recording])
        if recording not in self._recordings:
            raise RowFault(NO_RECORDING, recording)
        entry = self._recordings[recording].rest
        if entry.endswith("|"):
            command = entry[:-1].strip()
            return self._piped / f"{file_name(recording, command)}.wav", command
        if entry in ("", "-"):
            raise RowFault(NOT_PLAIN if entry else NO_RECORDING, recording)
        path = self._at_its_place(Path(entry))
        archive = _ARCHIVE.match(entry)
        if archive and not is_file(path):
            raise RowFault(ARCHIVE, entry)
        return path, None

    def _at_its_place(self, path: Path) -> Path:
        if path.is_absolute():
            return path
        # Kaldi's paths count from where its scripts run: the folder above data, as a rule.
        bases = [Path(), self._folder, *self._folder.absolute().parents[:3]]
        there = (base / path for base in bases if is_file(base / path))
        return Path(os.path.normpath(next(there, self._folder / path)))


def file_name(recording: str, command: str) -> str:
    """Return a flat name for the output of a command.

    Another command has another one, and so has the same one when a file in it has changed.
    """
    key = f"{recording}\0{command}\0{_stamps(command)}"
    digest = hashlib.blake2b(key.encode(errors="surrogatepass"))
    return f"{_SAFE.sub('-', recording).strip('-.')[:80]}-{digest.hexdigest()[:8]}"


def _stamps(command: str) -> list[tuple[str, int, int]]:
    """Return size and time of change of the files that a command names."""
    try:
        words = shlex.split(command)
    except ValueError:  # an open quotation mark: the shell will say so
        words = command.split()
    files = (Path(word) for word in words if is_file(Path(word)))
    return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]


def _place(rest: str) -> _Place:
    """Read what follows the id in a line of ``segments``."""
    words = rest.split()
    if len(words) not in (3, 4):
        raise RowFault(BAD_SEGMENT, rest[:80])
    start, end = seconds_of_word(words[1]), seconds_of_word(words[2])
    if start is None or end is None:
        raise RowFault(NOT_A_TIME, rest[:80])
    # Kaldi writes -1 for the end of the recording.
    start, end = check_times(start, None if end == -1 else end)
    return _Place(words[0], start or 0.0, end, channel_of(words[3]) if words[3:] else None)


_RECORD = ".made-from.json"


def run_command(target: Path, command: str) -> str:
    """Let a command write a file; return why it could not, or nothing.

    Args:
        target: of its standard output.
        command: for the shell, as in Kaldi's ``wav.scp``: a line of the user's own.
    """
    made_from = _made_from(command)
    record = _record(target)
    record.unlink(missing_ok=True)
    try:
        with atomic_path(target) as temporary:
            with temporary.open("wb") as out:
                done = subprocess.run(
                    command, shell=True, stdout=out, stderr=subprocess.PIPE, check=False
                )
            if done.returncode != 0:
                said = " ".join(done.stderr.decode("utf-8", "replace").split())[:200]
                raise DataError(f"the command {command!r} ended with {done.returncode}: {said}")
    except DataError as problem:
        return problem.what
    write_text(record, json.dumps(made_from))
    return ""


def is_written(target: Path, command: str) -> bool:
    """Say whether a file is what the command wrote, from the files that are there now."""
    try:
        known = json.loads(_record(target).read_text())
    except (OSError, ValueError):
        return False
    return target.is_file() and known == _made_from(command)


def _record(target: Path) -> Path:
    return target.with_name(target.name + _RECORD)


def _made_from(command: str) -> dict[str, Any]:
    """Return the command, and size and time of each file that it names."""
    try:
        words = shlex.split(command)
    except ValueError:  # a quotation mark alone: the shell will say so
        words = command.split()
    files: dict[str, list[int]] = {}
    for word in words:
        try:
            status = Path(word).stat()
        except (OSError, ValueError):
            continue
        files[word] = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    return {"command": command, "files": files}
