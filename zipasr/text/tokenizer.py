"""Tokenizers: a sentencepiece model, or a table of tokens as tokens.txt holds it.

Tokens are pieces of words, characters, or pieces of bytes; the table tells which. For all three a
word begins with the mark of sentencepiece. A character of Chinese or Japanese has no mark where
tokens are characters, and a mark of its own where they are bytes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import sentencepiece

from zipasr.base.errors import DataError
from zipasr.text.characters import are_byte_pieces, from_bytes, to_bytes
from zipasr.text.config import BLANK_ID, SENTENCE_ENDS_ID
from zipasr.text.scripts import Unit, cjk_units, is_cjk, joined
from zipasr.text.text_io import read_lines
from zipasr.text.timed_words import WORD_START

BLANK = "<blk>"
SENTENCE_ENDS = "<sos/eos>"
UNKNOWN_ID = 2

_NOT_TEXT = (BLANK_ID, SENTENCE_ENDS_ID)
_SURROGATE = re.compile("[\ud800-\udfff]")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# Names of what is no text, such as <unk>.
_NAME = re.compile("<[^<> ]+>")


class Tokenizer:
    """Transcripts to token ids and back.

    Args:
        model: the bytes of a sentencepiece model trained by ``train_bpe`` (or by icefall).
        origin: where the bytes come from, named in errors.

    Raises:
        DataError: the bytes are no sentencepiece model, or its id 0 is not the blank.
    """

    def __init__(self, model: bytes, origin: str = "the tokenizer in the checkpoint") -> None:
        self.model_bytes = model
        self._pieces = _processor(model, origin)
        if self._pieces.id_to_piece(BLANK_ID) != BLANK:
            raise DataError(
                f"{origin} is a sentencepiece model, but its id {BLANK_ID} is "
                f"{self._pieces.id_to_piece(BLANK_ID)!r} where {BLANK!r} is needed.",
                "train the tokenizer with ./prepare.sh --stage 3",
            )

    @classmethod
    def from_file(cls, path: Path | str) -> Tokenizer:
        """Read a ``bpe.model`` file.

        Raises:
            DataError: the file does not exist or is no model of ours.
        """
        path = Path(path)
        if not path.is_file():
            raise DataError(f"there is no tokenizer at {path}.", "run ./prepare.sh --stage 3 first")
        return cls(path.read_bytes(), str(path))

    @classmethod
    def from_bytes(cls, model: bytes) -> Tokenizer:
        """Use the bytes of a ``bpe.model`` file, as a checkpoint holds them."""
        return cls(model)

    @property
    def vocab_size(self) -> int:
        """V, the number of ids, blank included; read from the model, never assumed."""
        return int(self._pieces.vocab_size())

    @cached_property
    def unit(self) -> Unit:
        """What tokens are: pieces of words, characters, or pieces of bytes."""
        unit = unit_of(self.pieces())
        # A short table of word pieces may have characters alone, but a mark where text begins.
        has_mark = len(self._pieces.encode(_REPLACEMENT)) > 1
        return "bpe" if unit == "char" and has_mark else unit

    @property
    def blank_id(self) -> int:
        """The id that the losses and searches use for "nothing new"."""
        return BLANK_ID

    @property
    def unknown_id(self) -> int:
        """The id of characters that the training text did not have."""
        return UNKNOWN_ID

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text; never 0 or 1, whatever the text contains."""
        if not texts:
            return []
        prepared = [prepared_text(text, self.unit) for text in texts]
        encoded: list[list[int]] = self._pieces.encode(prepared, out_type=int)
        # A transcript may contain the characters "<blk>" by mistake; as a label, blank would
        # break the lattice of the losses.
        return [_without_reserved(ids) for ids in encoded]

    def decode(self, ids: Iterable[Sequence[int]]) -> list[str]:
        """Return the text of each sequence of ids; 0 and 1 are skipped, unknown shows as ⁇.

        Of characters and bytes it has blanks around words, and none between the characters of
        Chinese and Japanese.
        """
        return [self._text(_text_ids(sequence)) for sequence in ids]

    def _text(self, ids: list[int]) -> str:
        return self._spaced(str(self._pieces.decode(ids)))

    def _spaced(self, text: str) -> str:
        text = self.written(text)
        return " ".join(text.split()) if self.unit == "bpe" else joined(cjk_units(text))

    def written(self, pieces: str) -> str:
        """Return the text that joined pieces stand for, marks of words apart."""
        return from_bytes(pieces) if self.unit == "byte-bpe" else pieces

    def unwritable(self, text: str) -> str:
        """Return the characters of a text that become the unknown token, in order."""
        text = plain_text(text)
        if self.unit != "bpe":
            return "".join(char for char in text if UNKNOWN_ID in self.encode([char])[0])
        (ids,) = self._pieces.encode([text], out_type=int)
        if UNKNOWN_ID not in ids:
            return ""
        (pieces,) = self._pieces.encode([text], out_type=str)
        unknown = [piece for i, piece in zip(ids, pieces, strict=True) if i == UNKNOWN_ID]
        return "".join(unknown).replace(WORD_START, "")

    def is_text(self, token: int) -> bool:
        """Say whether ``decode`` writes a token; it leaves out blanks and ends of sentences."""
        return token not in _NOT_TEXT

    def pieces(self) -> list[str]:
        """Return the V pieces in the order of their ids."""
        pieces: list[str] = self._pieces.id_to_piece(list(range(self.vocab_size)))
        return pieces

    def scores(self) -> list[float]:
        """Return the log-probability of each piece, in the order of their ids."""
        return [float(self._pieces.get_score(i)) for i in range(self.vocab_size)]

    def table_hash(self) -> str:
        """Return what tells this table of tokens from others, 16 hexadecimal digits."""
        return hashlib.sha256("\n".join(self.pieces()).encode()).hexdigest()[:16]


