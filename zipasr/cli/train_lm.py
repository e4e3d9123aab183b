"""Train a language model on the text of a recipe, over the tokens of its models or over words."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from zipasr.base.distributed import World, launch, rank0_errors
from zipasr.base.errors import DataError
from zipasr.base.lock import only_run_in
from zipasr.base.log import setup_logging
from zipasr.base.progress import Progress
from zipasr.cli.command_flags import read
from zipasr.cli.entry import guarded
from zipasr.cli.flags import Run
from zipasr.cli.recipes import lm_dir, prepare_command
from zipasr.cli.training_commands import TRAIN_LM
from zipasr.lm.arpa import write_arpa
from zipasr.lm.config import LM_SIZES, LmSizes, NgramConfig
from zipasr.lm.ngram import UNKNOWN, NgramLm
from zipasr.lm.ngram_estimation import Sentences, kneser_ney
from zipasr.text.config import TokenizerConfig
from zipasr.text.scripts import units_of
from zipasr.text.tokenizer import UNKNOWN_ID, Tokenizer
from zipasr.training.config import LmTrainConfig
from zipasr.training.language_model import train_lm

logger = logging.getLogger(__name__)


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Write ``epoch-N.pt`` to --exp-dir, or an ARPA file; print the perplexity on the dev text."""
    run = read(TRAIN_LM, argv)
    config = run[LmTrainConfig]
    if config.lm_type == "ngram":
        setup_logging()
        return train_ngram(run)
    with rank0_errors():
        tokenizer = Tokenizer.from_file(run[TokenizerConfig].bpe_model)
        train = token_ids(config.lm_data or lm_dir(run.recipe) / "train.txt", tokenizer)
        valid = token_ids(config.lm_data_valid or lm_dir(run.recipe) / "valid.txt", tokenizer)
    about = {"vocab_size": tokenizer.vocab_size, "token_table": tokenizer.table_hash()}
    sizes = run[LM_SIZES[config.lm_type]]
    launch(train_process, config.world_size, config.master_port, config, sizes, train, valid, about)
    return 0


def train_process(
    world: World,
    config: LmTrainConfig,
    sizes: LmSizes,
    train: Sentences,
    valid: Sentences,
    about: dict[str, Any],
) -> None:
    """Train in a folder that no other run writes to; see ``train_lm``.

    Raises:
        ResourceError: another run holds it.
    """
    setup_logging(config.folder / "log-train-lm", world.rank, world.size)
    with only_run_in(config.folder) if world.is_main else nullcontext():
        value = train_lm(config, sizes, train, valid, about, world)
    if world.is_main:
        sys.stdout.write(f"perplexity on dev: {value:.3f}\n")


def train_ngram(run: Run) -> int:
    """Write the model, and print the perplexity on the dev text, if there is one.

    Raises:
        DataError: there is no text, or no tokenizer.
    """
    by_unit = {"token": _over_tokens, "word": _over_words}
    path, model, dev, names = by_unit[run[NgramConfig].ngram_unit](run)
    write_arpa(path, model)
    lengths = (len(ngrams.ids) for ngrams in model.by_length())
    counts = ", ".join(f"{length} {n}-grams" for n, length in enumerate(lengths, start=1))
    sys.stdout.write(f"{path}: {counts}\n")
    if dev is not None:
        sys.stdout.write(f"perplexity on dev: {_perplexity(model, dev, names):.3f}\n")
    return 0


def grammar_path(run: Run, order: int) -> Path:
    """Return where a word n-gram of a recipe is."""
    return lm_dir(run.recipe) / f"G_{order}_gram.arpa"


_Trained = tuple[Path, NgramLm, Sentences | None, list[str]]


def _over_tokens(run: Run) -> _Trained:
    config, asked = run[NgramConfig], run[LmTrainConfig]
    tokenizer = Tokenizer.from_file(run[TokenizerConfig].bpe_model)
    # What LODR subtracts stands for what the recogniser has learnt: its own transcripts.
    text = token_ids(asked.lm_data or config.lang_dir / "transcript_words.txt", tokenizer)
    dev_path, pieces = _dev_text(run), tokenizer.pieces()
    model = kneser_ney(text, pieces, config.ngram_order).with_words(pieces[UNKNOWN_ID + 1 :])
    path = config.ngram_lm or config.lang_dir / f"{config.ngram_order}gram.arpa"
    dev = None if dev_path is None else token_ids(dev_path, tokenizer)
    return path, replace(model, token_table=tokenizer.table_hash()), dev, pieces


