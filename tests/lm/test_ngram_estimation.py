"""N-gram models from text against the formulas in exact fractions, and by hand."""

import math
import random
from collections import Counter, defaultdict
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zipasr.lm.arpa import write_arpa
from zipasr.lm.ngram import END, LN10, START
from zipasr.lm.ngram_estimation import Sentences, kneser_ney
from zipasr.lm.ngram_file import open_ngrams

from .dictionary import backoffs_of, log_probs_of

NAMES = ["a", "b", "c", "d"]
TEXTS = st.lists(st.lists(st.integers(0, 2), max_size=5), min_size=1, max_size=8)


def trained(sentences, order, names=NAMES):
    return kneser_ney(Sentences.of(sentences), names, order)


class Oracle:
    """The definition, one n-gram at a time."""

    def __init__(self, sentences, order):
        self.order = order
        marked = [[START, *(NAMES[i] for i in ids), END] for ids in sentences]
        self.raw = [
            Counter(tuple(s[i : i + n]) for s in marked for i in range(len(s) - n + 1))
            for n in range(1, order + 1)
        ]
        self.words = {g[0] for g in self.raw[0]} - {START}

    def count(self, gram):
        n = len(gram)
        if n == self.order or gram[0] == START:
            return self.raw[n - 1][gram]
        return sum(longer[1:] == gram for longer in self.raw[n])

    def discount(self, n):
        counts = list(self.raw[n - 1].values())
        once, twice = counts.count(1), counts.count(2)
        return Fraction(once, once + 2 * twice) if once and twice else Fraction(1, 2)

    def prob(self, context, word):
        if not context:
            return self.single(word)
        followers = {g[-1] for g in self.raw[len(context)] if g[:-1] == context}
        if not followers:
            return self.prob(context[1:], word)
        total = sum(self.count((*context, z)) for z in followers)
        taken = {z: self.count((*context, z)) - self.discount(len(context) + 1) for z in followers}
        if followers == self.words:
            return taken[word] / sum(taken.values())
        if word in followers:
            return taken[word] / total
        left = 1 - sum(taken.values()) / total
        others = 1 - sum(self.prob(context[1:], z) for z in followers)
        return left / others * self.prob(context[1:], word)

    def single(self, word):
        return Fraction(self.count((word,)), sum(self.count((z,)) for z in self.words))


@settings(max_examples=60, deadline=None)
@given(sentences=TEXTS, order=st.integers(1, 3))
def test_probabilities_are_those_of_the_definition_and_add_up_to_one(sentences, order):
    model, oracle = trained(sentences, order), Oracle(sentences, order)
    words = sorted(oracle.words)
    assert model.words == {*words, START}
    contexts = [
        given
        for n in range(order)
        for given in product([START, *words], repeat=n)
        if START not in given[1:] and END not in given
    ]
    for context in contexts:
        got = {word: math.exp(model.score(context, word)) for word in words}
        assert math.fsum(got.values()) == pytest.approx(1.0, abs=1e-9)
        for word in words:
            assert got[word] == pytest.approx(float(oracle.prob(context, word)), rel=1e-9)


