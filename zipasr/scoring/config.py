"""Settings of reports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zipasr.base.config import check_numbers, flag


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportConfig:
    """Report."""

    compare_with: Path | None = flag(None, "folder of another training run, to compare with")
    embed_audio_mb: float = flag(10.0, "audio embedded in the page; the rest is linked", unit="MB")

    watch: float = flag(
        0.0,
        "seconds between updates of the page, also of a training that runs; the page reloads "
        "itself; 0: write it once",
        unit="s",
    )

    def __post_init__(self) -> None:
        check_numbers(self, "must not be negative", "embed_audio_mb watch")
        if self.watch and self.compare_with is not None:
            raise ValueError("--watch is for the report of one run, not for a comparison")
