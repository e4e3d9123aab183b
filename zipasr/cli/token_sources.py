"""The tokens of a model from files: --tokens, --bpe-model, and what stands beside them."""

from __future__ import annotations

from pathlib import Path

from zipasr.base.errors import CheckpointError
from zipasr.cli.flags import Run
from zipasr.text.tokenizer import (
    PieceTokenizer,
    Tokenizer,
    TokenizerConfig,
    TokenTableConfig,
    first_difference,
    read_tokens,
)

BPE_MODEL = "bpe.model"


def table_of(run: Run) -> Path | None:
    """Return --tokens; ``None`` where it is not given, or the command has no such flag."""
    return run[TokenTableConfig].tokens if TokenTableConfig in run.values else None


def is_bpe_model_typed(run: Run) -> bool:
    """Say whether --bpe-model is another file than that of the recipe."""
    usual = run.recipe.flags.get("bpe-model", TokenizerConfig().bpe_model)
    return str(run[TokenizerConfig].bpe_model) != str(usual)


def tokenizer_of_table(table: Path, run: Run) -> Tokenizer:
    """Return a tokenizer for a ``tokens.txt``.

    It can cut text into tokens where a sentencepiece model of the same pieces is given by
    --bpe-model, or stands beside the table; else it writes text only.

    Raises:
        CheckpointError: --bpe-model was typed and has other tokens.
        DataError: a file is missing or damaged.
    """
    pieces = read_tokens(table)
    given, beside = run[TokenizerConfig].bpe_model, table.with_name(BPE_MODEL)
    if is_bpe_model_typed(run):
        tokenizer = Tokenizer.from_file(given)
        if difference := first_difference(tokenizer.pieces(), pieces):
            raise CheckpointError(
                f"--bpe-model {given} has other tokens than --tokens {table}: {difference}.",
                "leave out the one that is not of the model.",
            )
        return tokenizer
    for path in (beside, given):
        if path.is_file() and (tokenizer := Tokenizer.from_file(path)).pieces() == pieces:
            return tokenizer
    return PieceTokenizer(pieces)


def check_table(run: Run, tokenizer: Tokenizer, model: Path) -> None:
    """Refuse --tokens that are not those of a model.

    Raises:
        CheckpointError: says where they differ.
        DataError: the file is missing or damaged.
    """
    table = table_of(run)
    if table is None:
        return
    if difference := first_difference(read_tokens(table), tokenizer.pieces()):
        raise CheckpointError(
            f"--tokens {table} is not the table of {model}: {difference}.",
            "leave --tokens out: the checkpoint has its tokens.",
        )


def check_vocab_size(model: Path, vocab_size: int, tokenizer: Tokenizer, run: Run) -> None:
    """Refuse a tokenizer with another number of tokens than a model has outputs.

    Raises:
        CheckpointError: so it is.
    """
    if tokenizer.vocab_size == vocab_size:
        return
    if (table := table_of(run)) is not None:
        source, right = f"--tokens {table}", "--tokens, the table"
    else:
        source = f"the tokenizer {run[TokenizerConfig].bpe_model}"
        right = "--bpe-model, the tokenizer"
    raise CheckpointError(
        f"{model} has a vocabulary of {vocab_size}, but {source} has {tokenizer.vocab_size} "
        "tokens.",
        f"give {right} that the model was trained with.",
    )
