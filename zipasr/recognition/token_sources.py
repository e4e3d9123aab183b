"""Tokens of a model from files: --tokens, --bpe-model, and what lies beside them."""

from __future__ import annotations

from pathlib import Path

from zipasr.base.errors import CheckpointError
from zipasr.checkpoint.averaging import LoadedWeights
from zipasr.checkpoint.model_file import stored_tokenizer
from zipasr.recognition.config import TokenSource
from zipasr.text.tokenizer import PieceTokenizer, Tokenizer, first_difference, read_tokens

BPE_MODEL = "bpe.model"


def tokenizer_of_table(table: Path, source: TokenSource) -> Tokenizer:
    """Return a tokenizer for a ``tokens.txt``.

    It can cut text into tokens where a sentencepiece model of the same pieces is given by
    --bpe-model, or stands beside the table; else it writes text only.

    Raises:
        CheckpointError: --bpe-model was typed and has other tokens.
        DataError: a file is missing or damaged.
    """
    pieces = read_tokens(table)
    given, beside = source.bpe_model, table.with_name(BPE_MODEL)
    if source.is_bpe_model_given:
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


def tokenizer_of(chosen: LoadedWeights, source: TokenSource) -> Tokenizer:
    """Return the tokenizer inside the checkpoint; for one without, --tokens or --bpe-model.

    Raises:
        CheckpointError: --bpe-model or --tokens were typed and are not those of the checkpoint.
        DataError: there is no tokenizer.
    """
    path, table = source.bpe_model, source.tokens
    if "tokenizer" not in chosen.checkpoint:
        return Tokenizer.from_file(path) if table is None else tokenizer_of_table(table, source)
    tokenizer = stored_tokenizer(chosen.checkpoint)
    check_table(source, tokenizer, chosen.path)
    if source.is_bpe_model_given:
        given = Tokenizer.from_file(path)
        if given.pieces() != tokenizer.pieces():
            raise CheckpointError(
                f"--bpe-model {path} ({given.vocab_size} tokens) is not the tokenizer that "
                f"{chosen.path} was trained with ({tokenizer.vocab_size} tokens).",
                "leave --bpe-model out: the checkpoint has its tokenizer.",
            )
    return tokenizer


def check_table(source: TokenSource, tokenizer: Tokenizer, model: Path) -> None:
    """Refuse --tokens that are not those of a model.

    Raises:
        CheckpointError: says where they differ.
        DataError: the file is missing or damaged.
    """
    table = source.tokens
    if table is None:
        return
    if difference := first_difference(read_tokens(table), tokenizer.pieces()):
        raise CheckpointError(
            f"--tokens {table} is not the table of {model}: {difference}.",
            "leave --tokens out: the checkpoint has its tokens.",
        )


def check_vocab_size(
    model: Path, vocab_size: int, tokenizer: Tokenizer, source: TokenSource
) -> None:
    """Refuse a tokenizer with another number of tokens than a model has outputs.

    Raises:
        CheckpointError: so it is.
    """
    if tokenizer.vocab_size == vocab_size:
        return
    if source.tokens is not None:
        shown, right = f"--tokens {source.tokens}", "--tokens, the table"
    else:
        shown = f"the tokenizer {source.bpe_model}"
        right = "--bpe-model, the tokenizer"
    raise CheckpointError(
        f"{model} has a vocabulary of {vocab_size}, but {shown} has {tokenizer.vocab_size} tokens.",
        f"give {right} that the model was trained with.",
    )
