"""MUSAN: music, speech and noise to mix into the training data."""

from __future__ import annotations

import logging
from pathlib import Path

from lhotse.recipes.musan import prepare_musan

from zipasr.base.errors import DataError
from zipasr.base.files import atomic_path

PARTS = ("music", "speech", "noise")


def write_noise_manifests(musan_dir: Path, manifest_dir: Path) -> dict[str, int]:
    """Write ``musan_recordings_{music,speech,noise}.jsonl.gz``; music has supervisions as well.

    Args:
        musan_dir: the unpacked archive; parts that are not in it are left out.
        manifest_dir: where to write; created when needed.

    Returns:
        Number of recordings of each part.

    Raises:
        DataError: the folder has none of the parts, or lhotse cannot read it.
    """
    parts = [part for part in PARTS if (musan_dir / part).is_dir()]
    if not parts:
        raise DataError(
            f"{musan_dir} does not exist or has none of {', '.join(PARTS)}.",
            "run ./prepare.sh --stage 0 first, tell with --dl-dir where it is, "
            "or set musan = false in the recipe's corpus options to train without noise",
        )
    logging.info("reading the recordings of %s", musan_dir)
    try:
        manifests = prepare_musan(musan_dir, parts=parts)
    # lhotse raises whatever its decoders raise.
    except Exception as problem:
        why = " ".join(str(problem).split())
        raise DataError(f"{musan_dir} cannot be read: {why}.") from problem
    counts = {}
    for part, both in manifests.items():
        for kind, manifest in both.items():
            with atomic_path(manifest_dir / f"musan_{kind}_{part}.jsonl.gz") as temporary:
                manifest.to_file(temporary)
        counts[part] = len(both["recordings"])
        logging.info("musan %s: %d recordings", part, counts[part])
    return counts