def _over_words(run: Run) -> _Trained:
    config, asked = run[NgramConfig], run[LmTrainConfig]
    ids = {UNKNOWN: 0}
    given, transcripts = lm_dir(run.recipe) / "train.txt", config.lang_dir / "transcript_words.txt"
    text = word_ids(asked.lm_data or (given if given.is_file() else transcripts), ids)
    # Words of the lexicon that the text does not have count as this one.
    model = kneser_ney(text, list(ids), config.ngram_order).with_unknown()
    dev_path = _dev_text(run)
    dev = None if dev_path is None else word_ids(dev_path, ids)
    return config.ngram_lm or grammar_path(run, config.ngram_order), model, dev, list(ids)


def _dev_text(run: Run) -> Path | None:
    given, usual = run[LmTrainConfig].lm_data_valid, lm_dir(run.recipe) / "valid.txt"
    if given is None and not usual.is_file():
        makes = f"{prepare_command(run.recipe, stage=5)} makes it, --lm-data-valid names another"
        logger.info("no perplexity: there is no %s; %s", usual, makes)
        return None
    return given or usual


def _perplexity(model: NgramLm, dev: Sentences, names: list[str]) -> float:
    """Perplexity per token or word, ends counted; the unknown ones count as ``<unk>``."""
    total = sum(model.sentence([names[i] for i in dev[n]]) for n in range(len(dev)))
    unknown = sum(names[i] not in model.words for i in dev.ids.tolist())
    if unknown:
        logger.info("%d of %d on dev are unknown to the model", unknown, len(dev.ids))
    return math.exp(-total / (len(dev.ids) + len(dev)))


_LINES_AT_ONCE = 10_000

# Which stage of prepare.sh makes a text, by its name.
_STAGES = {"transcript_words.txt": 3, "train.txt": 5, "valid.txt": 5}


def token_ids(path: Path, tokenizer: Tokenizer) -> Sentences:
    """Read a text, a sentence a line, as tokens.

    Raises:
        DataError: it is missing, empty, or no text.
    """
    return Sentences.of(ids for lines in _chunks(path) for ids in tokenizer.encode(lines))


def word_ids(path: Path, ids: dict[str, int]) -> Sentences:
    """Read a text, a sentence a line, as words; new ones get the next numbers in ``ids``.

    Raises:
        DataError: it is missing, empty, or no text.
    """
    return Sentences.of(
        [ids.setdefault(word, len(ids)) for word in units_of(line)]
        for lines in _chunks(path)
        for line in lines
    )


def _chunks(path: Path) -> Iterator[list[str]]:
    """Yield lines that have text, many at a time, with single spaces."""
    if not path.is_file():
        stage = _STAGES.get(path.name)
        fix = f"run ./prepare.sh --stage {stage} first" if stage else "see that the path is right."
        raise DataError(f"there is no text at {path}.", fix)
    num_lines = 0
    with (
        path.open(encoding="utf-8-sig") as file,
        Progress(f"lines of {path.name}", None) as progress,
    ):
        lines = (_single_spaced(line, path, number) for number, line in enumerate(file, 1))
        texts = (line for line in lines if line)
        try:
            while chunk := list(islice(texts, _LINES_AT_ONCE)):
                yield chunk
                num_lines += len(chunk)
                progress.step(count=len(chunk))
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8 text.", "convert it first.") from error
    if not num_lines:
        raise DataError(f"{path} has no text.")
    logger.info("%s: %d sentences", path, num_lines)


def _single_spaced(line: str, path: Path, number: int) -> str:
    if "\0" in line:
        raise DataError(f"{path}, line {number}: there is a NUL byte.", "convert it to UTF-8 text.")
    return " ".join(line.split())
