"""A LibriSpeech of a few utterances of noise, in the layout of the published archives."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000
TEXTS = ("A POPULAR CONTRIVANCE", "HARANGUE", "ANGOR PAIN")


def write_part(root: Path, part: str, texts: tuple[str, ...] = TEXTS, speaker: str = "121") -> Path:
    """Write one chapter of a speaker below ``root / part`` and return its folder."""
    chapter = root / part / speaker / "121726"
    chapter.mkdir(parents=True)
    rng = np.random.default_rng(len(part))
    lines = []
    for number, text in enumerate(texts):
        name = f"{speaker}-121726-{number:04d}"
        samples = 0.1 * rng.standard_normal(RATE + 1000 * number)
        soundfile.write(chapter / f"{name}.flac", samples.clip(-1, 1), RATE)
        lines.append(f"{name} {text}\n")
    (chapter / f"{speaker}-121726.trans.txt").write_text("".join(lines))
    return chapter


def write_musan(root: Path, seconds: float = 26.0) -> Path:
    """Write a MUSAN of one recording in each of its three parts and return its folder."""
    rng = np.random.default_rng(1)
    for part in ("music", "speech", "noise"):
        folder = root / "musan" / part / "source"
        folder.mkdir(parents=True)
        samples = 0.1 * rng.standard_normal(int(RATE * seconds)).clip(-3, 3)
        soundfile.write(folder / f"{part}-source-0000.wav", samples, RATE, subtype="PCM_16")
    (root / "musan/music/source/ANNOTATIONS").write_text("music-source-0000 jazz,folk N someone\n")
    return root / "musan"


def tar_of(root: Path, names: list[str], extra: dict[str, bytes] | None = None) -> bytes:
    """Return a tar.gz of paths below ``root``, and of files with the given contents."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in names:
            tar.add(root / name, name)
        for name, content in (extra or {}).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
