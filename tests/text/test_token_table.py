"""tokens.txt: what is read, what is refused, and where two tables differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from zipasr.base.errors import DataError
from zipasr.text.tokenizer import first_difference, read_tokens


def test_a_table_is_read_in_the_order_of_ids_without_the_symbols_of_word_graphs(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tokens.txt"
    # A line separator that is no line break of the file, and a hash that is a piece.
    path.write_text("▁A 3\n<blk> 0\n<sos/eos>\t1\n<unk> 2\n#x 4\n\x85 5\n#0 6\n#1 7\n\n", "utf-8")
    table = ["<blk>", "<sos/eos>", "<unk>", "▁A", "#x", "\x85"]
    assert read_tokens(path) == table
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b" \r\n"))
    assert read_tokens(path) == table


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<blk> 0\nA\n", "line 2: 'A' is no piece with an id of its own"),
        ("<blk> 0\nA 1\0\n", "line 2: there is a NUL byte"),
        (f"<blk> 0\nA {'1' * 5000}\n", "line 2: 'A 1"),
        ("<blk> 0\nA B 1\n", "line 2: 'A B 1' is no piece"),
        ("<blk> 0\nA 0\n", "line 2: 'A 0' is no piece"),
        ("<blk> 0\nA 2\n", "has no id 1"),
        ("A 0\n<blk> 1\n", "id 0 is A, not <blk>"),
        ("", "id 0 is missing, not <blk>"),
    ],
)
def test_what_is_no_table_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "tokens.txt"
    path.write_text(text)
    with pytest.raises(DataError) as refusal:
        read_tokens(path)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"\xff\xfe\x00")
    for name, message in (
        ("nosuch", "there is no --tokens"),
        ("junk", r"--tokens .*junk is not utf-8: line 1, column 1, bytes FF FE"),
        ("", r"--tokens .* is a folder"),
    ):
        with pytest.raises(DataError, match=message):
            read_tokens(tmp_path / name)


def test_the_first_difference_is_named() -> None:
    table = ["<blk>", "<sos/eos>", "<unk>", "A"]
    assert first_difference(table, table) == ""
    assert first_difference([*table[:3], "B"], table) == "id 3 is 'B', not 'A'"
    assert first_difference([*table, "B"], table) == "it has 5 tokens, not 4"
