"""What OpenSLR publishes for the LibriSpeech recipe: names, sizes, checksums; MUSAN."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from lhotse.recipes.musan import prepare_musan

from zipasr.base.errors import DataError
from zipasr.base.files import atomic_path

logger = logging.getLogger(__name__)

# The main server and its mirrors; each has the same folders, named by number.
SERVERS = (
    "https://www.openslr.org/resources",
    "https://us.openslr.org/resources",
    "https://openslr.elda.org/resources",
)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file on the servers.

    Attributes:
        name: of the file.
        folder: of the servers that it is in.
        size: in bytes; where it is rounded to whole gigabytes, ``is_exact`` is False.
        sha256: its checksum in hexadecimal; None when the publisher's own list has to be asked.
        is_exact: ``size`` is that of the published file.
    """

    name: str
    folder: str
    size: int
    sha256: str | None = None
    is_exact: bool = True

    def addresses(self, mirror: str | None = None) -> list[str]:
        """Return where to ask for it, best first; with a mirror, only there."""
        if mirror is None:
            return [f"{server}/{self.folder}/{self.name}" for server in SERVERS]
        base = mirror.rstrip("/")
        # A mirror may keep all files in one folder.
        return [f"{base}/{self.folder}/{self.name}", f"{base}/{self.name}"]


def _part(name: str, size: int, sha256: str | None) -> RemoteFile:
    known = sha256 is not None
    folder = "12" if known else "31"
    return RemoteFile(f"{name}.tar.gz", folder, size, sha256, is_exact=known)


# Sizes and checksums of these seven as torchaudio and tensorflow-datasets list them, too.
PARTS = {
    name: _part(name, size, sha256)
    for name, size, sha256 in (
        (
            "dev-clean",
            337_926_286,
            "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
        ),
        (
            "dev-other",
            314_305_928,
            "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
        ),
        (
            "test-clean",
            346_663_984,
            "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
        ),
        (
            "test-other",
            328_757_843,
            "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
        ),
        (
            "train-clean-100",
            6_387_309_499,
            "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
        ),
        (
            "train-clean-360",
            23_049_477_885,
            "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
        ),
        (
            "train-other-500",
            30_593_501_606,
            "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
        ),
        ("train-clean-5", 340_000_000, None),
        ("dev-clean-2", 130_000_000, None),
    )
}

# Utterances of each part, to notice a folder that is not whole.
UTTERANCES = {
    "dev-clean": 2703,
    "dev-other": 2864,
    "test-clean": 2620,
    "test-other": 2939,
    "train-clean-100": 28539,
    "train-clean-360": 104014,
    "train-other-500": 148688,
    "train-clean-5": 1519,
    "dev-clean-2": 1089,
}

MUSAN = RemoteFile("musan.tar.gz", "17", 11_000_000_000, is_exact=False)

LM_TEXT = RemoteFile(
    "librispeech-lm-norm.txt.gz",
    "11",
    1_507_274_412,
    "927d47656638c2ca93566640e56bcbeb2aa4ca237b8490fe1eff7d6e610a53c7",
)
LEXICON = RemoteFile("librispeech-lexicon.txt", "11", 6_000_000, is_exact=False)
LM_FILES = {
    file.name: file
    for file in (
        LM_TEXT,
        LEXICON,
        RemoteFile("librispeech-vocab.txt", "11", 2_000_000, is_exact=False),
        RemoteFile("3-gram.pruned.1e-7.arpa.gz", "11", 35_000_000, is_exact=False),
        RemoteFile("4-gram.arpa.gz", "11", 1_400_000_000, is_exact=False),
    )
}


MUSAN_PARTS = ("music", "speech", "noise")


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
    parts = [part for part in MUSAN_PARTS if (musan_dir / part).is_dir()]
    if not parts:
        raise DataError(
            f"{musan_dir} does not exist or has none of {', '.join(PARTS)}.",
            "run ./prepare.sh --stage 0 first, tell with --dl-dir where it is, "
            "or set musan = false in the recipe's corpus options to train without noise",
        )
    logger.info("reading the recordings of %s", musan_dir)
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
        logger.info("musan %s: %d recordings", part, counts[part])
    return counts
