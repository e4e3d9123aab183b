"""--tokens of the commands that write models: compared with the checkpoint, or in its place."""

from __future__ import annotations

from pathlib import Path

from zipasr.base.errors import CheckpointError
from zipasr.checkpoint.average import Chosen
from zipasr.checkpoint.stored import StoredModel
from zipasr.cli.flags import Run
from zipasr.cli.recogniser import check_vocabulary, tokenizer_of
from zipasr.text.piece_tokenizer import PieceTokenizer
from zipasr.text.token_table import first_difference, read_tokens
from zipasr.text.tokenizer import Tokenizer


def tokens_of(chosen: Chosen, run: Run, stored: StoredModel) -> tuple[list[str], Tokenizer | None]:
    """Return the pieces of a model, and its tokenizer where there is one.

    Args:
        chosen: weights and the checkpoint that they come from.
        run: flags, with --tokens and --bpe-model.
        stored: the model.

    Raises:
        CheckpointError: --tokens or --bpe-model are not the tokens of the model.
        DataError: there is neither tokenizer nor table, or one is damaged.
    """
    tokenizer = tokenizer_of(chosen, run)
    check_vocabulary(stored, tokenizer, run)
    is_table = isinstance(tokenizer, PieceTokenizer)
    return tokenizer.pieces(), None if is_table else tokenizer


def check_tokens(path: Path, chosen: Chosen, vocab_size: int) -> list[str]:
    """Return the pieces of ``--tokens``, compared with those of a checkpoint.

    Args:
        path: a ``tokens.txt``.
        chosen: the checkpoint; one without a tokenizer tells the number of tokens alone.
        vocab_size: V of the model.

    Raises:
        CheckpointError: it is the table of another model.
        DataError: it is missing or damaged.
    """
    pieces = read_tokens(path)
    if "tokenizer" in chosen.checkpoint:
        stored = Tokenizer.from_bytes(bytes(chosen.checkpoint["tokenizer"].tolist())).pieces()
        if difference := first_difference(pieces, stored):
            raise CheckpointError(
                f"--tokens {path} is not the table of {chosen.path}: {difference}.",
                "leave --tokens out: the checkpoint has its tokens.",
            )
    if len(pieces) != vocab_size:
        raise CheckpointError(
            f"{chosen.path} has a vocabulary of {vocab_size}, but --tokens {path} has "
            f"{len(pieces)} tokens.",
            "give the tokens.txt that the model was trained with.",
        )
    return pieces
