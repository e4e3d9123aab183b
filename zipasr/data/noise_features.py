"""Features of noise: the recordings of MUSAN, or of any folder, cut into windows."""

from __future__ import annotations

from pathlib import Path

import lhotse
from lhotse import CutSet, MonoCut
from lhotse.cut import Cut

from zipasr.data.config import FbankConfig
from zipasr.data.fbank import FbankReport, FeatureFiles, at_sampling_rate, store
from zipasr.data.manifests import check_rows

NOISE = "musan"

WINDOW_SECONDS = 10.0
# A window that the end of its recording cuts short is kept when it is longer than this.
_MIN_WINDOW_SECONDS = 5.0
# Files of a folder may be short as a whole: a cough, a door.
_MIN_SOUND_SECONDS = 0.5
#: Manifest of the recordings of a folder of one's own.
FOLDER_MANIFEST = f"{NOISE}_recordings_folder.jsonl.gz"


def noise_path(folder: Path) -> Path:
    """Return the manifest of the windows."""
    return folder / f"{NOISE}_cuts.jsonl.gz"


def compute_and_store_noise(
    manifest_dir: Path, output_dir: Path, config: FbankConfig
) -> FbankReport | None:
    """Compute the features of all noise for which there are manifests; None when there is none.

    Reads ``musan_recordings_*.jsonl.gz`` and writes ``musan_feats/`` and, last of all,
    ``musan_cuts.jsonl.gz``: windows of 10 s, without those of 5 s or less. Of a folder of
    one's own, files that are shorter as a whole count as well.

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
        for window in _windows_of(path)
        if window.duration > _MIN_WINDOW_SECONDS
        or (path.name == FOLDER_MANIFEST and _is_short_file(window))
    ]


def _windows_of(path: Path) -> CutSet:
    recordings = lhotse.load_manifest(path)
    cuts = CutSet.from_cuts(
        MonoCut(
            recording.id, 0, recording.duration, min(recording.channel_ids), recording=recording
        )
        for recording in recordings
    )
    return cuts.cut_into_windows(WINDOW_SECONDS).to_eager()


def _is_short_file(window: Cut) -> bool:
    """Say whether a window is all of its file, and long enough to be heard."""
    return bool(
        window.duration >= _MIN_SOUND_SECONDS and window.recording.duration <= WINDOW_SECONDS
    )
