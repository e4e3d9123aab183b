"""Bytes as characters: the published table, there and back."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zipasr.text.characters import (
    CHARACTERS,
    TEXT_CHARACTERS,
    are_byte_pieces,
    from_bytes,
    to_bytes,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def test_the_table_is_the_published_one() -> None:
    """Ends of its three ranges, and the letters that compatibility normalisation takes apart."""
    assert len({*CHARACTERS}) == 256
    ends = {0: 256, 31: 287, 32: 32, 126: 126, 127: 288, 128: 289, 145: 308, 255: 422}
    assert {byte: ord(CHARACTERS[byte]) for byte in ends} == ends
    assert not {306, 307, 319, 320, 329, 383} & {*map(ord, CHARACTERS)}
    assert all(unicodedata.normalize("NFKC", char) == char for char in CHARACTERS)


def test_a_published_example() -> None:
    assert to_bytes("你好 a") == "ƋţŅƌŋţ a"


@given(TEXT)
def test_text_comes_back(text: str) -> None:
    assert from_bytes(to_bytes(text)) == text
    assert len(to_bytes(text)) == len(text.encode())


@given(TEXT)
def test_text_consists_of_the_characters_that_are_always_learned(text: str) -> None:
    visible = "".join(char for char in text if ord(char) > 32 and char != "\x7f")
    assert {*to_bytes(visible)} <= {*TEXT_CHARACTERS}


@given(TEXT, st.integers(0, 40))
def test_broken_characters_are_left_out(text: str, cut: int) -> None:
    encoded = to_bytes(text)[cut:]
    assert from_bytes(encoded) == text.encode()[cut:].decode(errors="ignore")


@pytest.mark.parametrize(
    "letters",
    [
        "HELLO'",
        "aābcčdeēģiīķļņšūž",  # Latvian
        "aąbcćęłńóśźż",  # Polish
        "abcçğıöşü",  # Turkish
        "aăâîșț",  # Romanian
        "abcĉĝĥĵŝŭ",  # Esperanto
        "äöüßéèñ",
        "नमस्ते",
        "你好",
    ],
)
def test_tokens_of_text_are_not_taken_for_bytes(letters: str) -> None:
    assert not are_byte_pieces(["▁", *letters, f"▁{letters}"])
    if not letters.isascii():
        pieces = [to_bytes(letters), "▁A", "▁", *"abc"]
        assert are_byte_pieces(pieces)
