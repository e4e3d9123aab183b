"""Characters of the transcripts with their counts, and bytes as printable characters.

The table is that of icefall's byte BPE and of sherpa-onnx: printable ASCII stands for itself, the
other bytes in order for the code points from U+0100 on that compatibility normalisation (NFKC)
leaves as they are.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping

from zipasr.text.normalise import normalise

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


_MOST_ROWS = 60


def count_characters(texts: Iterable[str]) -> Counter[str]:
    """Count every character, spaces included."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    return counts


def normalisation_effect(char: str) -> str:
    """Say what ``normalise`` makes of a character inside a word, such as ``-> A``."""
    # Between letters: an apostrophe alone is punctuation, in a word it is a letter.
    after = normalise(f"X{char}X")
    if char.isspace():
        return "separates words"
    if after == f"X{char}X":
        return "kept"
    if after == "X X":
        return "becomes a space"
    return f"becomes {after[1:-1]}" if after[1:-1] else "goes away"


def characters_text(counts: Mapping[str, int], unseen: Iterable[str] = ()) -> str:
    """Format the table of characters: the commonest first, rare ones in one line.

    Args:
        counts: of the training transcripts.
        unseen: characters of other splits that training never sees.
    """
    ordered = sorted(counts, key=lambda char: (-counts[char], char))
    shown, rest = ordered[:_MOST_ROWS], ordered[_MOST_ROWS:]
    lines = [f"characters of the transcripts: {len(counts)} different", *map(_row(counts), shown)]
    if rest:
        lines.append(f"  and {len(rest)} rarer ones: {' '.join(rest)}")
    never = sorted(set(unseen) - set(counts))
    if never:
        named = ", ".join(f"{char} ({_name(char)})" for char in never[:10])
        lines.append(f"  {len(never)} in other splits are never seen in training: {named}")
    return "\n".join(lines) + "\n"


def _row(counts: Mapping[str, int]):  # type: ignore[no-untyped-def]
    def row(char: str) -> str:
        seen = "' '" if char.isspace() else char
        return (
            f"  {seen:3} {counts[char]:9d}  {_name(char)}; normalised: {normalisation_effect(char)}"
        )

    return row


def _name(char: str) -> str:
    return unicodedata.name(char, f"U+{ord(char):04X}").lower()
