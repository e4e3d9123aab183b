"""Sound files and transcripts of a corpus of one's own, in all the forms it may come in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

WORDS = ("one", "two", "three", "four", "five", "six", "seven")


def write_sound(
    path: Path, seconds: float = 1.0, *, rate: int = 16000, channels: int = 1, seed: int = 0
) -> Path:
    """Noise of its own for each seed."""
    samples = np.random.default_rng(seed).normal(scale=0.1, size=(int(rate * seconds), channels))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate)
    return path


def write_table(
    path: Path, rows: list[dict[str, object]], separator: str = "\t", encoding: str = "utf-8"
) -> Path:
    head = list(dict.fromkeys(name for row in rows for name in row))
    lines = [head, *([str(row.get(name, "")) for name in head] for row in rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(separator.join(line) + "\n" for line in lines).encode(encoding))
    return path


def table_of(folder: Path, count: int, **columns: list[object]) -> Path:
    """A table of so many files, with more columns if given."""
    rows: list[dict[str, object]] = []
    for i in range(count):
        write_sound(folder / "audio" / f"u{i:02d}.flac", seed=i)
        row: dict[str, object] = {"audio": f"audio/u{i:02d}.flac", "text": WORDS[i % len(WORDS)]}
        rows.append(row | {name: values[i] for name, values in columns.items()})
    return write_table(folder / "table.tsv", rows)
