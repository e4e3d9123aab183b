"""The files of words in a language folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.mutated import EXAMPLES, mutated, read_or_refused
from tests.text.test_tokenizer import TEXTS
from zipasr.base.errors import DataError
from zipasr.text.bpe import train_bpe
from zipasr.text.config import BpeConfig
from zipasr.text.lexicon import (
    disambiguated,
    lang_files,
    lexicon_text,
    read_lexicon,
    spell,
    words_text,
)
from zipasr.text.tokenizer import Tokenizer, read_tokens

WORDS = sorted({word for text in TEXTS for word in text.split()})


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder: Path = tmp_path_factory.mktemp("lang")
    return train_bpe(TEXTS, BpeConfig(lang_dir=folder, vocab_size=60))


def test_the_table_of_words() -> None:
    assert words_text(["CAT", "A", "CAT", "<s>"]).splitlines() == [
        "<eps> 0",
        "!SIL 1",
        "<SPOKEN_NOISE> 2",
        "<UNK> 3",
        "A 4",
        "CAT 5",
        "#0 6",
        "<s> 7",
        "</s> 8",
    ]


def test_every_word_is_spelt_as_the_tokenizer_spells_it(tokenizer: Tokenizer) -> None:
    spellings = spell([*WORDS, "!SIL", "<UNK>", "#0"], tokenizer)
    assert [word for word, _ in spellings] == [*WORDS, "<UNK>"]
    for word, pieces in spellings[:-1]:
        assert "".join(pieces) == f"▁{word}"
        assert set(pieces) <= set(tokenizer.pieces())
    assert spellings[-1] == ("<UNK>", ["▁", "<unk>"])


def test_a_character_that_is_not_known_shows(tokenizer: Tokenizer) -> None:
    (word, pieces), _ = spell(["Ж"], tokenizer)
    assert word == "Ж"
    assert pieces[-1] == "<unk>"


def test_the_files_name_each_word_on_a_line(tokenizer: Tokenizer) -> None:
    files = lang_files(WORDS, tokenizer)
    assert sorted(files) == ["lexicon.txt", "lexicon_disambig.txt", "tokens.txt", "words.txt"]
    lines = files["lexicon.txt"].splitlines()
    assert len(lines) == len(WORDS) + 1
    assert lines[-1] == "<UNK> ▁ <unk>"
    for plain, marked in zip(lines, files["lexicon_disambig.txt"].splitlines(), strict=True):
        assert marked.split("#")[0].strip() == plain


@pytest.mark.parametrize(
    ("words", "highest"),
    [
        # No word is the beginning of another: #0 alone, which back-off arcs of a grammar need.
        ([], 0),
        # None of these characters is known, so that their words and <UNK> have the same pieces.
        (["Ж", "Д", "Ю"], 4),
    ],
)
def test_disambiguation_symbols_follow_the_tokens(
    words: list[str], highest: int, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    files = lang_files(words, tokenizer)
    used = {piece for line in files["lexicon_disambig.txt"].splitlines() for piece in line.split()}
    assert {piece for piece in used if piece.startswith("#")} == {
        f"#{number}" for number in range(1, highest + 1)
    }
    size = tokenizer.vocab_size
    symbols = [f"#{number} {size + number}" for number in range(highest + 1)]
    lines = files["tokens.txt"].splitlines()
    assert lines[:size] == [f"{piece} {i}" for i, piece in enumerate(tokenizer.pieces())]
    assert lines[size:] == symbols
    # The symbols do not count as tokens; a table without them is the same table.
    for name, content in (("with", lines), ("without", lines[:size])):
        (tmp_path / name).write_text("\n".join(content), encoding="utf-8")
        assert read_tokens(tmp_path / name) == tokenizer.pieces()


def test_homophones_and_beginnings_are_marked() -> None:
    rows = [("A", ["x"]), ("B", ["x", "y"]), ("C", ["x", "y"]), ("D", ["z"]), ("E", ["x"])]
    assert lexicon_text(disambiguated(rows)) == "A x #1\nB x y #1\nC x y #2\nD z\nE x #2\n"


@given(st.lists(st.lists(st.sampled_from("xyz"), min_size=1, max_size=4), max_size=12))
def test_no_spelling_begins_another_afterwards(sequences: list[list[str]]) -> None:
    rows = [(f"W{number}", pieces) for number, pieces in enumerate(sequences)]
    marked = [tuple(pieces) for _, pieces in disambiguated(rows)]
    assert len(set(marked)) == len(marked)
    assert not any(one != other and other[: len(one)] == one for one in marked for other in marked)
    assert [tuple(p for p in pieces if p[0] != "#") for pieces in marked] == [
        tuple(pieces) for pieces in sequences
    ]


@pytest.fixture
def lang_dir(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    for name, content in lang_files([*WORDS, "ЖЖ"], tokenizer).items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    return tmp_path


def test_the_words_are_read_with_their_tokens(tokenizer: Tokenizer, lang_dir: Path) -> None:
    read = read_lexicon(lang_dir, tokenizer)
    assert read == list(zip(WORDS, tokenizer.encode(WORDS), strict=True))
    # Without a lexicon the tokenizer spells; without a table there is nothing to compare.
    (lang_dir / "lexicon.txt").unlink()
    (lang_dir / "tokens.txt").unlink()
    assert read_lexicon(lang_dir, tokenizer) == read


def test_a_word_may_be_spelt_twice_and_lines_be_empty(tokenizer: Tokenizer, lang_dir: Path) -> None:
    first, second = tokenizer.pieces()[3:5]
    (lang_dir / "lexicon.txt").write_text(f"X {first}\n\nX {second} {first}\n<UNK> {second}\n")
    assert read_lexicon(lang_dir, tokenizer) == [("X", [3]), ("X", [4, 3])]


def test_files_of_other_systems_are_read_alike(tokenizer: Tokenizer, lang_dir: Path) -> None:
    read = read_lexicon(lang_dir, tokenizer)
    for path in lang_dir.iterdir():
        text = path.read_text(encoding="utf-8")
        path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", " \r\n").replace(" ", "\t").encode())
    assert read_lexicon(lang_dir, tokenizer) == read
    # Only blanks and tabs separate: these are words of two letters and a mark between them.
    (lang_dir / "lexicon.txt").write_text("".join(f"A{c}B ▁\n" for c in "\xa0\u2028\x85\u3000"))
    assert [word for word, _ in read_lexicon(lang_dir, tokenizer)] == [
        f"A{char}B" for char in "\xa0\u2028\x85\u3000"
    ]
    # A word of which no token is left cannot be recognised.
    (lang_dir / "lexicon.txt").unlink()
    (lang_dir / "words.txt").write_text("<eps> 0\n<blk> 1\nTURN 2\n\u3000 3\n")
    assert [word for word, _ in read_lexicon(lang_dir, tokenizer)] == ["TURN"]


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from(["lexicon.txt", "words.txt", "tokens.txt"]))
def test_damage_is_read_or_refused_in_one_line(
    data: st.DataObject, name: str, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    for file, content in lang_files(WORDS[:6], tokenizer).items():
        (folder / file).write_text(content, encoding="utf-8")
    (folder / name).write_bytes(data.draw(mutated((folder / name).read_bytes())))
    if name == "words.txt":
        (folder / "lexicon.txt").unlink()
    read_or_refused(lambda: read_lexicon(folder, tokenizer))
    read_or_refused(lambda: read_tokens(folder / "tokens.txt"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("lexicon.txt", "A ▁\n\nB QQQ\n", r"lexicon.txt:3: 'QQQ' is no token of the model"),
        ("lexicon.txt", "A\n", r"lexicon.txt:1: the word 'A' has no tokens"),
        ("lexicon.txt", "<UNK> ▁ <unk>\n", "has no words"),
        ("lexicon.txt", b"\xff\xfe", "lexicon.txt is not utf-8: line 1, column 1, bytes FF FE"),
        ("lexicon.txt", b"A \0\n", "lexicon.txt, line 1: there is a NUL byte"),
        ("lexicon.txt", "A ▁\nB <blk> ▁\n", r"lexicon.txt:2: the word 'B' is spelt with a token"),
        ("lexicon.txt", "A 0.5 ▁\n", r"lexicon.txt:1: '0.5' is no token of the model"),
        ("tokens.txt", "<blk> ²\n", r"tokens.txt:1: expected a token and its id"),
        ("tokens.txt", f"<blk> {'9' * 5000}\n", r"tokens.txt:1: expected a token and its id"),
        ("tokens.txt", "<blk> 0\n<sos/eos> 1\n<unk> 2\nZZ 3\n", r"tokens.txt:4: token 3 is 'ZZ'"),
        ("tokens.txt", "<blk> 0\nZZ 999\n", r"tokens.txt:2: token 999, but the model has"),
        ("tokens.txt", "<blk>\n", r"tokens.txt:1: expected a token and its id"),
    ],
)
def test_a_wrong_file_is_named_with_its_line(
    name: str, content: str | bytes, message: str, tokenizer: Tokenizer, lang_dir: Path
) -> None:
    (lang_dir / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        read_lexicon(lang_dir, tokenizer)


def test_a_folder_without_words_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no lexicon.txt in .* Fix: make it with"):
        read_lexicon(tmp_path, tokenizer)
