"""Words and characters of scripts with and without blanks, and the unit that fits a script."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zipasr.text.scripts import choose_unit, cjk_units, is_character, joined, metric_of, units_of

MIXED = st.text("我你好界ァの々，。ก้ aéBz'न-5١\u3000\t", max_size=30)


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("今天天气 很好", list("今天天气很好")),
        ("東京タワーへ行きます。", list("東京タワーへ行きます。")),
        ("打开 windows系统 very good", ["打", "开", "windows", "系", "统", "very", "good"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("مرحبا بالعالم", ["مرحبا", "بالعالم"]),
        ("안녕하세요 세계", ["안녕하세요", "세계"]),
        ("IT'S  A\tTEST", ["IT'S", "A", "TEST"]),
        ("ไทย hello", ["ไ", "ท", "ย", "hello"]),
        ("葛\U000e0100城", ["葛\U000e0100", "城"]),
        (" ", []),
    ],
)
def test_units_are_words_or_characters(text: str, units: list[str]) -> None:
    assert units_of(text) == units


def test_phrases_of_thai_stay_whole_as_tokens() -> None:
    assert cjk_units("ไทย ครับ你好") == ["ไทย", "ครับ", "你", "好"]


@given(MIXED)
def test_joined_units_are_the_same_units(text: str) -> None:
    assert units_of(joined(units_of(text))) == units_of(text)
    assert cjk_units(joined(cjk_units(text))) == cjk_units(text)
    assert "".join(units_of(text)) == "".join(text.split())


@given(
    st.text(st.characters(max_codepoint=0x2000), max_size=30).filter(
        lambda t: max(t, default="") < "\u0e00"
    )
)
def test_text_with_blanks_is_split_at_them_alone(text: str) -> None:
    assert units_of(text) == text.split()
    assert joined(text.split()) == " ".join(text.split())


def test_blanks_stand_around_words() -> None:
    assert joined(["我", "love", "你", "们"]) == "我 love 你们"
    assert joined(["你好", "世", "ok", "ก", "ข"]) == "你好世 ok กข"
    assert joined([]) == ""


def test_what_is_a_character() -> None:
    assert all(map(is_character, "你のカ々，ก"))
    assert not any(map(is_character, ["", "a", "é", "न", "한", "你好", "1"]))


@pytest.mark.parametrize(
    ("characters", "units", "name"),
    [
        (0, 0, "WER"),
        (0, 10, "WER"),
        (1, 100, "WER"),
        (5, 10, "MER"),
        (99, 100, "CER"),
        (7, 7, "CER"),
    ],
)
def test_error_rates_have_the_name_of_what_they_count(
    characters: int, units: int, name: str
) -> None:
    assert metric_of(characters, units) == name


@pytest.mark.parametrize(
    ("texts", "unit"),
    [
        (["今天天气很好", "我们去北京"], "char"),
        (["今天 天气 2019 年"] * 2, "char"),
        (["東京タワーへ行きます"], "char"),
        (["今天天气很好" * 20, "KTV"], "char"),
        (["打开 windows 系统", "very good"], "byte-bpe"),
        (["नमस्ते दुनिया"], "bpe"),
        (["مرحبا بالعالم"], "bpe"),
        (["hello world " * 60, "你好"], "bpe"),
        (["안녕하세요 세계"], "bpe"),
        ([], "bpe"),
    ],
)
def test_the_unit_fits_the_script(texts: list[str], unit: str) -> None:
    chosen, reason = choose_unit(texts)
    assert chosen == unit
    assert "% of the words and characters are Chinese or Japanese" in reason
