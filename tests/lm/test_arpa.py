"""ARPA files of any origin: read to the right probabilities, or refused with the line."""

import gzip
import logging
import re
from itertools import product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.mutated import EXAMPLES, mutated, read_or_refused
from zipasr.base.errors import DataError
from zipasr.lm.ngram import END, LN10, START, UNKNOWN, NgramLm
from zipasr.lm.ngram_file import open_ngrams
from zipasr.lm.ngram_table import ngram_table

from .backoff_graph import WORDS, models
from .dictionary import backoffs_of, log_probs_of

GOOD = """\\data\\
ngram 1=6
ngram 2=3

\\1-grams:
-1.0\t</s>
-99\t<s>\t-0.3
-1.2\t<unk>
-0.7\tWAIT\t-0.2
-0.9\tUNTIL\t-0.2
-1.1\tTEN

\\2-grams:
-0.3\t<s> WAIT
-0.4\tWAIT UNTIL
-0.5\tUNTIL TEN

\\end\\
"""
# <s> WAIT, WAIT UNTIL, UNTIL TEN, then </s> after TEN, which has no weight.
WAIT_UNTIL_TEN = -0.3 - 0.4 - 0.5 - 1.0


def read(folder: Path, content: str | bytes, name: str = "g.arpa") -> NgramLm:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return open_ngrams(path)


def total(model: NgramLm) -> float:
    return model.sentence(["WAIT", "UNTIL", "TEN"]) / LN10


READ_RIGHT = {
    "as it is": GOOD,
    "text before the data": "ngram model made by hand\n\\1-grams:\n\n" + GOOD,
    "windows": GOOD.replace("\n", "\r\n"),
    "byte-order mark": b"\xef\xbb\xbf" + GOOD.encode(),
    "blanks": GOOD.replace("\t", "  ").replace("ngram 1=6", "ngram  1 =   6"),
    "blanks at ends of lines": GOOD.replace("\n", " \t\n"),
    "capitals": GOOD.replace("s>", "S>").replace("unk", "UNK").replace("data", "DATA"),
    "gzipped": gzip.compress(GOOD.encode()),
    "an empty length": GOOD.replace("2=3", "2=3\nngram 3=0"),
    "an empty section": GOOD.replace("2=3", "2=3\nngram 3=0").replace(
        "\\end", "\\3-grams:\n\n\\end"
    ),
    "no line end": GOOD.rstrip("\n"),
    "more behind it": GOOD + "\nmade by hand\n",
    "positive weight": GOOD.replace("TEN\n\n", "TEN\t0.0\n\n"),
    "rounded": GOOD.replace("-1.1", "0.00000005"),
    "minus infinity": GOOD.replace("-99\t", "-inf\t"),
    "a weight on the longest": GOOD.replace("UNTIL TEN", "UNTIL TEN\t-0.7"),
}


@pytest.mark.parametrize("case", READ_RIGHT)
def test_harmless_oddities_are_read(case, tmp_path):
    model = read(tmp_path, READ_RIGHT[case])
    assert total(model) == pytest.approx(WAIT_UNTIL_TEN)
    assert model.words == {START, END, UNKNOWN, "WAIT", "UNTIL", "TEN"}
    assert model.score((), START) / LN10 == pytest.approx(-99)
    # An unknown word after WAIT: its weight, then <unk>.
    assert model.score(("WAIT",), "NOBODY") / LN10 == pytest.approx(-0.2 - 1.2)


