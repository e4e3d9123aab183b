"""Tables of tokens as ``tokens.txt`` holds them, and how two of them differ."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zipasr.base.config import flag
from zipasr.base.errors import DataError
from zipasr.text.tokenizer import BLANK, BLANK_ID

# Symbols of word graphs, behind the tokens where there is a word lexicon: the model has no such.
DISAMBIGUATION = re.compile(r"#[0-9]+")
_LINE = re.compile(r"([^ \t]+)[ \t]+([0-9]+)\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTableConfig:
    """The tokens of the model, as a file."""

    tokens: Path | None = flag(
        None,
        "tokens.txt, lines of piece and id: compared with the tokens in the checkpoint, and used "
        "where the checkpoint has none",
    )


def tokens_text(pieces: Sequence[str], num_symbols: int = 0) -> str:
    """Format a ``tokens.txt``: one line ``piece id`` for each id from 0.

    Args:
        pieces: the V tokens of the model in the order of their ids.
        num_symbols: disambiguation symbols that follow: ``#0`` with id V, ``#1`` with V + 1, ...
    """
    table = [*pieces, *(f"#{number}" for number in range(num_symbols))]
    return "".join(f"{piece} {i}\n" for i, piece in enumerate(table))


def read_tokens(path: Path) -> list[str]:
    """Return the pieces of a ``tokens.txt`` in the order of their ids.

    Lines are ``piece id``, in any order; disambiguation symbols (``#0``, ``#1``, ...) are left out.

    Raises:
        DataError: there is no such file, a line is something else, an id is missing or there
            twice, or id 0 is not the blank.
    """
    pieces: dict[int, str] = {}
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line)
        if found is None or int(found[2]) in pieces:
            raise DataError(
                f"--tokens {path}, line {number}: {line!r} is no piece with an id of its own.",
                "its lines are a piece and an id each.",
            )
        pieces[int(found[2])] = found[1]
    table = {i: piece for i, piece in pieces.items() if not DISAMBIGUATION.fullmatch(piece)}
    missing = next((i for i in range(len(table)) if i not in table), None)
    if missing is not None:
        raise DataError(f"--tokens {path} has no id {missing}.", "ids go from 0 on without a gap.")
    if table.get(BLANK_ID) != BLANK:
        raise DataError(
            f"--tokens {path}: id {BLANK_ID} is {table.get(BLANK_ID, 'missing')}, not {BLANK}.",
            "give the tokens.txt of the model.",
        )
    return [table[i] for i in range(len(table))]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as problem:
        raise DataError(
            f"there is no --tokens {path}.", "give the tokens.txt of the model, or leave it out."
        ) from problem
    except (UnicodeDecodeError, IsADirectoryError) as problem:
        raise DataError(f"--tokens {path} is no text file.", "give a tokens.txt.") from problem


def first_difference(given: Sequence[str], expected: Sequence[str]) -> str:
    """Say where two tables of pieces differ first, or nothing where they are the same."""
    for i, (left, right) in enumerate(zip(given, expected, strict=False)):
        if left != right:
            return f"id {i} is {left!r}, not {right!r}"
    if len(given) != len(expected):
        return f"it has {len(given)} tokens, not {len(expected)}"
    return ""
