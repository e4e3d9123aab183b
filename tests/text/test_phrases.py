from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.mutated import EXAMPLES, mutated, read_or_refused
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
        (b"\xff\xfe", r"hot\.txt is not utf-8: line 1, column 1"),
        (b"NEW\0YORK\n", r"hot\.txt, line 1: there is a NUL byte"),
        (b"<blk>\n", "has no phrase that the model can write"),
    ],
)
def test_a_file_that_cannot_be_used(
    content: bytes, message: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    path = tmp_path / "hot.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_phrases(path, tokenizer)


def test_lines_end_with_line_feeds_alone_and_forms_are_composed(tmp_path: Path) -> None:
    tokenizer = train_bpe(["CAFÉ NOIR"] * 3, BpeConfig(lang_dir=tmp_path, vocab_size=20))
    path = tmp_path / "hot.txt"
    path.write_bytes("\ufeffCAFE\u0301\u2028NOIR :2\r\nNOIR\r\n".encode())
    phrases = read_phrases(path, tokenizer)
    assert tokenizer.decode(phrases.tokens) == ["CAFÉ NOIR", "NOIR"]
    assert phrases.scores == [2.0, 0.0]


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=mutated(b"NEW YORK :3.5\n\nOLD TOWN\nTOWN :-1\nNEW :0.25\n"))
def test_damage_is_read_or_refused_in_one_line(
    content: bytes, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    path = tmp_path / "hot.txt"
    path.write_bytes(content)
    read_or_refused(lambda: read_phrases(path, tokenizer))
