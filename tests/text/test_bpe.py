import io
import logging
from pathlib import Path

import pytest
import sentencepiece

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


ODD = ["½ ﬁne Ａ² №", "cafe\u0301 ŉ ſ ĳ", "ＡＢＣ １２ ㎏", "… “x” — ™", "\u200bx\u00ady", "Å Ω K"]


def test_text_comes_back_as_it_went_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    texts = [*TEXTS, *ODD, "  white\u3000space\tof \xa0 all kinds ", "ξ" + " long" * 2000]
    with caplog.at_level(logging.INFO):
        tokenizer = train_bpe(texts, BpeConfig(lang_dir=tmp_path, vocab_size=300))
    assert f"all {len(texts)} transcripts come back from the tokenizer as they are" in caplog.text
    ids = tokenizer.encode(texts)
    assert tokenizer.decode(ids) == [" ".join(text.split()) for text in texts]
    assert not any(tokenizer.unknown_id in one for one in ids)


@pytest.mark.parametrize("texts", [TEXTS, [text.lower() for text in TEXTS]])
def test_plain_letters_give_the_tokens_of_the_published_rule(
    texts: list[str], tmp_path: Path
) -> None:
    """Text without compatibility characters, as LibriSpeech's: sentencepiece's default agrees."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type="unigram",
        vocab_size=60,
        character_coverage=1.0,
        input_sentence_size=100_000_000,
        user_defined_symbols=["<blk>", "<sos/eos>"],
        unk_id=2,
        bos_id=-1,
        eos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    published = Tokenizer.from_bytes(model.getvalue())
    ours = train_bpe(texts, BpeConfig(lang_dir=tmp_path, vocab_size=60))
    assert (ours.pieces(), ours.scores()) == (published.pieces(), published.scores())
    assert ours.encode(texts) == published.encode(texts)


def test_what_does_not_come_back_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    texts = [*TEXTS, "SAY <unk> ▁ NOW", "SAY <blk>", "HALF \ud83d"]
    with caplog.at_level(logging.INFO):
        train_bpe(texts, BpeConfig(lang_dir=tmp_path, vocab_size=60))
    assert "1 transcripts hold <unk>, which is no text to a tokenizer" in caplog.text
    assert "1 transcripts hold <blk>" in caplog.text
    assert "1 transcripts hold ▁" in caplog.text
    assert "  'SAY <blk>' comes back as 'SAY'" in caplog.text
    assert "the tokenizer cannot write" in caplog.text
    assert "HALF \ufffd" in (tmp_path / "transcript_words.txt").read_text(encoding="utf-8")
