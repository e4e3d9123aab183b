"""A made-up copy of GigaSpeech: a description, and sound of a second or two in Opus files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE = 16000
# Recording -> subsets it is in, and the texts of its seconds.
RECORDINGS: dict[str, tuple[list[str], list[str]]] = {
    "POD0000000001": (
        ["XS", "S", "XL"],
        [
            "SO <COMMA> HERE  WE ARE <PERIOD>",
            "<MUSIC>",
            "ARE WE <QUESTIONMARK> YES <EXCLAMATIONPOINT>",
        ],
    ),
    "YOU0000000002": (["XL"], ["ONE MORE", "<SIL>"]),
    "AUD0000000003": (["XL"], ["THE LAST OF <COMMA> THEM", "<PERIOD>", "OH"]),
    "POD1000000004": (["DEV"], ["FOR CHECKING ONLY", "<OTHER>"]),
    "POD1000000005": (["TEST"], ["FOR THE TEST", "AGAIN <NOISE>"]),
}


def write_copy(folder: Path) -> list[dict[str, Any]]:
    """Write description and sound; return the recordings as they are described."""
    described = []
    for number, (name, (subsets, texts)) in enumerate(RECORDINGS.items()):
        path = Path("audio", "podcast", f"P{number:04d}", f"{name}.opus")
        (folder / path).parent.mkdir(parents=True)
        time = np.arange(RATE * len(texts)) / RATE
        sound = 0.3 * np.sin(2 * np.pi * (200 + 100 * number) * time)
        soundfile.write(folder / path, sound, RATE, format="OGG", subtype="OPUS")
        described.append(
            {
                "aid": name,
                "path": str(path),
                "channels": 1,
                # As in many real descriptions, not quite what the file has.
                "duration": len(texts) + 0.04,
                "sample_rate": RATE,
                "subsets": [f"{{{subset}}}" for subset in subsets],
                "segments": [
                    {
                        "sid": f"{name}_S{index:07d}",
                        "speaker": "N/A",
                        "begin_time": float(index),
                        "end_time": index + 1.02,
                        "text_tn": text,
                        "subsets": [f"{{{subset}}}" for subset in subsets],
                    }
                    for index, text in enumerate(texts)
                ],
            }
        )
    describe(folder, described)
    return described


def describe(folder: Path, described: list[dict[str, Any]]) -> None:
    """Write ``GigaSpeech.json``."""
    text = json.dumps({"dataset": "GigaSpeech", "language": "EN", "audios": described}, indent=1)
    (folder / "GigaSpeech.json").write_text(text)