def plain_text(text: str) -> str:
    """Return a text with single blanks, the only white space of a sentencepiece model.

    A surrogate, which is half a character, becomes the replacement character: no file can hold it.
    """
    return " ".join(_SURROGATE.sub(_REPLACEMENT, text).split())


def prepared_text(text: str, unit: Unit) -> str:
    """Return a text as sentencepiece shall cut it into units."""
    text = plain_text(text)
    if unit == "bpe":
        return text
    units = cjk_units(text)
    if unit == "byte-bpe":
        return to_bytes(" ".join(units))
    return "".join(one if is_cjk(one) else f" {one}" for one in units)


def unit_of(pieces: Iterable[str]) -> Unit:
    """Tell what tokens are by their table.

    Args:
        pieces: tokens; those that are no text are passed over.
    """
    named = (piece for piece in pieces if not _NAME.fullmatch(piece))
    texts = [piece for piece in named if not DISAMBIGUATION.fullmatch(piece)]
    if are_byte_pieces(texts):
        return "byte-bpe"
    return "char" if texts and all(len(piece) == 1 for piece in texts) else "bpe"


def _text_ids(ids: Iterable[int]) -> list[int]:
    return [int(i) for i in ids if i not in _NOT_TEXT]


def _without_reserved(ids: list[int]) -> list[int]:
    # Hardly ever anything is to be left out.
    return _text_ids(ids) if BLANK_ID in ids or SENTENCE_ENDS_ID in ids else ids


def _processor(model: bytes, origin: str) -> sentencepiece.SentencePieceProcessor:
    fix = "train the tokenizer again with ./prepare.sh --stage 3"
    if not model:
        raise DataError(f"{origin} is empty.", fix)
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
        raise DataError(f"{origin} is not a sentencepiece model.", fix) from error


# Symbols of word graphs, behind the tokens where there is a word lexicon: the model has no such.
DISAMBIGUATION = re.compile(r"#[0-9]+")
_LINE = re.compile(r"[ \t]*([^ \t]+)[ \t]+([0-9]{1,9})[ \t]*")


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
    if not path.exists():
        raise DataError(
            f"there is no --tokens {path}.", "give the tokens.txt of the model, or leave it out."
        )
    for number, line in enumerate(read_lines(path, f"--tokens {path}", "give a tokens.txt."), 1):
        if not line.strip(" \t"):
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


def first_difference(given: Sequence[str], expected: Sequence[str]) -> str:
    """Say where two tables of pieces differ first, or nothing where they are the same."""
    for i, (left, right) in enumerate(zip(given, expected, strict=False)):
        if left != right:
            return f"id {i} is {left!r}, not {right!r}"
    if len(given) != len(expected):
        return f"it has {len(given)} tokens, not {len(expected)}"
    return ""


# What sentencepiece writes for a character that it does not know, and its pieces that are a byte.
_UNKNOWN = " \u2047 "
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")

# A byte that belongs to no character, as "surrogateescape" decodes it.
_NO_CHARACTER = re.compile("[\udc80-\udcff]")


class PieceTokenizer(Tokenizer):
    """Token ids to text, by the pieces of a ``tokens.txt`` alone.

    Args:
        pieces: in the order of their ids.
    """

    def __init__(self, pieces: Sequence[str]) -> None:
        self._table = list(pieces)

    @cached_property
    def unit(self) -> Unit:
        """What tokens are: pieces of words, characters, or pieces of bytes."""
        return unit_of(self._table)

    @property
    def vocab_size(self) -> int:
        """V, the number of ids, blank included."""
        return len(self._table)

    def pieces(self) -> list[str]:
        """Return the V pieces in the order of their ids."""
        return list(self._table)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the characters of each text as ids; other tables do not say how text is cut.

        Raises:
            DataError: tokens are no characters, and there are texts.
        """
        if not texts or self.unit == "char":
            return [self._characters(text) for text in texts]
        raise DataError(
            "a tokens.txt alone does not say how text is cut into tokens.",
            "give --bpe-model as well, the sentencepiece model of the same tokens.",
        )

    def decode(self, ids: Iterable[Sequence[int]]) -> list[str]:
        """Return the text of each sequence of ids, as sentencepiece writes it."""
        return [self._text(_text_ids(sequence)) for sequence in ids]

    def _characters(self, text: str) -> list[int]:
        ids = {piece: i for i, piece in enumerate(self._table) if self.is_text(i)}
        prepared = prepared_text(text, "char").replace(" ", WORD_START)
        if WORD_START not in ids:  # a table for text without blanks
            prepared = prepared.replace(WORD_START, "")
        return [ids.get(char, UNKNOWN_ID) for char in prepared]

    def _text(self, ids: list[int]) -> str:
        # Neighbouring bytes make up a character.
        encoded = b"".join(self._bytes(token) for token in ids)
        text = encoded.decode("utf-8", "surrogateescape").replace(WORD_START, " ")
        return self._spaced(_NO_CHARACTER.sub(_REPLACEMENT, text))

    def _bytes(self, token: int) -> bytes:
        piece = self._table[token]
        if byte := _BYTE.fullmatch(piece):
            return bytes([int(byte[1], 16)])
        is_unknown = token == UNKNOWN_ID and piece == "<unk>"
        return (_UNKNOWN if is_unknown else piece).encode("utf-8")
