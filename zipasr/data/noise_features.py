"""Features of noise: the recordings of MUSAN, cut into windows."""

from __future__ import annotations

from pathlib import Path

import lhotse
from lhotse import CutSet
from lhotse.cut import Cut

from zipasr.data.config import FbankConfig
from zipasr.data.fbank import FbankReport, FeatureFiles, at_sampling_rate, store
from zipasr.data.safe_manifests import check_rows

NOISE = "musan"

WINDOW_SECONDS = 10.0
# A window that the end of its recording cuts short is kept when it is longer than this.
_MIN_WINDOW_SECONDS = 5.0


def noise_path(folder: Path) -> Path:
    """Return the manifest of the windows."""
    return folder / f"{NOISE}_cuts.jsonl.gz"


def compute_and_store_noise(
    manifest_dir: Path, output_dir: Path, config: FbankConfig
) -> FbankReport | None:
    """Compute the features of all noise for which there are manifests; None when there is none.

    Reads ``musan_recordings_*.jsonl.gz`` and writes ``musan_feats/`` and, last of all,
    ``musan_cuts.jsonl.gz``: windows of 10 s, without those of 5 s or less.

    Args:
        manifest_dir: where the manifests of recordings are.
        output_dir: where to write.
        config: features and processes; speed is not perturbed.

    Raises:
        DataError, ResourceError: as ``compute_and_store``.
    """
    sources = sorted(manifest_dir.glob(f"{NOISE}_recordings_*.jsonl.gz"))
    if not sources:
        return None
    files = FeatureFiles(
        manifest=noise_path(output_dir),
        features=output_dir / f"{NOISE}_feats",
        quarantine=output_dir / f"{NOISE}_quarantine.tsv",
    )
    return store(NOISE, files, sources, lambda: _windows(sources, config.allow_commands), config)


def _windows(sources: list[Path], allow_commands: bool) -> list[Cut]:
    for path in sources:
        check_rows(path, allow_commands=allow_commands)
    return [
        at_sampling_rate(window)
        for path in sources
        for window in CutSet.from_manifests(recordings=lhotse.load_manifest(path))
        .cut_into_windows(WINDOW_SECONDS)
        .to_eager()
        if window.duration > _MIN_WINDOW_SECONDS
    ]
