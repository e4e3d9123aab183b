"""The words of a language folder, and how the tokenizer spells each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from zipasr.text.tokenizer import Tokenizer

EPSILON = "<eps>"
UNKNOWN_WORD = "<UNK>"
# Words of the published phone lexicon that nobody says.
_NOT_SPOKEN = ("!SIL", "<SPOKEN_NOISE>", UNKNOWN_WORD)
_AFTER_THE_WORDS = ("#0", "<s>", "</s>")
_UNKNOWN_PIECES = ("▁", "<unk>")

Spelling = tuple[str, Sequence[str]]


def words_text(words: Iterable[str]) -> str:
    """Format ``words.txt``: lines ``word id``, ``<eps>`` 0, the words in order, ``#0 <s> </s>``."""
    ordered = sorted({*words, *_NOT_SPOKEN} - {EPSILON, *_AFTER_THE_WORDS})
    table = [EPSILON, *ordered, *_AFTER_THE_WORDS]
    return "".join(f"{word} {i}\n" for i, word in enumerate(table))


def spell(words: Iterable[str], tokenizer: Tokenizer) -> list[Spelling]:
    """Return each word with its pieces, in order; last ``<UNK>``, as ``▁ <unk>``.

    A character that the tokenizer does not know shows as ``<unk>``.
    """
    ordered = sorted({*words} - {EPSILON, *_NOT_SPOKEN, *_AFTER_THE_WORDS})
    names = tokenizer.pieces()
    spelt = tokenizer.encode(ordered)
    rows: list[Spelling] = [
        (word, [names[i] for i in ids]) for word, ids in zip(ordered, spelt, strict=True)
    ]
    return [*rows, (UNKNOWN_WORD, _UNKNOWN_PIECES)]


def lexicon_text(spellings: Sequence[Spelling]) -> str:
    """Format ``lexicon.txt``: lines ``WORD piece piece``."""
    return "".join(f"{word} {' '.join(pieces)}\n" for word, pieces in spellings)


def disambiguated(spellings: Sequence[Spelling]) -> list[Spelling]:
    """Return the spellings so that none is the same as, or begins, another.

    Where one is or does, ``#1``, ``#2``, ... is put behind it, counted for each sequence of pieces.
    """
    sequences = Counter(tuple(pieces) for _, pieces in spellings)
    beginnings = {sequence[:length] for sequence in sequences for length in range(1, len(sequence))}
    used: Counter[tuple[str, ...]] = Counter()
    rows: list[Spelling] = []
    for word, pieces in spellings:
        sequence = tuple(pieces)
        if sequences[sequence] > 1 or sequence in beginnings:
            used[sequence] += 1
            rows.append((word, [*pieces, f"#{used[sequence]}"]))
        else:
            rows.append((word, pieces))
    return rows


def lang_files(words: Iterable[str], tokenizer: Tokenizer) -> Mapping[str, str]:
    """Return the files of a language folder that speak of words, name -> content."""
    words = set(words)
    spellings = spell(words, tokenizer)
    return {
        "words.txt": words_text(words),
        "lexicon.txt": lexicon_text(spellings),
        "lexicon_disambig.txt": lexicon_text(disambiguated(spellings)),
    }
