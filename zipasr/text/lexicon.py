"""Lexicon of a language folder: words and their token sequences."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from zipasr.base.errors import DataError
from zipasr.text.config import BLANK_ID, SENTENCE_ENDS_ID
from zipasr.text.text_io import fields_of, read_lines
from zipasr.text.timed_words import WORD_START
from zipasr.text.tokenizer import (
    DISAMBIGUATION,
    UNKNOWN_ID,
    Tokenizer,
    tokens_text,
)

logger = logging.getLogger(__name__)

EPSILON = "<eps>"
UNKNOWN_WORD = "<UNK>"
# Words of the published phone lexicon that nobody says.
_NOT_SPOKEN = ("!SIL", "<SPOKEN_NOISE>", UNKNOWN_WORD)
_AFTER_THE_WORDS = ("#0", "<s>", "</s>")
_NOT_SAID = {EPSILON, *_NOT_SPOKEN, *_AFTER_THE_WORDS}
_UNKNOWN_PIECES = (WORD_START, "<unk>")
_ID = re.compile("[0-9]{1,9}")
_MAKE = "make it with ./prepare.sh --stage 3, or give --lang-dir."

Spelling = tuple[str, Sequence[str]]


def words_text(words: Iterable[str]) -> str:
    """Format ``words.txt``: lines ``word id``, ``<eps>`` 0, the words in order, ``#0 <s> </s>``."""
    ordered = sorted({*words, *_NOT_SPOKEN} - {EPSILON, *_AFTER_THE_WORDS})
    table = [EPSILON, *ordered, *_AFTER_THE_WORDS]
    return "".join(f"{word} {i}\n" for i, word in enumerate(table))


def spell(words: Iterable[str], tokenizer: Tokenizer) -> list[Spelling]:
    """Return each word with its pieces, in order; last ``<UNK>``, as ``▁ <unk>``, or ``<unk>``.

    A character that the tokenizer does not know shows as ``<unk>``.
    """
    ordered = sorted({*words} - {EPSILON, *_NOT_SPOKEN, *_AFTER_THE_WORDS})
    names = tokenizer.pieces()
    spelt = tokenizer.encode(ordered)
    rows: list[Spelling] = [
        (word, [names[i] for i in ids]) for word, ids in zip(ordered, spelt, strict=True)
    ]
    return [*rows, (UNKNOWN_WORD, [piece for piece in _UNKNOWN_PIECES if piece in names])]


def lexicon_text(spellings: Sequence[Spelling]) -> str:
    """Format ``lexicon.txt``: lines ``WORD piece piece``."""
    return "".join(f"{word} {' '.join(pieces)}\n" for word, pieces in spellings)


def disambiguated(spellings: Sequence[Spelling]) -> list[Spelling]:
    """Return the spellings so that none is the same as, or begins, another.

    Where one is or does, ``#1``, ``#2``, ... is put behind it, counted for each sequence of pieces.
    """
    sequences = Counter(tuple(pieces) for _, pieces in spellings)
    beginnings = {sequence[:length] for sequence in sequences for length in range(1, len(sequence))}
    used: Counter[tuple[str, ...]] = Counter()
    rows: list[Spelling] = []
    for word, pieces in spellings:
        sequence = tuple(pieces)
        if sequences[sequence] > 1 or sequence in beginnings:
            used[sequence] += 1
            rows.append((word, [*pieces, f"#{used[sequence]}"]))
        else:
            rows.append((word, pieces))
    return rows


def lang_files(words: Iterable[str], tokenizer: Tokenizer) -> Mapping[str, str]:
    """Return the files of a language folder that belong to its words, name -> content.

    ``tokens.txt`` is one of them: behind the tokens it has the disambiguation symbols, ``#0``,
    which labels the back-off arcs of a grammar graph, and those of ``lexicon_disambig.txt``.
    """
    words = set(words)
    spellings = spell(words, tokenizer)
    marked = disambiguated(spellings)
    numbers = [
        int(with_symbol[-1].removeprefix("#"))
        for (_, pieces), (_, with_symbol) in zip(spellings, marked, strict=True)
        if len(with_symbol) > len(pieces)
    ]
    return {
        "words.txt": words_text(words),
        "lexicon.txt": lexicon_text(spellings),
        "lexicon_disambig.txt": lexicon_text(marked),
        "tokens.txt": tokens_text(tokenizer.pieces(), 1 + max(numbers, default=0)),
    }


