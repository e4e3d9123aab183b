"""The texts that language models are trained on, as ids."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from zipasr.base.errors import DataError
from zipasr.base.progress import Progress
from zipasr.base.recipe import Recipe
from zipasr.cli.recipes import data_dir
from zipasr.lm.sentences import Sentences
from zipasr.text.tokenizer import Tokenizer

_LINES_AT_ONCE = 10_000

# Which stage of prepare.sh makes a text, by its name.
_STAGES = {"transcript_words.txt": 3, "train.txt": 5, "valid.txt": 5}


def lm_dir(recipe: Recipe) -> Path:
    """Return the folder of the texts of a recipe; a subset has one of its own."""
    return data_dir(recipe) / "-".join(["lm", *filter(None, [recipe.chosen])])


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
        [ids.setdefault(word, len(ids)) for word in line.split()]
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
    with path.open(encoding="utf-8") as file, Progress(f"lines of {path.name}", None) as progress:
        lines = (" ".join(line.split()) for line in file)
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
    logging.info("%s: %d sentences", path, num_lines)
