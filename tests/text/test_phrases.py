from pathlib import Path

import pytest

from zipasr.base.errors import DataError
from zipasr.text.bpe import train_bpe
from zipasr.text.config import BpeConfig
from zipasr.text.phrases import read_phrases
from zipasr.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("lang")
    return train_bpe(["NEW YORK", "OLD TOWN"] * 3, BpeConfig(lang_dir=folder, vocab_size=20))


def test_phrases_with_and_without_a_score(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "hot.txt"
    path.write_text("NEW  YORK :3.5\n\n OLD TOWN\nTOWN  :-1 \n", encoding="utf-8-sig")
    phrases = read_phrases(path, tokenizer)
    assert tokenizer.decode(phrases.tokens) == ["NEW YORK", "OLD TOWN", "TOWN"]
    assert phrases.scores == [3.5, 0.0, -1.0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"NEW :x\n", r"hot\.txt:1: the score 'x' is not a number"),
        (b"NEW :inf\n", r"hot\.txt:1: the score 'inf' is not a number"),
        (b"\n", "has no phrase that the model can write"),
        ("ZÜRICH\n".encode(), "has no phrase that the model can write"),
        (b"\xff\xfe", "is not UTF-8 text"),
    ],
)
def test_a_file_that_cannot_be_used(
    content: bytes, message: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    path = tmp_path / "hot.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_phrases(path, tokenizer)
