"""Read what decode.py wrote."""

from __future__ import annotations

from pathlib import Path


def word_error_rate(exp_dir: Path, method: str, test_set: str, part: str = "") -> float:
    """Return the rate in the one summary of ``test_set`` whose file name has ``part`` in it."""
    folder = exp_dir / method
    (path,) = [p for p in folder.glob(f"wer-summary-{test_set}-*.txt") if part in p.name]
    header, line = path.read_text().splitlines()
    assert header == "settings\tWER"
    return float(line.split("\t")[1])
