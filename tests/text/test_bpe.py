import logging
from pathlib import Path

import pytest

from tests.text.test_tokenizer import ALPHABET, TEXTS
from zipasr.base.errors import DataError
from zipasr.text.bpe import train_bpe
from zipasr.text.config import BpeConfig
from zipasr.text.tokenizer import Tokenizer, read_tokens


def test_writes_the_language_folder(tmp_path: Path) -> None:
    tokenizer = train_bpe(TEXTS, BpeConfig(lang_dir=tmp_path / "lang", vocab_size=60))
    lang = tmp_path / "lang"
    assert sorted(p.name for p in lang.iterdir()) == [
        "bpe.model",
        "bpe.vocab",
        "lexicon.txt",
        "lexicon_disambig.txt",
        "tokens.txt",
        "transcript_words.txt",
        "words.txt",
    ]
    assert (lang / "transcript_words.txt").read_text().splitlines() == TEXTS
    table = [line.rsplit(" ", 1) for line in (lang / "tokens.txt").read_text().splitlines()]
    assert [int(i) for _, i in table] == list(range(len(table)))
    assert [piece for piece, _ in table[: tokenizer.vocab_size]] == tokenizer.pieces()
    symbols = {p for p in (lang / "lexicon_disambig.txt").read_text().split() if p[0] == "#"}
    assert [piece for piece, _ in table[tokenizer.vocab_size :]] == ["#0", *sorted(symbols)]
    assert [piece for piece, _ in table[:3]] == ["<blk>", "<sos/eos>", "<unk>"]
    scored = [line.split("\t") for line in (lang / "bpe.vocab").read_text().splitlines()]
    assert [piece for piece, _ in scored] == tokenizer.pieces()
    scores = [float(score) for _, score in scored[3:]]
    assert scores == sorted(scores, reverse=True)
    assert Tokenizer.from_file(lang / "bpe.model").encode(TEXTS) == tokenizer.encode(TEXTS)


def test_words_of_the_text_and_more_are_spelt(tmp_path: Path) -> None:
    train_bpe(TEXTS, BpeConfig(lang_dir=tmp_path, vocab_size=60), ["ZEBRA"])
    spelt = {line.split()[0] for line in (tmp_path / "lexicon.txt").read_text().splitlines()}
    assert spelt == {word for text in TEXTS for word in text.split()} | {"ZEBRA", "<UNK>"}


def test_same_text_gives_the_same_model(tmp_path: Path) -> None:
    configs = [BpeConfig(lang_dir=tmp_path / name, vocab_size=60) for name in "ab"]
    first, second = (train_bpe(TEXTS, config) for config in configs)
    assert first.pieces() == second.pieces()


def test_size_asked_for_is_the_size_given(tmp_path: Path) -> None:
    assert train_bpe(TEXTS, BpeConfig(lang_dir=tmp_path, vocab_size=40)).vocab_size == 40


def test_vocabulary_too_large_for_the_text_is_lowered_with_a_notice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        tokenizer = train_bpe(TEXTS, BpeConfig(lang_dir=tmp_path, vocab_size=5000))
    assert len(ALPHABET) < tokenizer.vocab_size < 5000
    assert f"using {tokenizer.vocab_size}" in caplog.text
    assert read_tokens(tmp_path / "tokens.txt") == tokenizer.pieces()


def test_vocabulary_smaller_than_the_alphabet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--vocab-size 10 is too small.*give --vocab-size \d+"):
        train_bpe(TEXTS, BpeConfig(lang_dir=tmp_path, vocab_size=10))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("texts", [[], ["", "  "]])
def test_no_text_is_refused(tmp_path: Path, texts: list[str]) -> None:
    with pytest.raises(DataError, match="all transcripts are empty"):
        train_bpe(texts, BpeConfig(lang_dir=tmp_path))


def test_config_names_its_flag() -> None:
    with pytest.raises(ValueError, match="--vocab-size"):
        BpeConfig(vocab_size=3)
