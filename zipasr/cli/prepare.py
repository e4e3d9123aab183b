"""Stages of prepare.sh: download, manifests, features, tokenizer, checks, text for an LM."""

from __future__ import annotations

import gzip
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from lhotse import SupervisionSet

from zipasr.audio.quarantine import Quarantine, write_quarantine
from zipasr.base.errors import DataError, UserError
from zipasr.base.lock import only_run_in
from zipasr.base.log import setup_logging
from zipasr.base.recipe import Recipe
from zipasr.cli.command_flags import read
from zipasr.cli.entry import guarded
from zipasr.cli.preparation_commands import BPE, CORPUS, DOWNLOAD, FBANK, LM_TEXT, VALIDATE
from zipasr.cli.recipes import data_dir, lm_dir
from zipasr.corpora.config import CorpusConfig, DownloadConfig, PlaceConfig
from zipasr.corpora.corpus import Corpus, CorpusOptions, get_corpus
from zipasr.corpora.manifest_files import write_folder_manifest
from zipasr.corpora.published import PublishedCorpus, WithText, fetch_corpus
from zipasr.data.config import DataConfig, FbankConfig
from zipasr.data.corpus_check import CorpusReport, check_corpus
from zipasr.data.fbank import compute_and_store
from zipasr.data.fbank_pieces import compute_and_store_pieces, join_splits
from zipasr.data.filters import TrainFilter
from zipasr.data.noise_features import compute_and_store_noise
from zipasr.data.validate import report_text, validate_split
from zipasr.encoder.protocol import Geometry
from zipasr.model.config import ModelConfig
from zipasr.text.bpe import train_bpe
from zipasr.text.characters import count_characters
from zipasr.text.config import BpeConfig, TokenizerConfig
from zipasr.text.text_io import write_lines
from zipasr.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


@guarded
def download(argv: Sequence[str] | None = None) -> int:
    """Fill ``--dl-dir``; what is there already is kept, what has arrived in part is resumed."""
    setup_logging()
    run = read(DOWNLOAD, argv)
    corpus = corpus_of(run.recipe, run[PlaceConfig].dl_dir)
    if not isinstance(corpus, PublishedCorpus):
        raise UserError(
            f"recipe {run.recipe.name!r} has nothing to download.",
            "begin with ./prepare.sh --stage 1",
        )
    fetch_corpus(corpus.downloads(), run[DownloadConfig])
    return 0


@guarded
def make_manifests(argv: Sequence[str] | None = None) -> int:
    """Write ``data/RECIPE/manifests``; what is there already is kept."""
    setup_logging()
    run = read(CORPUS, argv)
    config, folder = run[CorpusConfig], data_dir(run.recipe)
    corpus = corpus_of(run.recipe, run[PlaceConfig].dl_dir, config)
    for split, count in corpus.prepare(folder / "manifests", config.num_jobs).items():
        logger.info("%s: %d utterances", split, count)
    return 0


@guarded
def compute_features(argv: Sequence[str] | None = None) -> int:
    """Write ``data/RECIPE/fbank``: cuts and features of every split and of noise."""
    setup_logging()
    run = read(FBANK, argv)
    folder, recipe = data_dir(run.recipe), run.recipe
    manifests, features = folder / "manifests", folder / "fbank"
    with only_run_in(features, flag="", user="preparation"):
        if run[FbankConfig].check_audio:
            report = check_recipe(recipe, run[FbankConfig].jobs)
            logger.info("%s", report.text())
            report.stop_when_too_many()
        write_quarantine(features, Quarantine.read(manifests).rows, "preparation")
        for split in recipe.parts():
            where = (recipe.corpus, split, manifests, features)
            if split in recipe.pieces:
                compute_and_store_pieces(*where, recipe.pieces[split], run[FbankConfig])
            else:
                compute_and_store(*where, run[FbankConfig])
        for name, parts in recipe.joined.items():
            if name in recipe.splits["train"]:
                join_splits(recipe.corpus, name, parts, features, force=run[FbankConfig].force)
        if (noise := run[FbankConfig].noise_dir) is not None:
            write_folder_manifest(noise, manifests)
        compute_and_store_noise(manifests, features, run[FbankConfig])
    return 0


