"""A table of tokens without a sentencepiece model: token ids to text, but no text to token ids."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from zipasr.base.errors import DataError
from zipasr.text.tokenizer import UNKNOWN_ID, Tokenizer
from zipasr.text.words import WORD_START

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

    @property
    def vocab_size(self) -> int:
        """V, the number of ids, blank included."""
        return len(self._table)

    def pieces(self) -> list[str]:
        """Return the V pieces in the order of their ids."""
        return list(self._table)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Refuse to cut text into tokens: a table does not say how.

        Raises:
            DataError: always, but for no texts.
        """
        if not texts:
            return []
        raise DataError(
            "a tokens.txt alone does not say how text is cut into tokens.",
            "give --bpe-model as well, the sentencepiece model of the same tokens.",
        )

    def decode(self, ids: Iterable[Sequence[int]]) -> list[str]:
        """Return the text of each sequence of ids, as sentencepiece writes it."""
        return [" ".join(self._text(sequence).split()) for sequence in ids]

    def _text(self, ids: Iterable[int]) -> str:
        # Neighbouring bytes make up a character.
        encoded = b"".join(self._bytes(int(i)) for i in ids if self.is_text(int(i)))
        text = encoded.decode("utf-8", "surrogateescape").replace(WORD_START, " ")
        return _NO_CHARACTER.sub("\N{REPLACEMENT CHARACTER}", text)

    def _bytes(self, token: int) -> bytes:
        piece = self._table[token]
        if byte := _BYTE.fullmatch(piece):
            return bytes([int(byte[1], 16)])
        is_unknown = token == UNKNOWN_ID and piece == "<unk>"
        return (_UNKNOWN if is_unknown else piece).encode("utf-8")
