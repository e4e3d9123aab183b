"""Recordings of noise from any folder of sound, beside those of MUSAN."""

from __future__ import annotations

import logging
from pathlib import Path

from lhotse import Recording, RecordingSet

from zipasr.base.errors import DataError
from zipasr.base.files import atomic_path
from zipasr.corpora.custom.audio_files import files_below, is_sound

logger = logging.getLogger(__name__)

#: Where ``zipasr.data.noise_features`` looks for them.
MANIFEST = "musan_recordings_folder.jsonl.gz"


def write_folder_manifest(folder: Path, manifest_dir: Path) -> int:
    """List the sound files below a folder as noise, and return how many there are.

    What cannot be read is told and left out; of several channels the first is used.

    Raises:
        DataError: there is no such folder, or no sound in it.
    """
    if not folder.is_dir():
        raise DataError(f"--noise-dir {folder} is no folder.", "see that the path is right.")
    recordings, faults = [], 0
    for path in files_below(folder):
        if not is_sound(path):
            continue
        name = str(path.relative_to(folder)).replace("/", "-")
        try:
            recordings.append(Recording.from_file(path, recording_id=f"noise-{name}"))
        except Exception as problem:
            faults += 1
            logger.warning(
                "--noise-dir: %s cannot be read: %s", path, str(problem).partition("\n")[0]
            )
    if not recordings:
        raise DataError(
            f"--noise-dir {folder} has no sound that can be read ({faults} files cannot).",
            "give a folder of .wav, .flac, .ogg or .mp3 files.",
        )
    hours = sum(recording.duration for recording in recordings) / 3600
    logger.info("noise: %d files of %s, %.2f hours", len(recordings), folder, hours)
    manifest_dir.mkdir(parents=True, exist_ok=True)
    with atomic_path(manifest_dir / MANIFEST) as temporary:
        RecordingSet.from_recordings(recordings).to_file(temporary)
    return len(recordings)
