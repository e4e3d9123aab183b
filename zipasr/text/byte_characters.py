"""Bytes as printable characters, so that sentencepiece learns pieces of UTF-8 text.

The table is that of icefall's byte BPE and of sherpa-onnx: printable ASCII stands for itself, the
other bytes in order for the code points from U+0100 on that compatibility normalisation (NFKC)
leaves as they are.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_OTHERS = (
    chr(code) for code in range(0x100, 0x200) if unicodedata.is_normalized("NFKC", chr(code))
)
#: The character of each byte.
CHARACTERS = tuple(chr(byte) if 32 <= byte < 127 else next(_OTHERS) for byte in range(256))
_BYTES = {char: bytes([byte]) for byte, char in enumerate(CHARACTERS)}

_LEAD_BYTES = range(0xC2, 0xF5)
_CONTINUATION_BYTES = range(0x80, 0xC0)
# ASCII that can be seen, and what the other characters of UTF-8 consist of.
_OF_TEXT = (*range(33, 127), *_CONTINUATION_BYTES, *_LEAD_BYTES)
#: Characters of all bytes that text consists of, blanks apart.
TEXT_CHARACTERS = "".join(CHARACTERS[byte] for byte in _OF_TEXT)
_WORD = re.compile(f"\u2581?[{re.escape(TEXT_CHARACTERS)}]*")


def to_bytes(text: str) -> str:
    """Return a text with a character for each byte of its UTF-8 form."""
    return "".join(CHARACTERS[byte] for byte in text.encode("utf-8"))


def from_bytes(text: str) -> str:
    """Return the text that characters for bytes stand for; bytes of no character are left out.

    Characters that stand for no byte remain.
    """
    encoded = b"".join(_BYTES.get(char) or char.encode("utf-8") for char in text)
    return encoded.decode("utf-8", "ignore")


def are_byte_pieces(pieces: Iterable[str]) -> bool:
    """Say whether tokens are pieces of bytes rather than of text.

    Those of text in Latin script may have the same characters, but also some of those that stand
    for control characters, such as ā and č, or none for the first byte of a character.

    Args:
        pieces: tokens, without those that are no text.
    """
    used: set[str] = set()
    for piece in pieces:
        if _WORD.fullmatch(piece) is None:
            return False
        used.update(piece)
    kinds = (_LEAD_BYTES, _CONTINUATION_BYTES)
    return all(any(CHARACTERS[byte] in used for byte in kind) for kind in kinds)
