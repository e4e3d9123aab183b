"""Settings of corpora: download, manifests, synthesis, import."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zipasr.base.config import check_numbers, flag, flag_name
from zipasr.text.config import UNIT_HELP, UnitChoice
from zipasr.text.normalise import NORMALISATIONS, read_steps

# What the fields of EspeakConfig may be; rate and pitch are the range of eSpeak NG.
LEAST = {"espeak_seed": 0, "num_train": 1, "num_dev": 1, "num_test": 1}


LIMITS: dict[str, tuple[float, float]] = {
    "speech_rate": (80, 450),
    "speech_pitch": (0, 99),
    "train_voice_size": (0.5, 2.0),
    "noise_snr": (-20.0, 100.0),
    "audio_level": (-80.0, 0.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EspeakConfig:
    """The synthetic corpus: how much of it, and how varied."""

    espeak_seed: int = flag(1, "seed of the synthetic corpus")
    num_train: int = flag(3600, "synthetic training utterances")
    num_dev: int = flag(150, "synthetic development utterances")
    num_test: int = flag(300, "synthetic test utterances")
    speech_rate: tuple[int, ...] = flag((145, 204), "slowest and fastest speech, words per minute")
    speech_pitch: tuple[int, ...] = flag((35, 65), "lowest and highest pitch of a voice, 0 to 99")
    train_voice_size: tuple[float, ...] = flag(
        (0.84, 1.3), "least and most factor on formants and pitch of the training voices"
    )
    noise_snr: tuple[float, ...] = flag((15.0, 40.0), "least and most speech over noise, dB")
    audio_level: tuple[float, ...] = flag((-32.0, -20.0), "quietest and loudest recording, dBFS")

    def __post_init__(self) -> None:
        for name, smallest in LEAST.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < smallest:
                raise ValueError(
                    f"{flag_name(name)} must be an integer from {smallest} on, not {value!r}"
                )
        for name, (least, most) in LIMITS.items():
            span = getattr(self, name)
            if not _is_span(span, least, most):
                raise ValueError(
                    f"{flag_name(name)} must be two numbers from {least} to {most}, the smaller "
                    f"first, not {span!r}"
                )

    def count(self, split: str) -> int:
        """Return the number of utterances of ``split``."""
        return int(getattr(self, f"num_{split}"))


def _is_span(value: Any, least: float, most: float) -> bool:
    kind = int if isinstance(least, int) else (int, float)
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    return all(isinstance(end, kind) for end in value) and least <= value[0] <= value[1] <= most


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadConfig:
    """Downloads."""

    mirror: str | None = flag(
        None,
        "server to use instead of OpenSLR's, such as https://example.org/resources",
    )
    keep_archives: bool = flag(True, "keep archives after unpacking; 0 needs half the disk space")

    def __post_init__(self) -> None:
        if self.mirror is not None and not re.match(r"https?://[^/]", self.mirror):
            raise ValueError(f"--mirror {self.mirror} is no address; it begins with https://")


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusConfig:
    """Corpus."""

    audio_dir: Path | None = flag(None, "folder of the audio; none: data/RECIPE/audio")
    giga_dir: Path | None = flag(
        None,
        "folder of GigaSpeech, with GigaSpeech.json; none: GigaSpeech in --dl-dir",
    )
    num_jobs: int = flag(2, "parallel processes")
    force: bool = flag(False, "run the commands of a wav.scp again whose sound is there already")

    def __post_init__(self) -> None:
        check_numbers(self, "must be at least 1", "num_jobs")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceConfig:
    """Downloads."""

    dl_dir: Path = flag(Path("download"), "folder of downloaded files")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportConfig:
    """Import of a corpus."""

    encoding: str = flag("utf-8", "character encoding of text files")
    seed: int = flag(42, "seed of the splits, if the corpus has none")
    normalise: str = flag(
        NORMALISATIONS[0],
        f"spelling of the transcripts: {', '.join(NORMALISATIONS[:4])}, or two with a comma",
    )
    unit: UnitChoice = flag("auto", UNIT_HELP)
    max_bad: float = flag(
        1.0, "most utterances that may be left out; ten are tolerated always", unit="%"
    )
    strict_rate: bool = flag(
        False, "refuse sound files of another rate than 16000 Hz; 0: they are resampled"
    )
    num_jobs: int = flag(2, "threads that read audio files")

    def __post_init__(self) -> None:
        check_numbers(self, "must be at least 1", "num_jobs")
        read_steps(self.normalise)
        if not 0 <= self.max_bad <= 100:
            raise ValueError(f"--max-bad {self.max_bad:g} is no percentage from 0 to 100.")
