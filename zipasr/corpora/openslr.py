"""What OpenSLR publishes for the LibriSpeech recipe: names, sizes, checksums."""

from __future__ import annotations

from dataclasses import dataclass

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
