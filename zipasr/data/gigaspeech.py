"""Where the cuts of GigaSpeech are, for a training that has them beside its own corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from zipasr.data.fbank import cuts_path

GigaSpeechSubset = Literal["XS", "S", "M", "L", "XL"]

#: What the corpus is called in the training, and in the names of its heads.
NAME = "giga"
#: First part of the names of its files.
CORPUS = "gigaspeech"
FIX = (
    "prepare it (./prepare.sh --recipe gigaspeech --giga-dir FOLDER), say where it is "
    "(--extra-manifest giga=PATH:0.9 --own-heads giga), or leave --giga-prob out"
)


def gigaspeech_cuts(manifest_dir: Path, subset: str) -> Path:
    """Return the manifest of a subset, or the folder of its pieces.

    It is looked for in ``manifest_dir``, where the published recipe has it, then where ``prepare.sh
    --recipe gigaspeech`` puts it. Where there is none, the first place is returned.
    """
    folders = (manifest_dir, manifest_dir.parent.parent / CORPUS / "fbank")
    for folder in folders:
        whole = cuts_path(folder, CORPUS, subset)
        if whole.is_file():
            return whole
        if pieces := sorted(folder.glob(f"{CORPUS}_{subset}_split_*")):
            return pieces[0]
    return cuts_path(manifest_dir, CORPUS, subset)
