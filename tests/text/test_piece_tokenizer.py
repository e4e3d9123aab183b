"""A table of tokens alone writes the text that sentencepiece writes."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from zipasr.base.errors import DataError
from zipasr.text.tokenizer import PieceTokenizer, Tokenizer, read_tokens, tokens_text

TEXTS = ["TURN THE KITCHEN LIGHT ON", "DON'T OPEN THE WINDOW", "ÜBER 你好 ÖL"] * 4


def trained(has_bytes: bool) -> Tokenizer:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=model,
        vocab_size=310 if has_bytes else 50,
        character_coverage=1.0,
        user_defined_symbols=["<blk>", "<sos/eos>"],
        unk_id=2,
        bos_id=-1,
        eos_id=-1,
        hard_vocab_limit=False,
        byte_fallback=has_bytes,
        minloglevel=2,
    )
    return Tokenizer(model.getvalue())


WITH_BYTES, WITHOUT = trained(has_bytes=True), trained(has_bytes=False)


@pytest.mark.parametrize("whole", [WITH_BYTES, WITHOUT], ids=["bytes", "no bytes"])
def test_ids_become_the_text_of_the_model(whole: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokens.txt"
    path.write_text(tokens_text(whole.pieces()), encoding="utf-8")
    table = PieceTokenizer(read_tokens(path))

    @given(st.lists(st.integers(0, whole.vocab_size - 1), max_size=12))
    def same(ids: list[int]) -> None:
        assert table.decode([ids]) == whole.decode([ids])

    same()
    assert table.vocab_size == whole.vocab_size
    assert table.table_hash() == whole.table_hash()


def test_bytes_that_make_up_characters_are_joined() -> None:
    (ids,) = WITH_BYTES.encode(["ÜBER Ж LIGHT"])
    table = PieceTokenizer(WITH_BYTES.pieces())
    assert any(table.pieces()[i].startswith("<0x") for i in ids)
    assert table.decode([ids]) == ["ÜBER Ж LIGHT"]


def test_a_table_cuts_no_text() -> None:
    table = PieceTokenizer(WITHOUT.pieces())
    assert table.encode([]) == []
    with pytest.raises(DataError, match="give --bpe-model as well"):
        table.encode(["LIGHT"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<blk> 0\n▁A x\n", "line 2: '▁A x' is no piece with an id of its own"),
        ("<blk> 0\n▁A 0\n", "line 2"),
        ("<blk> 0\n▁A 2\n", "has no id 1"),
        ("▁A 0\n", "id 0 is ▁A, not <blk>"),
    ],
)
def test_a_damaged_table_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "tokens.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_tokens(path)