def read_lexicon(folder: Path, tokenizer: Tokenizer) -> list[tuple[str, list[int]]]:
    """Read the words of a language folder, with the token ids of each; a word may come again.

    They stand in ``lexicon.txt``; without it those of ``words.txt`` are spelt by the tokenizer.
    What nobody says (``<UNK>`` and the like) is left out, and so are words with a character that
    the tokenizer does not know, as no sequence of tokens tells them apart. Blanks and tabs alone
    separate.

    Raises:
        DataError: there are no words, a line is wrong, or the folder is of another tokenizer.
    """
    _check_tokens(folder / "tokens.txt", tokenizer)
    path = folder / "lexicon.txt"
    rows = list(_spellings(path, tokenizer) if path.is_file() else _spelt(folder, tokenizer))
    known = [(word, ids) for word, ids in rows if UNKNOWN_ID not in ids]
    if len(known) < len(rows):
        logger.info(
            "%s: %d of %d words have characters that the tokenizer does not know; left out",
            folder,
            len(rows) - len(known),
            len(rows),
        )
    if not known:
        raise DataError(f"{folder} has no words.", _MAKE)
    return known


def _check_tokens(path: Path, tokenizer: Tokenizer) -> None:
    """Refuse a folder whose table of tokens is not that of the model."""
    if not path.is_file():
        return
    pieces = tokenizer.pieces()
    for number, line in _lines(path):
        piece, token = (*fields_of(line), "")[:2]
        if DISAMBIGUATION.fullmatch(piece):
            continue
        if _ID.fullmatch(token) is None or len(fields_of(line)) != 2:
            raise DataError(f"{path}:{number}: expected a token and its id, got {line!r}.", _MAKE)
        if int(token) >= len(pieces) or pieces[int(token)] != piece:
            raise DataError(
                f"{path}:{number}: token {token} is {piece!r}, but that of the model is "
                f"{pieces[int(token)]!r}."
                if int(token) < len(pieces)
                else f"{path}:{number}: token {token}, but the model has {len(pieces)}.",
                "the lexicon is of another tokenizer; give the --lang-dir of the model.",
            )


def _spellings(path: Path, tokenizer: Tokenizer) -> Iterator[tuple[str, list[int]]]:
    ids = {piece: token for token, piece in enumerate(tokenizer.pieces())}
    for number, line in _lines(path):
        word, *pieces = fields_of(line)
        if word in _NOT_SAID:
            continue
        unknown = [piece for piece in pieces if piece not in ids]
        if unknown:
            raise DataError(
                f"{path}:{number}: {unknown[0]!r} is no token of the model.",
                "the lexicon is of another tokenizer; give the --lang-dir of the model.",
            )
        if not pieces:
            raise DataError(f"{path}:{number}: the word {word!r} has no tokens.", _MAKE)
        spelt = [ids[piece] for piece in pieces]
        if not {BLANK_ID, SENTENCE_ENDS_ID}.isdisjoint(spelt):
            raise DataError(
                f"{path}:{number}: the word {word!r} is spelt with a token that is no text.", _MAKE
            )
        yield word, spelt


def _spelt(folder: Path, tokenizer: Tokenizer) -> Iterator[tuple[str, list[int]]]:
    path = folder / "words.txt"
    if not path.is_file():
        raise DataError(f"there is no lexicon.txt in {folder}, and no words.txt.", _MAKE)
    words = [fields_of(line)[0] for _, line in _lines(path)]
    words = [word for word in words if word not in _NOT_SAID]
    for word, ids in zip(words, tokenizer.encode(words), strict=True):
        if tokenizer.decode([ids]) != [""]:
            yield word, ids


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not empty, with their numbers."""
    lines = read_lines(path)
    yield from ((number, line) for number, line in enumerate(lines, start=1) if fields_of(line))
