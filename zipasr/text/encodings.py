"""Guesses at the encoding of text that is not UTF-8, and a word that tells two of them apart."""

from __future__ import annotations

from collections import Counter

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