def test_marks_in_capitals_are_told(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        read(tmp_path, GOOD)
        assert not caplog.messages
        read(tmp_path, READ_RIGHT["capitals"])
    assert caplog.messages == [f"{tmp_path}/g.arpa: read <S> as <s>, </S> as </s>, <UNK> as <unk>"]
    # Where the usual mark is there too, the other one is a word.
    both = read(tmp_path, GOOD.replace("TEN", "<S>"))
    assert {"<s>", "<S>"} < both.words


def test_minus_infinity_is_told(tmp_path, caplog):
    model = read(tmp_path, GOOD.replace("-1.1", "-1e999").replace("-0.9", "-inf"))
    assert log_probs_of(model)["TEN",] == log_probs_of(model)["UNTIL",] == -99
    assert caplog.messages == [
        f"{tmp_path}/g.arpa:10: minus infinity is read as -99, as in 2 places"
    ]


def test_words_of_longer_ngrams_alone_are_told_and_unknown(tmp_path, caplog):
    model = read(tmp_path, GOOD.replace("UNTIL TEN", "UNTIL NOON"))
    assert caplog.messages == [
        f"{tmp_path}/g.arpa:16: 'NOON' is not among the 1-grams; 1 n-grams with such words are not "
        "used"
    ]
    assert model.score(("UNTIL",), "NOON") / LN10 == pytest.approx(-0.2 - 1.2)


SPACES = ["\xa0", "\u3000", "\u2028", "\x85", "\x0b", "\x0c", "\x1c", "\u200b", "\ufeff"]


@pytest.mark.parametrize("space", SPACES, ids=ascii)
def test_other_white_space_is_part_of_a_word(space, tmp_path):
    model = read(tmp_path, GOOD.replace("TEN", f"TEN{space}TWO"))
    assert f"TEN{space}TWO" in model.words
    sentence = ["WAIT", "UNTIL", f"TEN{space}TWO"]
    assert model.sentence(sentence) / LN10 == pytest.approx(WAIT_UNTIL_TEN)


REFUSED = {
    "nothing": ("", "g.arpa is no ARPA file: it has no line"),
    "something else": ("hello\n", "g.arpa is no ARPA file: it has no line"),
    "no counts": (GOOD.replace("ngram 1=6\nngram 2=3\n", ""), ":3: there are no counts"),
    "a word as a number": (GOOD.replace("\\1-", "\\one-"), r":5: '\\\\one-grams:' stands where"),
    "a length too many": (GOOD.replace("\\2-", "\\3-"), r":13: .* stands where \\2-grams:"),
    "a length twice": (GOOD.replace("\\2-", "\\1-"), r":13: .* stands where \\2-grams:"),
    "an end too early": (GOOD.replace("\\2-grams:", "\\end\\"), r":13: .* where \\2-grams:"),
    "a count of words": (GOOD.replace("1=6", "1=six"), ":2: 'ngram 1=six' is not of the form"),
    "a huge count": (GOOD.replace("1=6", f"1={'9' * 5000}"), ":2: 'ngram 1=9+[.]{3}' is not of"),
    "a count twice": (GOOD.replace("2=3", "1=6"), ":3: the count of 2-grams is expected"),
    "a count left out": (GOOD.replace("2=3", "3=3"), ":3: the count of 2-grams is expected"),
    "too few": (GOOD.replace("2=3", "2=4"), r":3: 4 2-grams are promised, but it has 3"),
    "too many": (GOOD.replace("1=6", "1=5"), r":2: 5 1-grams are promised, but it has 6"),
    "twice": (
        GOOD.replace("-0.3\t<s> WAIT\n", "-0.3\t<s> WAIT\n" * 2),
        ":15: the 2-gram '<s> WAIT' is there twice",
    ),
    "nan": (GOOD.replace("-0.7", "nan"), ":9: a probability is no number: 'nan'"),
    "infinity": (GOOD.replace("-0.7", "inf"), ":9: a probability is no number: 'inf'"),
    "infinite weight": (GOOD.replace("\t-0.3\n", "\tinf\n"), ":7: a back-off weight is no number"),
    "nan weight": (GOOD.replace("\t-0.3\n", "\tNaN\n"), ":7: a back-off weight is no number"),
    "decimal comma": (GOOD.replace("-0.7", "-0,7"), ":9: a probability is no number: '-0,7'"),
    "underscore": (GOOD.replace("-0.7", "-0_7"), ":9: a probability is no number: '-0_7'"),
    "above one": (GOOD.replace("-0.7", "0.7"), ":9: a probability is the logarithm 0.7, above 0"),
    "too many words": (GOOD.replace("\tTEN\n", "\tTEN -0.1 X\n", 1), ":11: 4 fields are not a 1"),
    "too few words": (GOOD.replace("<s> WAIT", "WAIT"), ":14: 2 fields are not a 2-gram"),
    "no end of sentences": (GOOD.replace("</s>", "SIX"), "g.arpa has no </s> among its 1-grams"),
    "no words": ("\\data\\\nngram 1=0\n\n\\1-grams:\n\n\\end\\\n", "g.arpa has no </s> among"),
    "cut": (GOOD[: GOOD.index("-0.5")], r"g.arpa is cut: it ends with line 15, before \\end\\"),
    "cut in the counts": (GOOD[:16], "g.arpa is cut: it ends with line 2"),
    "latin-1": (GOOD.replace("TEN", "é").encode("latin-1"), ":11: the bytes E9 0A are not UTF-8"),
    "utf-16": (GOOD.encode("utf-16"), ":1: the bytes FF FE 5C 00 are not UTF-8"),
    "utf-16 without a mark": (GOOD.encode("utf-16-le"), ":1: there is a NUL byte"),
    "nul": (GOOD.replace("TEN", "T\0N"), ":11: there is a NUL byte"),
    "two models": (GOOD * 2, ":19: a second model begins"),
    "cut gzip": (gzip.compress(GOOD.encode())[:-12], "g.arpa is a damaged gzip file"),
    "damaged gzip": (gzip.compress(GOOD.encode() * 9)[:40] + bytes(99), "a damaged gzip file"),
    "gzip of nothing": (b"\x1f\x8b\x08\x00", "g.arpa is a damaged gzip file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_right_is_refused_with_the_line(case, tmp_path):
    content, message = REFUSED[case]
    with pytest.raises(DataError, match=message) as refusal:
        read(tmp_path, content)
    assert "\n" not in str(refusal.value)


def test_what_is_no_file(tmp_path):
    with pytest.raises(DataError, match=r"at .*/none.arpa: it does not exist. Fix: give an ARPA"):
        open_ngrams(tmp_path / "none.arpa")
    with pytest.raises(DataError, match="it is a folder"):
        open_ngrams(tmp_path)
    with pytest.raises(DataError, match=r"give the .arpa file that it was made from"):
        read(tmp_path, "0 1 5 0.5\n", "G_3_gram.fst.txt")


def test_without_a_start_the_first_word_has_no_context(tmp_path):
    """``<unk>`` has a weight, which a start that is not there must not be taken for."""
    text = GOOD.replace("-99\t<s>\t-0.3\n", "").replace("1=6", "1=5").replace("2=3", "2=2")
    text = text.replace("-0.3\t<s> WAIT\n", "").replace("<unk>", "<unk>\t-5")
    assert total(read(tmp_path, text)) == pytest.approx(-0.7 - 0.4 - 0.5 - 1.0)


class PlainReader:
    """Another reader of well-formed files, by the definition: strings and recursion alone."""

    def __init__(self, text: str) -> None:
        self.lines: dict[str, tuple[float, float]] = {}
        self.order = 0
        for line in text.split("\\1-grams:\n")[1].split("\n"):
            prob, *words = re.split("[ \t]+", line)
            if line.startswith("\\"):
                self.order += line != "\\end\\"
            elif line:
                backoff = words.pop() if len(words) > self.order + 1 else "0"
                self.lines[" ".join(words)] = float(prob), float(backoff)
        self.order += 1

    def log10(self, words: list[str]) -> float:
        key = " ".join(words)
        if key in self.lines:
            return self.lines[key][0]
        if len(words) == 1:
            return self.log10(["<unk>"]) if "<unk>" in self.lines else -100.0
        return self.lines.get(" ".join(words[:-1]), (0.0, 0.0))[1] + self.log10(words[1:])

    def sentence(self, words: tuple[str, ...]) -> float:
        all_words = ["<s>", *(w if w in self.lines else "<unk>" for w in words), "</s>"]
        return sum(
            self.log10(all_words[max(0, at + 1 - self.order) : at + 1])
            for at in range(1, len(all_words))
        )


@st.composite
def written(draw: st.DrawFn) -> tuple[str, str]:
    """Return a file as plain as can be, and the same in one of the ways of other programs."""
    model = draw(models())
    separator = draw(st.sampled_from(["\t", " ", "  \t"]))
    lines = ["\\data\\", *(f"ngram {n}={_of(model, n)}" for n in range(1, model.order + 1)), ""]
    for order in range(1, model.order + 1):
        lines.append(f"\\{order}-grams:")
        for ngram, prob in log_probs_of(model).items():
            if len(ngram) == order:
                weight = backoffs_of(model).get(ngram)
                fields = [f"{prob:.6f}", " ".join(ngram)]
                lines.append("\t".join(fields + ([f"{weight:.6f}"] if weight is not None else [])))
        lines.append("")
    plain = "\n".join([*lines, "\\end\\", ""])
    odd = plain.replace("\t", separator)
    if draw(st.booleans()):
        odd = odd.replace("<s>", "<S>").replace("</s>", "</S>")
    if draw(st.booleans()):
        odd = odd.replace("\n", "\r\n")
    return plain, draw(st.sampled_from(["", "\ufeff", "# a remark\n\n"])) + odd


def _of(model: NgramLm, order: int) -> int:
    return sum(len(ngram) == order for ngram in log_probs_of(model))


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=written())
def test_probabilities_are_those_of_another_reader(files, tmp_path):
    plain, odd = files
    model, other = read(tmp_path, odd), PlainReader(plain)
    table = ngram_table(model, [*WORDS, "d"], exact_backoff=True)
    assert table.order == other.order
    for words in (words for n in range(3) for words in product([*WORDS, "d"], repeat=n)):
        assert model.sentence(words) / LN10 == pytest.approx(other.sentence(words), abs=1e-6)


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=mutated(GOOD.encode()) | mutated(gzip.compress(GOOD.encode(), mtime=0)))
def test_damage_is_read_or_refused_in_one_line(content, tmp_path):
    read_or_refused(lambda: ngram_table(read(tmp_path, content), ["WAIT"]))
