"""Scripts written with and without blanks between words: what is counted, joined and learned."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal

Unit = Literal["bpe", "char", "byte-bpe"]
UNITS: tuple[Unit, ...] = ("bpe", "char", "byte-bpe")

# Chinese characters and their radicals, kana, bopomofo, and the punctuation and the wide forms of
# Chinese and Japanese text. Korean, which is written with blanks, is not among them.
_CJK = (
    "\u2e80-\u2fdf\u2ff0-\u312f\u3190-\u31ff\u3200-\u4dbf\u4e00-\u9fff\uf900-\ufaff\ufe30-\ufe4f"
    "\uff01-\uff9f\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
# Which form of a character is meant; belongs to the character before it.
_SELECTORS = "\ufe00-\ufe0f\U000e0100-\U000e01ef"
# Thai, Lao, Myanmar and Khmer: blanks stand between phrases.
_OTHERS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"

_CJK_CHARACTER = re.compile(f"[{_CJK}][{_SELECTORS}]?")
_CHARACTER = re.compile(f"[{_CJK}][{_SELECTORS}]?|[{_OTHERS}]")
_CJK_END = re.compile(f"[{_CJK}{_SELECTORS}]")

#: Text is of one kind when all but this share of its words and characters is.
MIXED_SHARE = 0.02


def units_of(text: str) -> list[str]:
    """Split a transcript into what error rates count: words, or characters without blanks.

    Words of scripts that have blanks between them stay whole; each character of Chinese, Japanese,
    Thai, Lao, Myanmar and Khmer text stands alone.
    """
    return _split(text, _CHARACTER)


def cjk_units(text: str) -> list[str]:
    """Split a text at blanks and around each character of Chinese and Japanese."""
    return _split(text, _CJK_CHARACTER)


def _split(text: str, characters: re.Pattern[str]) -> list[str]:
    if text.isascii() or characters.search(text) is None:
        return text.split()
    return characters.sub(r" \g<0> ", text).split()


def is_character(unit: str) -> bool:
    """Say whether a unit is a character of a script without blanks between words."""
    return not unit.isascii() and _CHARACTER.fullmatch(unit) is not None


def is_cjk(unit: str) -> bool:
    """Say whether a unit is a character of Chinese or Japanese text."""
    return not unit.isascii() and _CJK_CHARACTER.fullmatch(unit) is not None


def is_border(before: str, after: str) -> bool:
    """Say whether a word ends between two texts because one of them is Chinese or Japanese there.

    Args:
        before: what ends there.
        after: what begins there.
    """
    return any(_CJK_END.match(char) for char in (before[-1:], after[:1]))


def joined(units: Sequence[str]) -> str:
    """Return words and characters as text: blanks stand around words, not between characters."""
    parts = [*units[:1]]
    for before, after in pairwise(units):
        parts.append("" if _is_one_text(before, after) else " ")
        parts.append(after)
    return "".join(parts)


def _is_one_text(before: str, after: str) -> bool:
    if after.isascii():
        return False
    is_cjk_text = all(_CJK_END.match(char) for char in (before[-1:], after[:1]))
    return is_cjk_text or (is_character(before) and is_character(after))


def metric_of(characters: int, units: int) -> str:
    """Return the name of an error rate: of words, characters, or a mixture of both.

    Args:
        characters: units of the references that are characters of scripts without blanks.
        units: all of them.
    """
    if characters <= MIXED_SHARE * units:
        return "WER"
    return "CER" if units - characters <= MIXED_SHARE * units else "MER"


def choose_unit(texts: Iterable[str]) -> tuple[Unit, str]:
    """Choose what tokens are made of by the script of the transcripts, and say why.

    Args:
        texts: one transcript each.
    """
    cjk = words = 0
    for text in texts:
        for unit in cjk_units(text):
            if not any(char.isalpha() for char in unit):
                continue  # digits and punctuation belong to every script
            if is_cjk(unit):
                cjk += 1
            else:
                words += 1
    share = cjk / max(1, cjk + words)
    percent = f"{100 * share:.3g} % of the words and characters are Chinese or Japanese"
    if share <= MIXED_SHARE:
        return "bpe", f"word pieces: {percent}"
    if share >= 1 - MIXED_SHARE:
        return "char", f"characters: {percent}"
    return "byte-bpe", f"pieces of bytes, for scripts with and without blanks: {percent}"
