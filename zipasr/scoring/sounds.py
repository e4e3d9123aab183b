"""The speech of a report's utterances: inside the page while there is room, else as links."""

from __future__ import annotations

import base64
import io
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import soundfile

from zipasr.scoring.records import Record

#: What browsers play.
PLAYABLE = {".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a"}


def sound_addresses(records: Iterable[Record], folder: Path, room: float) -> dict[str, str]:
    """Return where the page finds the speech of each utterance.

    Args:
        records: the most interesting first; they are put into the page until it is full.
        folder: of the page; links are relative to it.
        room: bytes of the page for speech.

    Returns:
        Id of the utterance -> address; utterances whose audio is not there are left out.
    """
    addresses: dict[str, str] = {}
    for record in records:
        if not record.audio or record.id in addresses or not Path(record.audio).is_file():
            continue
        embedded = embedded_sound(record) if room > 0 else ""
        room -= len(embedded)
        if embedded and room >= 0:
            addresses[record.id] = embedded
        elif Path(record.audio).suffix.lower() in PLAYABLE:
            addresses[record.id] = link(record, folder)
    return addresses


def embedded_sound(record: Record) -> str:
    """Return the speech of an utterance as a data address; empty if it cannot be read."""
    try:
        with soundfile.SoundFile(record.audio) as file:
            file.seek(round(record.start * file.samplerate))
            frames = round(record.duration * file.samplerate) if record.duration else -1
            samples = file.read(frames, dtype="int16", always_2d=True)
            buffer = io.BytesIO()
            soundfile.write(buffer, samples[:, 0], file.samplerate, format="FLAC")
    except (OSError, RuntimeError) as problem:
        logging.warning("%s: no sound in the report: %s", record.id, problem)
        return ""
    return "data:audio/flac;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def link(record: Record, folder: Path) -> str:
    """Return a relative address of the part of a recording that an utterance is."""
    path = quote(Path(os.path.relpath(record.audio, folder)).as_posix())
    if not record.duration:
        return path
    return f"{path}#t={record.start:.2f},{record.start + record.duration:.2f}"
