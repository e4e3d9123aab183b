import io
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from zipasr.base.errors import DataError
from zipasr.text.bpe import train_bpe
from zipasr.text.config import BpeConfig
from zipasr.text.tokenizer import Tokenizer

TEXTS = [
    "TURN THE KITCHEN LIGHT ON",
    "DON'T OPEN THE WINDOW IN THE KITCHEN",
    "WHAT IS THE WEATHER LIKE TODAY",
    "QUICK BROWN FOXES JUMP OVER LAZY DOGS",
    "SEVENTEEN MINUTES PAST FIVE",
] * 4
ALPHABET = sorted({char for text in TEXTS for char in text if char != " "})


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    lang_dir = tmp_path_factory.mktemp("lang")
    return train_bpe(TEXTS, BpeConfig(lang_dir=lang_dir, vocab_size=60))


words = st.text(alphabet=ALPHABET, min_size=1, max_size=8)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(words, max_size=6).map(" ".join), max_size=4))
def test_decode_gives_back_what_was_encoded(tokenizer: Tokenizer, texts: list[str]) -> None:
    ids = tokenizer.encode(texts)
    assert tokenizer.decode(ids) == texts
    assert all(3 <= i < tokenizer.vocab_size for sequence in ids for i in sequence)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=20))
def test_no_text_becomes_blank(tokenizer: Tokenizer, text: str) -> None:
    assert not {0, 1} & set(tokenizer.encode([text])[0])


def test_blank_and_sentence_ends_are_not_text(tokenizer: Tokenizer) -> None:
    [ids] = tokenizer.encode(["TURN THE <blk> LIGHT <sos/eos> ON"])
    assert tokenizer.decode([[0, *ids, 1]]) == ["TURN THE LIGHT ON"]


def test_unknown_characters_have_an_id_of_their_own(tokenizer: Tokenizer) -> None:
    [ids] = tokenizer.encode(["TURN Ж ON"])
    assert tokenizer.unknown_id in ids
    assert tokenizer.decode([ids]) == ["TURN ⁇ ON"]


def test_empty_input(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode([]) == []
    assert tokenizer.encode([""]) == [[]]
    assert tokenizer.decode([[]]) == [""]


def test_blank_is_zero_and_the_bytes_are_the_file(tokenizer: Tokenizer) -> None:
    copy = Tokenizer.from_bytes(tokenizer.model_bytes)
    assert copy.blank_id == 0
    assert copy.vocab_size == tokenizer.vocab_size
    assert copy.encode(TEXTS) == tokenizer.encode(TEXTS)


def test_missing_file_says_which_stage_to_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no tokenizer at .*bpe.model.*--stage 3"):
        Tokenizer.from_file(tmp_path / "bpe.model")


@pytest.mark.parametrize("junk", [b"", b"<html>not found</html>", bytes(64)])
def test_junk_is_refused_in_one_line(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "bpe.model"
    path.write_bytes(junk)
    with pytest.raises(DataError, match=r"bpe\.model is (empty|not a sentencepiece)") as refusal:
        Tokenizer.from_file(path)
    assert "\n" not in str(refusal.value)


def test_model_without_blank_at_zero_is_refused() -> None:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=model,
        vocab_size=40,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    with pytest.raises(DataError, match="its id 0 is '<unk>' where '<blk>' is needed"):
        Tokenizer.from_bytes(model.getvalue())
