"""The corpus of a recipe, the transcripts in its manifests, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lhotse import SupervisionSet

from zipasr.base.errors import DataError
from zipasr.base.recipe import Recipe
from zipasr.cli.recipes import data_dir
from zipasr.corpora.corpus import Corpus, CorpusOptions, get_corpus
from zipasr.data.corpus_check import CorpusReport, check_corpus


def corpus_of(
    recipe: Recipe,
    download_dir: Path,
    audio_dir: Path | None = None,
    giga_dir: Path | None = None,
) -> Corpus:
    """Return the corpus of a recipe, which has read the recipe's options for it.

    Args:
        recipe: names the corpus.
        download_dir: folder of what was downloaded.
        audio_dir: folder of audio that is made; None: ``data/RECIPE/audio``.
        giga_dir: folder of GigaSpeech; None: ``GigaSpeech`` in ``download_dir``.

    Raises:
        UserError: there is no such corpus, or an option is wrong.
    """
    options = CorpusOptions(
        recipe_dir=recipe.folder,
        audio_dir=audio_dir or data_dir(recipe) / "audio",
        download_dir=download_dir,
        giga_dir=giga_dir or download_dir / "GigaSpeech",
        splits=tuple(recipe.parts()),
        settings=recipe.corpus_options,
    )
    return get_corpus(recipe.corpus, options)


def check_recipe(recipe: Recipe, num_jobs: int) -> CorpusReport:
    """Check the sound and the transcripts of a recipe; see ``check_corpus``.

    Splits that are made in pieces are not held in memory, and not checked here: sound that cannot
    be read shows when the features of its piece are computed.
    """
    training, others = (
        [part for part in recipe.parts(purposes) if part not in recipe.pieces]
        for purposes in (["train"], ["valid", "test"])
    )
    folder = data_dir(recipe) / "manifests"
    return check_corpus(folder, recipe.corpus, training, others, num_jobs)


def transcripts(manifest_dir: Path, corpus: str, splits: Sequence[str]) -> Iterator[str]:
    """Yield the text of every supervision, split after split.

    Raises:
        DataError: a manifest is missing.
    """
    paths = [manifest_dir / f"{corpus}_supervisions_{split}.jsonl.gz" for split in splits]
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path} does not exist.", "run stage 1 first: ./prepare.sh --stage 1")
        for supervision in SupervisionSet.from_jsonl_lazy(path):
            yield supervision.text or ""


def words_of(lexicon: Path) -> Iterator[str]:
    """Yield the first word of each line of a file of pronunciations."""
    with lexicon.open(encoding="utf-8") as lines:
        for line in lines:
            yield from line.split()[:1]
