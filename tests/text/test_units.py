"""Tokens of every unit on every script: round trips, tables, folders."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zipasr.base.errors import DataError
from zipasr.text.bpe import train_bpe
from zipasr.text.config import BpeConfig, lang_name
from zipasr.text.scripts import Unit, cjk_units, joined, units_of
from zipasr.text.timed_words import Token, words_of_tokens
from zipasr.text.tokenizer import PieceTokenizer, Tokenizer, read_tokens, unit_of
from zipasr.text.writability import check_writable

TEXTS = {
    "Mandarin": ["今天 天气 很好", "我们去北京", "你好世界"],
    "Japanese": ["東京タワーへ行きます", "今日はいい天気です"],
    "Hindi": ["नमस्ते दुनिया", "आज मौसम अच्छा है"],
    "Arabic": ["مرحبا بالعالم", "الطقس جميل اليوم"],
    "mixed": ["我 love 你", "打开windows系统 very good", "T恤 很好"],
}
SIZES: dict[Unit, int] = {"bpe": 60, "char": 60, "byte-bpe": 260}
CHOSEN: dict[str, Unit] = {
    "Mandarin": "char",
    "Japanese": "char",
    "Hindi": "bpe",
    "Arabic": "bpe",
    "mixed": "byte-bpe",
}
Trained = dict[tuple[str, Unit], tuple[Tokenizer, Path]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A tokenizer of each unit for each script, and its folder."""
    folder, found = tmp_path_factory.mktemp("lang"), {}
    for script, texts in TEXTS.items():
        for unit, size in SIZES.items():
            lang = folder / f"{script}-{unit}"
            config = BpeConfig(lang_dir=lang, unit=unit, vocab_size=size)
            found[script, unit] = train_bpe(texts, config), lang
    return found


@pytest.mark.parametrize("unit", SIZES)
@pytest.mark.parametrize("script", TEXTS)
def test_transcripts_come_back(trained: Trained, script: str, unit: Unit) -> None:
    tokenizer, lang = trained[script, unit]
    found = tokenizer.decode(tokenizer.encode(TEXTS[script]))
    assert [units_of(text) for text in found] == [units_of(text) for text in TEXTS[script]]
    assert check_writable(TEXTS[script], tokenizer).is_whole
    table = PieceTokenizer(read_tokens(lang / "tokens.txt"))
    same = table.decode(tokenizer.encode(TEXTS[script]))
    assert [units_of(text) for text in same] == [units_of(text) for text in found]


@pytest.mark.parametrize("script", TEXTS)
def test_the_table_tells_the_unit(trained: Trained, script: str) -> None:
    for unit in ("char", "byte-bpe"):
        tokenizer, lang = trained[script, unit]
        assert tokenizer.unit == unit_of(read_tokens(lang / "tokens.txt")) == unit


@pytest.mark.parametrize("script", TEXTS)
def test_a_table_of_characters_cuts_text_as_the_model_does(trained: Trained, script: str) -> None:
    tokenizer, lang = trained[script, "char"]
    table = PieceTokenizer(read_tokens(lang / "tokens.txt"))
    texts = [*TEXTS[script], "新"]
    assert table.encode(texts) == tokenizer.encode(texts)
    assert table.unwritable("\U0001f600") == "\U0001f600"


def test_characters_are_listed_as_in_the_published_recipes(trained: Trained) -> None:
    _, lang = trained["Mandarin", "char"]
    rows = [line.split(" ") for line in (lang / "tokens.txt").read_text().splitlines()]
    assert rows[:3] == [["<blk>", "0"], ["<sos/eos>", "1"], ["<unk>", "2"]]
    assert [int(number) for _, number in rows] == list(range(len(rows)))
    characters = {*"".join(TEXTS["Mandarin"])} - {" "}
    assert {piece for piece, _ in rows[3:]} == characters | {"#0"}
    lexicon = (lang / "lexicon.txt").read_text().splitlines()
    assert lexicon == [f"{char} {char}" for char in sorted(characters)] + ["<UNK> <unk>"]


def test_bytes_write_any_text(trained: Trained) -> None:
    tokenizer, _ = trained["mixed", "byte-bpe"]
    texts = ["日本 नमस्ते", "مرحبا \U0001f600 naïve"]
    assert not any(map(tokenizer.unwritable, texts))
    assert tokenizer.decode(tokenizer.encode(texts)) == texts


@settings(deadline=None)
@given(st.text("我你好タワ，éa bZ'ก้न्\u3000<>▁", max_size=30))
def test_bytes_give_any_text_back_but_for_idle_blanks(trained: Trained, text: str) -> None:
    tokenizer, _ = trained["mixed", "byte-bpe"]
    plain = text.replace("▁", " ")
    assert tokenizer.decode(tokenizer.encode([plain])) == [joined(cjk_units(plain))]


@settings(deadline=None)
@given(st.text("今天气很好我们去北京你界 ", max_size=30))
def test_characters_give_text_back_without_blanks(trained: Trained, text: str) -> None:
    tokenizer, _ = trained["Mandarin", "char"]
    assert tokenizer.decode(tokenizer.encode([text])) == [text.replace(" ", "")]
    assert [len(ids) for ids in tokenizer.encode([text])] == [len(text.replace(" ", ""))]


def test_what_no_token_stands_for_is_named(trained: Trained) -> None:
    tokenizer, _ = trained["Mandarin", "char"]
    assert tokenizer.unwritable("你们 好吗 x") == "吗x"


@pytest.mark.parametrize("script", TEXTS)
def test_the_script_decides_and_that_is_told(
    tmp_path: Path, script: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        tokenizer = train_bpe(TEXTS[script], BpeConfig(lang_dir=tmp_path, vocab_size=260))
    assert tokenizer.unit == CHOSEN[script]
    assert f"--unit {CHOSEN[script]}: " in caplog.text


def test_too_few_tokens_for_bytes_are_refused(tmp_path: Path) -> None:
    config = BpeConfig(lang_dir=tmp_path, unit="byte-bpe", vocab_size=100)
    with pytest.raises(DataError, match=r"the bytes of text alone are 21\d tokens"):
        train_bpe(TEXTS["mixed"], config)
    assert not list(tmp_path.iterdir())


def test_folders_have_the_names_of_the_published_recipes() -> None:
    names = [lang_name(unit, 500) for unit in ("bpe", "char", "byte-bpe")]
    assert names == ["lang_bpe_500", "lang_char", "lang_bbpe_500"]


@pytest.mark.parametrize("unit", ["char", "byte-bpe"])
@pytest.mark.parametrize("script", TEXTS)
def test_words_with_times_are_those_of_the_text(trained: Trained, script: str, unit: Unit) -> None:
    tokenizer, _ = trained[script, unit]
    pieces = tokenizer.pieces()
    for text, ids in zip(TEXTS[script], tokenizer.encode(TEXTS[script]), strict=True):
        tokens = [Token(pieces[token], n, n + 1) for n, token in enumerate(ids)]
        words = words_of_tokens(tokens, tokenizer.written)
        assert [word.text for word in words] == cjk_units(text)
        assert sum(len(word.tokens) for word in words) <= len(ids)