@guarded
def train_tokenizer(argv: Sequence[str] | None = None) -> int:
    """Write ``bpe.model`` and ``tokens.txt`` from the texts of the recipe's training splits."""
    setup_logging()
    run = read(BPE, argv)
    texts = transcripts(
        data_dir(run.recipe) / "manifests", run.recipe.corpus, run.recipe.parts(["train"])
    )
    corpus = corpus_of(run.recipe, run[PlaceConfig].dl_dir)
    lexicon = corpus.lexicon() if isinstance(corpus, WithText) else None
    more = () if lexicon is None else words_of(lexicon)
    tokenizer = train_bpe(texts, run[BpeConfig], more)
    logger.info("%d tokens in %s", tokenizer.vocab_size, run[BpeConfig].lang_dir)
    return 0


@guarded
def validate(argv: Sequence[str] | None = None) -> int:
    """Print a report of every split; faults end with exit status 3."""
    setup_logging()
    run = read(VALIDATE, argv)
    data = run[DataConfig]
    wanted = TrainFilter(
        encode=Tokenizer.from_file(run[TokenizerConfig].bpe_model).encode,
        output_lens=Geometry().output_lens,
        use_ctc=run[ModelConfig].use_ctc,
        min_duration=data.min_cut_duration,
        max_duration=data.max_cut_duration,
    )
    training = run.recipe.parts(["train"])
    reports = [
        validate_split(
            data.manifest_dir,
            run.recipe.corpus,
            split,
            wanted if split in training else None,
            allow_commands=data.allow_commands,
        )
        for split in run.recipe.parts()
    ]
    sys.stdout.write(report_text(reports))
    if (data_dir(run.recipe) / "manifests").is_dir():
        sys.stdout.write("\n" + check_recipe(run.recipe, _threads()).text())
        sys.stdout.write(unseen_characters(run.recipe))
    faulty = [report for report in reports if not report.is_sound]
    if faulty:
        raise DataError(
            f"{', '.join(report.name for report in faulty)}: the manifests have faults (see the "
            "report above).",
            "compute the features again: ./prepare.sh --stage 2 --force"
            if all(report.lacks_features_alone for report in faulty)
            else "mend the corpus, then ./prepare.sh --stage 1 --force",
        )
    return 0


def unseen_characters(recipe: Recipe) -> str:
    """Name the characters of test and validation that training never sees; empty without any."""
    manifests = data_dir(recipe) / "manifests"
    known, others = (
        count_characters(transcripts(manifests, recipe.corpus, recipe.parts(purposes)))
        for purposes in (["train"], ["valid", "test"])
    )
    never = sorted(set(others) - set(known))
    if not never:
        return ""
    shown = ", ".join(f"{char!r} ({others[char]} times)" for char in never[:10])
    return f"characters that training never sees: {len(never)}, e.g. {shown}\n"


def _threads() -> int:
    return os.cpu_count() or 1


@guarded
def write_lm_text(argv: Sequence[str] | None = None) -> int:
    """Write ``train.txt``, ``valid.txt`` and ``test.txt`` to ``data/RECIPE/lm``.

    For training it is the text that the corpus comes with, else the training transcripts. A subset
    of a recipe has a folder of its own, ``lm-SUBSET``.
    """
    setup_logging()
    run = read(LM_TEXT, argv)
    recipe, folder = run.recipe, data_dir(run.recipe)
    corpus = corpus_of(recipe, run[PlaceConfig].dl_dir)
    given = corpus.lm_text() if isinstance(corpus, WithText) else None
    for purpose in ("valid", "test", "train"):
        texts = transcripts(folder / "manifests", recipe.corpus, recipe.parts([purpose]))
        if purpose == "train" and given is not None:
            texts = _lines_of(given)
        path = lm_dir(recipe) / f"{purpose}.txt"
        logger.info("%s: %d lines", path, write_lines(path, texts))
    return 0


def _lines_of(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from lines


def corpus_of(
    recipe: Recipe,
    download_dir: Path,
    config: CorpusConfig | None = None,
) -> Corpus:
    """Return the corpus of a recipe, which has read the recipe's options for it.

    Args:
        recipe: names the corpus.
        download_dir: folder of what was downloaded.
        config: folders of audio, and whether commands fetch it again.

    Raises:
        UserError: there is no such corpus, or an option is wrong.
    """
    config = config or CorpusConfig()
    options = CorpusOptions(
        recipe_dir=recipe.folder,
        audio_dir=config.audio_dir or data_dir(recipe) / "audio",
        download_dir=download_dir,
        giga_dir=config.giga_dir or download_dir / "GigaSpeech",
        force=config.force,
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
