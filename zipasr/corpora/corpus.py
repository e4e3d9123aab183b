"""Interface of a corpus, and the list of corpora."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from zipasr.base.errors import UserError, nearest
from zipasr.corpora.custom.own_corpus import OwnCorpus
from zipasr.corpora.espeak.espeak_corpus import EspeakCorpus
from zipasr.corpora.gigaspeech import GigaSpeechCorpus
from zipasr.corpora.librispeech import LibriSpeechCorpus
from zipasr.corpora.manifest_files import ManifestsCorpus


class Corpus(Protocol):
    """A source of recordings and transcripts that writes manifests."""

    @property
    def name(self) -> str:
        """Key in ``CORPORA`` and first part of the manifests' names."""
        ...

    def prepare(self, manifest_dir: Path, num_jobs: int) -> dict[str, int]:
        """Write the manifests of all splits, and first whatever audio they need.

        Writes ``{name}_recordings_{split}.jsonl.gz`` and ``{name}_supervisions_{split}.jsonl.gz``.
        Called again, it does only what is missing.

        Args:
            manifest_dir: folder of the manifests; created when needed.
            num_jobs: processes to use, at least 1; the result does not depend on it.

        Returns:
            Number of utterances of each split.

        Raises:
            DataError: audio or transcripts are missing, damaged, or cannot be made here.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusOptions:
    """Options of a corpus, as the recipe gives them.

    Attributes:
        recipe_dir: the recipe's folder, such as ``egs/espeak``.
        audio_dir: where audio is written by a corpus that makes or unpacks it; the manifests name
            the files under it as given, so a relative folder keeps them movable.
        download_dir: where the archives of a published corpus are, and where they are unpacked.
        giga_dir: folder of GigaSpeech.
        force: take sound again that commands wrote, which may be fetched from elsewhere.
        splits: those that the recipe wants; a corpus that knows its splits prepares no others.
        settings: the recipe's own options for the corpus; each corpus refuses those it lacks.
    """

    recipe_dir: Path
    audio_dir: Path
    download_dir: Path = Path("download")
    giga_dir: Path = Path("download/GigaSpeech")
    force: bool = False
    splits: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


CORPORA: dict[str, Callable[[CorpusOptions], Corpus]] = {
    "espeak": lambda o: EspeakCorpus.from_settings(o.recipe_dir, o.audio_dir, o.settings),
    "gigaspeech": lambda o: GigaSpeechCorpus.from_settings(o.giga_dir, o.splits, o.settings),
    "librispeech": lambda o: LibriSpeechCorpus.from_settings(o.download_dir, o.splits, o.settings),
    "manifests": lambda o: ManifestsCorpus.from_settings(o.settings),
    "own": lambda o: replace(OwnCorpus.from_settings(o.audio_dir, o.settings), force=o.force),
}


def get_corpus(name: str, options: CorpusOptions) -> Corpus:
    """Return the corpus called ``name``.

    Raises:
        UserError: there is no such corpus, or it does not know one of its settings.
    """
    if name not in CORPORA:
        hint = nearest(name, CORPORA) or "choose one of these, or add yours (egs/README.md)."
        raise UserError(f"no corpus {name!r}; there are {', '.join(sorted(CORPORA))}.", hint)
    return CORPORA[name](options)
