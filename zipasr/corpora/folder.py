"""A folder of sound files, each with its transcript in a .txt of the same name."""

from __future__ import annotations

from pathlib import Path

from zipasr.audio.quarantine import LeftOut
from zipasr.base.errors import DataError
from zipasr.corpora.splits import purpose_of
from zipasr.corpora.utterances import AUDIO_SUFFIXES, Found, Utterance, squeezed
from zipasr.text.text_io import read_text

NO_TRANSCRIPT = "no .txt of the same name"


def read_folder(folder: Path, encoding: str) -> Found:
    """Read a folder and all below it.

    Where the topmost folders below are called train, dev and test (or the like), they are the
    splits.

    Raises:
        DataError: transcripts that are not text of this encoding; how many is said too.
    """
    found = Found(f"folder {folder}")
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
                text=squeezed(text),
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
