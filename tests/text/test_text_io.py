from collections import Counter
from pathlib import Path

import pytest

from zipasr.base.errors import DataError, UserError
from zipasr.text.text_io import (
    BOM,
    CRLF,
    NOT_COMPOSED,
    check_encoding,
    differing_words,
    fields_of,
    read_lines,
    read_text,
)

GERMAN = "Grüße aus Köln, schöne Straße\nÜbermorgen hören wir wieder größere Vögel\n"
FRENCH = "c'était très beau et ça nous a plu, nous sommes allés près de la forêt à Noël\n" * 3
SPANISH = "¿cómo está usted? mañana iré al médico, después comeremos en casa\n" * 3
POLISH = "chciałbym kupić świeży chleb, żółty ser i trochę masła, proszę pani\n" * 3
CZECH = "učitel řekl dětem, že zítra nebude škola, půjdeme se projít k řece\n" * 3
HUNGARIAN = "az öreg tanár szívesen mesél róluk, mert ő is szereti a történeteket\n" * 3
RUSSIAN = "съешь же ещё этих мягких французских булок да выпей чаю\n" * 3


def test_the_place_and_the_likely_encoding_are_named(tmp_path: Path) -> None:
    path = tmp_path / "text.tsv"
    path.write_bytes(b"id\ttext\na\tfine\nb\tcaf\xe9 cr\xe8me br\xfbl\xe9e tr\xe8s f\xeate\n")
    with pytest.raises(DataError) as said:
        read_text(path)
    assert f"{path} is not utf-8: line 3, column 6, bytes E9" in said.value.what
    assert "--encoding cp1252" in said.value.fix
    assert read_text(path, "cp1252").endswith("fête\n")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (GERMAN, "cp1252"),
        (GERMAN, "latin-1"),
        (FRENCH, "cp1252"),
        (SPANISH, "latin-1"),
        (POLISH, "cp1250"),
        (CZECH, "cp1250"),
        (HUNGARIAN, "cp1250"),
        (RUSSIAN, "cp1251"),
        (GERMAN, "utf-16"),
    ],
)
def test_the_guess_reads_the_text(text: str, encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode(encoding))
    with pytest.raises(DataError) as said:
        read_text(path)
    guess = said.value.fix.split()[2].rstrip(",")
    assert read_text(path, guess) == text


@pytest.mark.parametrize(
    ("text", "likely", "other", "words"),
    [
        (FRENCH, "cp1252", "cp1250", "'très' as cp1252, 'trčs' as cp1250"),
        (SPANISH, "cp1252", "cp1250", "'¿cómo' as cp1252, 'żcómo' as cp1250"),
        (POLISH, "cp1250", "cp1252", "'chciałbym' as cp1250, 'chcia³bym' as cp1252"),
        (CZECH, "cp1250", "cp1252", "'učitel' as cp1250, 'uèitel' as cp1252"),
        (HUNGARIAN, "cp1250", "cp1252", "'ő' as cp1250, 'õ' as cp1252"),
    ],
)
def test_a_word_tells_the_likely_encodings_apart(
    text: str, likely: str, other: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode(likely))
    with pytest.raises(DataError) as said:
        read_text(path)
    assert said.value.what.endswith(f"; it looks like {likely} or {other}: {words}.")
    assert said.value.fix == (
        f"give --encoding {likely}, or {other} if that word is right, or convert the file to UTF-8."
    )


def test_the_part_of_a_long_word_that_differs_is_shown() -> None:
    raw = b"same " + b"a" * 99 + b"\xe8" + b"b" * 99
    assert differing_words(raw, "cp1252", "cp1250") == (
        f"{'a' * 12}è{'b' * 11}",
        f"{'a' * 12}č{'b' * 11}",
    )
    assert differing_words(b"same", "cp1252", "cp1250") is None


def test_encodings_that_give_the_same_text_are_one(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(GERMAN.encode("cp1250"))
    with pytest.raises(
        DataError, match=r"it looks like cp1252\. Fix: give --encoding cp1252, or con"
    ):
        read_text(path)


def test_small_things_are_put_right_and_counted(tmp_path: Path) -> None:
    path, notes = tmp_path / "text.txt", Counter[str]()
    path.write_bytes("\ufeffcafe\u0301\r\nend\r\n".encode())
    assert read_text(path, notes=notes) == "caf\u00e9\nend\n"
    assert notes == {BOM: 1, CRLF: 1, NOT_COMPOSED: 1}
    path.write_text("plain\n")
    read_text(path, notes=notes)
    assert notes.total() == 3


def test_an_encoding_that_does_not_exist_is_refused() -> None:
    check_encoding("latin-1")
    for name in ("latin-x", "rot13", "hex", "undefined", "", "a\0b", "zlib"):
        with pytest.raises(UserError, match=r"--encoding '.*' is not the name of an encoding of"):
            check_encoding(name)


def test_lines_end_with_line_feeds_alone(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes("\ufeffa\u2028b\x85c\x0bd\r\n\re\xa0f\n".encode())
    assert read_lines(path) == ["a\u2028b\x85c\x0bd", "\re\xa0f", ""]
    assert fields_of(" a\t b\xa0c \t") == ["a", "b\xa0c"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\nb\0\n", "FILE, line 2: there is a NUL byte"),
        ("a\n".encode("utf-16"), "FILE is not utf-8: line 1, column 1, bytes FF FE"),
        (b"fine\ncaf\xe9\n", "FILE is not utf-8: line 2, column 4, bytes E9"),
        (None, "FILE does not exist"),
    ],
)
def test_what_is_no_text_is_one_line(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as refusal:
        read_lines(path, "FILE")
    assert "\n" not in str(refusal.value)
    with pytest.raises(DataError, match="FOLDER is a folder"):
        read_lines(tmp_path, "FOLDER")
