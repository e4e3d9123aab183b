"""Text files of any origin: decoded, in one Unicode form, written whole or not at all.

The encoding of text that is not UTF-8 is guessed for the message that refuses it.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from zipasr.base.errors import DataError, ResourceError, UserError
from zipasr.base.files import atomic_path, lack_of
from zipasr.base.progress import Progress

_BYTES_FOR_GUESS = 200_000
# Around the first difference of two readings of a word.
_SHOWN_LETTERS = 12
# What most files that are not UTF-8 are written in, by the languages that one meets.
_USUAL = ["cp1252", "cp1251", "cp1250", "gb18030", "big5", "shift_jis", "euc_kr", "utf_16"]
# Of Western and of Central Europe: the same letters in part, so frequencies hardly tell them apart.
_OF_EUROPE = ("cp1252", "cp1250")
# What each language that is written in one of the two has beyond ASCII.
_ALPHABETS = (
    "àâæçéèêëîïôùûüÿœ",  # French
    "äöüß",  # German
    "áéíñóúü¿¡ªº",  # Spanish
    "áâãàçéêíóôõúü",  # Portuguese
    "àèéìòù",  # Italian
    "àçèéíïòóúü·",  # Catalan
    "áèéëíïóöúü",  # Dutch
    "æøåé",  # Danish, Norwegian
    "åäöé",  # Swedish, Finnish
    "äõöüšž",  # Estonian
    "áðéíóúýþæö",  # Icelandic
    "ąćęłńóśźż",  # Polish
    "áčďéěíňóřšťúůýž",  # Czech
    "áäčďéíĺľňóôŕšťúýž",  # Slovak
    "áéíóöőúüű",  # Hungarian
    "čćđšž",  # Croatian, Slovene
    "ăâîşţ",  # Romanian
)


def likely_encodings(raw: bytes) -> list[str]:
    """Guess the encoding of bytes that are not UTF-8: the most likely one first, at least one.

    Of those that fit equally well, the one that is met most often comes first. Of cp1252 and
    cp1250 it is the one in which some language has most of the characters beyond ASCII.
    """
    import charset_normalizer  # takes as long as the recognition of a sentence

    sample = raw[:_BYTES_FOR_GUESS]
    for candidates in (_USUAL, None):
        matches = charset_normalizer.from_bytes(sample, cp_isolation=candidates)
        best = matches.best()
        if best is None:
            continue
        names = [
            name
            for one in matches
            if (one.chaos, one.coherence) == (best.chaos, best.coherence)
            for name in (one.encoding, *one.could_be_from_charset)
        ]
        names.sort(key=lambda name: _USUAL.index(name) if name in _USUAL else len(_USUAL))
        if names[0] in _OF_EUROPE:
            names = [*_of_europe(sample), *names]
        return [name.replace("_", "-") for name in dict.fromkeys(names)]
    return ["latin-1"]


def _of_europe(raw: bytes) -> list[str]:
    """Return those of cp1252 and cp1250 that have all of the bytes, the better one first."""
    fits = {}
    for name in _OF_EUROPE:
        try:
            counts = Counter(raw.decode(name).lower())
        except UnicodeDecodeError:
            continue
        fits[name] = max(sum(counts[letter] for letter in letters) for letters in _ALPHABETS)
    return sorted(fits, key=lambda name: -fits[name])


def differing_words(raw: bytes, encoding: str, other: str) -> tuple[str, str] | None:
    """Return the first word that two encodings read differently; ``None`` without any.

    Of a long one it is the part around the difference.
    """
    texts = (raw[:_BYTES_FOR_GUESS].decode(name, errors="replace") for name in (encoding, other))
    for pair in zip(*(text.split() for text in texts), strict=False):
        if pair[0] != pair[1]:
            letters = enumerate(zip(*pair, strict=False))
            at = next((place for place, (a, b) in letters if a != b), min(map(len, pair)))
            shown = slice(max(0, at - _SHOWN_LETTERS), at + _SHOWN_LETTERS)
            return pair[0][shown], pair[1][shown]
    return None


BOM = "byte-order marks removed"
CRLF = "files with Windows line ends"
NOT_COMPOSED = "files with decomposed characters, composed now (NFC)"

_SHOWN_BYTES = 6


def check_encoding(name: str) -> None:
    """Refuse the name of an encoding that Python does not know.

    Raises:
        UserError: no such encoding.
    """
    try:
        is_text = "a".encode(name).decode(name) == "a"
    except (LookupError, ValueError):  # no such name, or a code that is not for text
        is_text = False
    if not is_text:
        raise UserError(
            f"--encoding {name!r} is not the name of an encoding of text.",
            "try utf-8, cp1252 or gb18030.",
        )


def read_text(path: Path, encoding: str = "utf-8", notes: Counter[str] | None = None) -> str:
    """Return the text of a file in NFC, with plain line ends and without a byte-order mark.

    Args:
        path: of the file.
        encoding: of its bytes.
        notes: what had to be changed is counted here.

    Raises:
        DataError: bytes that are none of this encoding; the message names line, column and bytes.
        ResourceError: the file cannot be read.
    """
    try:
        raw = path.read_bytes()
    except OSError as problem:
        raise ResourceError(f"{path} cannot be read: {problem.strerror}.") from problem
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as problem:
        raise DataError(*encoding_problem(path, raw, problem)) from problem
    except UnicodeError as problem:
        raise DataError(
            f"{path} is not {encoding}: {problem}.", "give another --encoding."
        ) from problem
    return normalised_text(text, Counter() if notes is None else notes)


def normalised_text(text: str, notes: Counter[str]) -> str:
    """Return ``text`` in NFC, with plain line ends, without a byte-order mark.

    Args:
        text: as decoded.
        notes: what had to be changed is counted here.
    """
    if text.startswith("\ufeff"):
        notes[BOM] += 1
        text = text.removeprefix("\ufeff")
    if "\r" in text:
        notes[CRLF] += 1
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    composed = unicodedata.normalize("NFC", text)
    if composed != text:
        notes[NOT_COMPOSED] += 1
    return composed


def read_lines(path: Path, name: str = "", fix: str = "convert the file to UTF-8.") -> list[str]:
    """Return the lines of a UTF-8 file as they are, without a byte-order mark and line ends.

    Line feeds end lines, with or without a carriage return; other characters, such as a Unicode
    line separator, are part of a line.

    Args:
        path: of the file.
        name: what messages call it; by default its path.
        fix: what a message proposes for a file that is not text.

    Raises:
        DataError: it is no file, or no UTF-8 text; the message names the line.
    """
    name = name or str(path)
    if not path.is_file():
        raise DataError(f"{name} {lack_of(path)}.", "give a text file.")
    try:
        raw = path.read_bytes()
    except OSError as problem:
        raise ResourceError(f"{name} cannot be read: {problem.strerror}.") from problem
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        what, _ = encoding_problem(path, raw, problem)
        raise DataError(what.replace(str(path), name, 1), fix) from problem
    if "\0" in text:
        number = text[: text.index("\0")].count("\n") + 1
        raise DataError(f"{name}, line {number}: there is a NUL byte.", fix)
    return [line.removesuffix("\r") for line in text.split("\n")]


def fields_of(line: str) -> list[str]:
    """Split a line at blanks and tabs; other white space is part of a field."""
    return [part for part in line.replace("\t", " ").split(" ") if part]


def encoding_problem(path: Path, raw: bytes, problem: UnicodeDecodeError) -> tuple[str, str]:
    """Return what is wrong with the bytes of a file and what to do, for an error message."""
    before = raw[: problem.start]
    line = before.count(b"\n") + 1
    start = before.rfind(b"\n") + 1
    column = len(before[start:].decode(problem.encoding, errors="replace")) + 1
    shown = raw[problem.start : problem.start + _SHOWN_BYTES].hex(" ").upper()
    likely, *others = likely_encodings(raw)
    looks, choice = likely, likely
    for other in others:
        if words := differing_words(raw, likely, other):
            looks = f"{likely} or {other}: {words[0]!r} as {likely}, {words[1]!r} as {other}"
            choice = f"{likely}, or {other} if that word is right"
            break
    what = (
        f"{path} is not {problem.encoding}: line {line}, column {column}, bytes {shown}; "
        f"it looks like {looks}."
    )
    return what, f"give --encoding {choice}, or convert the file to UTF-8."


_LINES_PER_STEP = 100_000


def write_lines(path: Path, texts: Iterable[str]) -> int:
    """Write the texts that are not empty and return how many there are.

    Args:
        path: the file.
        texts: may be more than memory holds.

    Raises:
        DataError: all texts are empty.
    """
    written = 0
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8") as out,
        Progress(f"lines of {path.name}", None) as progress,
    ):
        for text in texts:
            line = " ".join(text.split())
            if line:
                out.write(f"{line}\n")
                written += 1
                if written % _LINES_PER_STEP == 0:
                    progress.step(count=_LINES_PER_STEP)
        out.flush()
        if not written:
            raise DataError(f"there is no text for {path}.", "look at the transcripts.")
    return written
