import random
from itertools import product

import pytest
import torch

from zipasr.lm.arpa import END, UNKNOWN, NgramLm, read_arpa
from zipasr.lm.table import ngram_table

from .test_arpa import GOLDEN

UNIGRAMS = {("a",): -0.5, ("b",): -0.9, ("<s>",): -99.0, (END,): -1.1}
MODELS = {
    "golden": read_arpa(GOLDEN / "trigram.arpa"),
    "unigrams": NgramLm(UNIGRAMS, {}, 1),
    "no-unk": NgramLm({**UNIGRAMS, ("a", "b"): -0.2}, {("a",): -0.3, ("<s>",): -0.1}, 2),
    # Weights of n-grams that nothing continues, and an n-gram whose beginning the file leaves out.
    "gaps": NgramLm(
        {**UNIGRAMS, (UNKNOWN,): -3.0, ("a", "b", "a"): -0.1, ("<s>", UNKNOWN): -0.4},
        {("a",): -0.3, ("b",): -0.2, ("b", "a"): -0.15, (UNKNOWN,): -0.6},
        3,
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_tables_say_what_the_model_says(name):
    model = MODELS[name]
    words = ["zzz", *sorted(model.words - {"<s>", END, UNKNOWN})][:4]
    table = ngram_table(model, words)
    sentences = list(product(range(len(words)), repeat=4))
    for batch in (sentences, random.Random(0).sample(sentences, 5)):
        contexts = torch.full((len(batch),), table.start)
        spoken = [model.start()] * len(batch)
        for column in zip(*batch, strict=True):
            got, contexts = table.step(contexts, torch.tensor(column))
            said = [words[number] for number in column]
            want = [model.score(c, word) for c, word in zip(spoken, said, strict=True)]
            assert got.tolist() == pytest.approx(want, abs=1e-9)
            spoken = [model.next_context(c, word) for c, word in zip(spoken, said, strict=True)]
        ends = [model.score(context, END) for context in spoken]
        assert table.ends(contexts).tolist() == pytest.approx(ends, abs=1e-9)


def test_nothing_asked_nothing_said():
    table = ngram_table(MODELS["golden"], ["a"])
    scores, contexts = table.step(torch.zeros(0, dtype=torch.int64), torch.zeros(0).long())
    assert (len(scores), len(contexts)) == (0, 0)