def entries_of_the_script(sentences, order):
    """The n-grams that icefall's script writes, by its formulas: probability and back-off weight.

    c counts n-grams a z in the text, n(* a z) the different words before one; D is n1 / (n1 + 2 n2)
    for each length, and 0 for single words.

        f(a z) = (c(a z) - D) / c(a *)           of the longest, and of those that begin with <s>
        f(a z) = (n(* a z) - D) / n(* a *)       of the others
        bow(a) = (1 - sum of f(a z)) / (1 - sum of f(a' z)), z after a in the text, a' a less a word
    """
    marked = [(START, *words, END) for words in sentences]
    c = Counter(
        s[i : i + n] for s in marked for n in range(1, order + 1) for i in range(len(s) - n + 1)
    )
    before = Counter(gram[1:] for gram in {s[i : i + n] for s in marked
                     for n in range(2, order + 1) for i in range(len(s) - n + 1)})  # fmt: skip
    discounts = [0.0]
    for n in range(2, order + 1):
        values = [c[gram] for gram in c if len(gram) == n]
        n1, n2 = values.count(1), values.count(2)
        assert n1 > 0
        assert n2 > 0
        discounts.append(n1 / (n1 + 2 * n2))

    def counted(gram):
        return (
            c[gram] if len(gram) == order or (gram[0] == START and len(gram) > 1) else before[gram]
        )

    after = defaultdict(list)
    for gram in c:
        after[gram[:-1]].append(gram)
    f, bow = {}, {}
    for a, grams in after.items():
        total = sum(counted(gram) for gram in grams)
        for gram in grams:
            f[gram] = (counted(gram) - discounts[len(a)]) / total
    for a, grams in after.items():
        if a:
            lower = sum(f[gram[1:]] for gram in grams)
            assert lower < 1 - 1e-9
            bow[a] = (1 - sum(f[gram] for gram in grams)) / (1 - lower)
    return f, bow


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("order", [2, 3, 4])
def test_the_file_has_the_numbers_of_the_script(order, seed, tmp_path):
    draw = random.Random(seed)
    names = [f"w{number}" for number in range(40)]
    # The last words of the table do not occur: there is nothing about them in the file.
    chances = [1 / (1 + number) for number in range(30)]
    ids = [draw.choices(range(30), chances, k=draw.randint(0, 9)) for _ in range(60)]
    path = tmp_path / "n.arpa"
    write_arpa(path, trained(ids, order, names))
    model = open_ngrams(path)
    f, bow = entries_of_the_script([[names[i] for i in row] for row in ids], order)
    f[START,] = 1e-99
    assert log_probs_of(model).keys() == f.keys()
    assert backoffs_of(model).keys() == bow.keys()
    for gram, prob in f.items():
        assert log_probs_of(model)[gram] == pytest.approx(math.log10(prob), abs=1e-6)
    for gram, weight in bow.items():
        assert backoffs_of(model)[gram] == pytest.approx(math.log10(weight), abs=1e-6)
    more = model.with_words([*names, "x"])
    assert more.words == {*names, "x", START, END}
    rarest = min(
        value for gram, value in log_probs_of(model).items() if len(gram) == 1 and value > -99
    )
    assert log_probs_of(more) == {(name,): rarest for name in (*names, "x")} | log_probs_of(model)
    assert backoffs_of(more) == backoffs_of(model)


def test_a_bigram_by_hand():
    """Text: ``a b``, ``a b``, ``b``, ``a c``, ``a a``.

    Once there are <s> b, a c, c </s>, a a and a </s>, twice a b: the discount is 5 / (5 + 2 * 1).
    Different words come before a: <s> and a; before b: a and <s>; before c: a; before </s>: b, c
    and a: eight in all.
    """
    model = trained([[0, 1], [0, 1], [1], [0, 2], [0, 0]], 2)
    taken = 5 / 7
    probs = {
        ((), "a"): 2 / 8,
        ((), "b"): 2 / 8,
        ((), "c"): 1 / 8,
        ((), END): 3 / 8,
        ((START,), "a"): (4 - taken) / 5,
        ((START,), "b"): (1 - taken) / 5,
        ((START,), "c"): 2 * taken / 5 / (1 / 8 + 3 / 8) * 1 / 8,
        (("b",), END): (3 - taken) / 3,
        (("b",), "a"): taken / 3 / (1 - 3 / 8) * 2 / 8,
        # After a came every word: what is taken off has nowhere else to go.
        (("a",), "b"): (2 - taken) / (5 - 4 * taken),
        (("a",), "c"): (1 - taken) / (5 - 4 * taken),
    }
    for (context, word), prob in probs.items():
        assert model.score(context, word) == pytest.approx(math.log(prob))
    assert log_probs_of(model)[START,] == -99.0


def test_a_file_says_the_same(tmp_path):
    model = trained([[0, 1, 2], [0, 1], [2, 2, 0], []], 3).with_unknown()
    write_arpa(tmp_path / "3gram.arpa", model)
    again = open_ngrams(tmp_path / "3gram.arpa")
    for words in (["a", "b", "c"], ["d", "a"], [], ["c", "c", "c"]):
        assert again.sentence(words) == pytest.approx(model.sentence(words), abs=1e-5 * LN10)


def test_sentences_in_one_array():
    lists = [[1, 2], [], [3]]
    text = Sentences.of(lists)
    assert [text[i] for i in range(len(text))] == lists
    assert text.lens.tolist() == [2, 0, 1]
    assert len(Sentences.of([])) == len(Sentences.of([]).lens) == 0
