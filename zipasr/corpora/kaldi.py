"""A Kaldi data directory: ``wav.scp`` and ``text``, with ``segments`` and ``utt2spk`` if known."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from zipasr.audio.quarantine import LeftOut
from zipasr.base.errors import DataError
from zipasr.corpora.splits import purpose_of
from zipasr.corpora.utterances import Found, Utterance, squeezed
from zipasr.text.text_io import read_text

NO_RECORDING = "not in wav.scp"


def kaldi_folders(folder: Path) -> list[Path]:
    """Return the data directories: the folder itself, or those in it that are named as splits."""
    if (folder / "wav.scp").is_file():
        return [folder]
    inside = sorted(path.parent for path in folder.glob("*/wav.scp"))
    return [path for path in inside if purpose_of(path.name) is not None]


def read_kaldi(folder: Path, encoding: str, piped: Path) -> Found:
    """Read one data directory, or the ``train``, ``dev`` and ``test`` directories in it.

    Args:
        folder: of the files.
        encoding: of the files.
        piped: folder for the sound that commands in ``wav.scp`` write.

    Raises:
        DataError: a file is missing or has other lines than Kaldi's.
    """
    folders = kaldi_folders(folder)
    found = Found(f"Kaldi data directory {folder}")
    for part in folders:
        split = part.name if len(folders) > 1 else None
        for utterance in _utterances(part, encoding, piped, found):
            found.add(Utterance(**utterance, split=split))  # type: ignore[arg-type]
    return found


def _utterances(folder: Path, encoding: str, piped: Path, found: Found) -> list[dict[str, object]]:
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
                "text": squeezed(text),
                "start": start,
                "end": end,
                "speaker": speakers.get(utt_id),
            }
        )
    return rows


def _table(path: Path, encoding: str, found: Found, *, needed: bool) -> dict[str, str]:
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
