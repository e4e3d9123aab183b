"""N-gram models from text against the formulas in exact fractions, and by hand."""

import math
from collections import Counter
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zipasr.lm.arpa import END, LN10, START, read_arpa, write_arpa
from zipasr.lm.estimate import kneser_ney
from zipasr.lm.text import Sentences

NAMES = ["a", "b", "c", "d"]
TEXTS = st.lists(st.lists(st.integers(0, 2), max_size=5), min_size=1, max_size=8)


def trained(sentences, order, known=()):
    return kneser_ney(Sentences.of(sentences), NAMES, order, known)


class Oracle:
    """The definition, one n-gram at a time."""

    def __init__(self, sentences, order, known=()):
        self.order = order
        marked = [[START, *(NAMES[i] for i in ids), END] for ids in sentences]
        self.raw = [
            Counter(tuple(s[i : i + n]) for s in marked for i in range(len(s) - n + 1))
            for n in range(1, order + 1)
        ]
        self.words = {g[0] for g in self.raw[0]} - {START}
        self.unseen = {NAMES[i] for i in known} - self.words

    def count(self, gram):
        n = len(gram)
        if n == self.order or gram[0] == START:
            return self.raw[n - 1][gram]
        return sum(longer[1:] == gram for longer in self.raw[n])

    def discount(self, n):
        counts = [c for g, c in self.raw[n - 1].items() if n > 1 or g != (START,)]
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
        if followers == self.words | self.unseen:
            return taken[word] / sum(taken.values())
        if word in followers:
            return taken[word] / total
        left = 1 - sum(taken.values()) / total
        others = 1 - sum(self.prob(context[1:], z) for z in followers)
        return left / others * self.prob(context[1:], word)

    def single(self, word):
        total = sum(self.count((z,)) for z in self.words)
        taken = self.discount(1) if self.unseen else 0
        if word in self.unseen:
            return taken * len(self.words) / (len(self.unseen) * Fraction(total))
        return Fraction(self.count((word,)) - taken) / total


@settings(max_examples=60, deadline=None)
@given(sentences=TEXTS, order=st.integers(1, 3), known=st.sampled_from([(), (3,), (0, 1, 2, 3)]))
def test_probabilities_are_those_of_the_definition_and_add_up_to_one(sentences, order, known):
    model, oracle = trained(sentences, order, known), Oracle(sentences, order, known)
    words = sorted(oracle.words | oracle.unseen)
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
    assert model.log_probs[START,] == -99.0


def test_a_file_says_the_same(tmp_path):
    model = trained([[0, 1, 2], [0, 1], [2, 2, 0], []], 3, known=[3])
    write_arpa(tmp_path / "3gram.arpa", model)
    again = read_arpa(tmp_path / "3gram.arpa")
    for words in (["a", "b", "c"], ["d", "a"], [], ["c", "c", "c"]):
        assert again.sentence(words) == pytest.approx(model.sentence(words), abs=1e-5 * LN10)


def test_sentences_in_one_array():
    lists = [[1, 2], [], [3]]
    text = Sentences.of(lists)
    assert [text[i] for i in range(len(text))] == lists
    assert text.lens.tolist() == [2, 0, 1]
    assert len(Sentences.of([])) == len(Sentences.of([]).lens) == 0
