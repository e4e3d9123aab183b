import random
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zipasr.lm.ngram import END, LN10, UNKNOWN
from zipasr.lm.ngram_file import open_ngrams
from zipasr.lm.ngram_table import ngram_table

from .backoff_graph import WORDS, BackoffGraph, models
from .dictionary import lm_of
from .test_ngram import GOLDEN

UNIGRAMS = {("a",): -0.5, ("b",): -0.9, ("<s>",): -99.0, (END,): -1.1}
MODELS = {
    "golden": open_ngrams(GOLDEN / "trigram.arpa"),
    "unigrams": lm_of(UNIGRAMS, {}, 1),
    "no-unk": lm_of({**UNIGRAMS, ("a", "b"): -0.2}, {("a",): -0.3, ("<s>",): -0.1}, 2),
    # Weights of n-grams that nothing continues, and an n-gram whose beginning the file leaves out.
    "gaps": lm_of(
        {**UNIGRAMS, (UNKNOWN,): -3.0, ("a", "b", "a"): -0.1, ("<s>", UNKNOWN): -0.4},
        {("a",): -0.3, ("b",): -0.2, ("b", "a"): -0.15, (UNKNOWN,): -0.6},
        3,
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_tables_say_what_the_model_says(name):
    model = MODELS[name]
    words = ["zzz", *sorted(model.words - {"<s>", END, UNKNOWN})][:4]
    table = ngram_table(model, words, exact_backoff=True)
    sentences = list(product(range(len(words)), repeat=4))
    for batch in (sentences, random.Random(0).sample(sentences, 5)):
        contexts = torch.full((len(batch),), table.start)
        spoken = [model.start] * len(batch)
        for column in zip(*batch, strict=True):
            got, contexts = table.step(contexts, torch.tensor(column))
            said = [words[number] for number in column]
            want = [model.step(c, model.number(w)) for c, w in zip(spoken, said, strict=True)]
            assert got.tolist() == pytest.approx([log10 * LN10 for log10, _ in want], abs=1e-9)
            spoken = [context for _, context in want]
        ends = [model.step(context, model.number(END))[0] * LN10 for context in spoken]
        assert table.ends(contexts).tolist() == pytest.approx(ends, abs=1e-9)


def ended(table, sentence):
    standing = table.standing(1)
    for word in sentence:
        standing = table.moved(standing, torch.tensor([WORDS.index(word)]))
    return table.ended(standing).item()


@settings(max_examples=60)
@given(model=models())
def test_the_best_path_is_that_of_the_graph_written_down(model):
    graph, table = BackoffGraph(model), ngram_table(model, WORDS)
    exact = ngram_table(model, WORDS, exact_backoff=True)
    for sentence in (words for n in range(4) for words in product(WORDS, repeat=n)):
        assert ended(table, sentence) == pytest.approx(graph.best(sentence), abs=1e-9)
        assert ended(exact, sentence) == pytest.approx(model.sentence(sentence), abs=1e-9)


@settings(max_examples=40)
@given(model=models(), sentence=st.lists(st.sampled_from(WORDS), max_size=4).map(tuple))
def test_the_arcs_are_those_of_the_graph_written_down(model, sentence):
    table = ngram_table(model, WORDS)
    found = [(0.0, table.start)]
    for word in sentence:
        arcs = table.arcs(
            torch.tensor([context for _, context in found]),
            torch.full((len(found),), WORDS.index(word)),
        )
        found = [
            (found[row][0] + value, after)
            for row, value, after in zip(*(part.tolist() for part in arcs), strict=True)
        ]
    want = sorted(score for score, _ in BackoffGraph(model).paths(sentence))
    assert sorted(score for score, _ in found) == pytest.approx(want, abs=1e-9)


def test_backing_off_beats_an_ngram_by_hand():
    """After a, b is improbable (-2) though backing off gives -0.1 - 0.9; then b c starts a 3-gram.

    From the context (b) alone, where a path that backed off stands, c costs 0.3; from (a, b) 0.1.
    """
    model = lm_of(
        {**UNIGRAMS, ("c",): -0.8, ("a", "b"): -2.0, ("b", "c"): -0.3, ("a", "b", "c"): -0.1},
        {("a",): -0.1, ("b",): -0.2, ("a", "b"): -0.05, ("b", "c"): -0.4},
        3,
    )
    end = -0.4 - 1.1
    assert model.sentence(["a", "b", "c"]) / LN10 == pytest.approx(-0.5 - 2.0 - 0.1 + end)
    best = ended(ngram_table(model, WORDS), ("a", "b", "c")) / LN10
    # Having read c by the unigram, no back-off weight is left to pay before the end.
    by_bigram, by_unigram = -0.3 + end, -0.2 - 0.8 - 1.1
    assert best == pytest.approx(-0.5 - 0.1 - 0.9 + max(by_bigram, by_unigram))


def test_nothing_asked_nothing_said():
    table, none = ngram_table(MODELS["golden"], ["a"]), torch.zeros(0, dtype=torch.int64)
    scores, contexts = table.step(none, none)
    assert (len(scores), len(contexts)) == (0, 0)
    assert [len(part) for part in table.arcs(none, none)] == [0, 0, 0]
    assert table.ended(table.moved(table.standing(0), none)).shape == (0,)
