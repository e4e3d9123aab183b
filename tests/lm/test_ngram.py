import gzip
import json
import math
import random
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.peers import needed
from zipasr.lm.arpa import arpa_text, write_arpa
from zipasr.lm.ngram import END, LN10, START
from zipasr.lm.ngram_estimation import Sentences, kneser_ney
from zipasr.lm.ngram_file import open_ngrams

from .backoff_graph import WORDS, models
from .dictionary import DictionaryLm, backoffs_of, lm_of, log_probs_of

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "lm"
CASES = json.loads((GOLDEN / "kenlm.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_scores_are_those_of_kenlm(case):
    model = open_ngrams(GOLDEN / "trigram.arpa")
    assert model.sentence(case["words"]) / LN10 == pytest.approx(case["total"], abs=1e-4)
    context, each = model.start, []
    for word in (*case["words"], END):
        log10, context = model.step(context, model.number(word))
        each.append(log10)
    assert each == pytest.approx(case["each"], abs=1e-5)


def test_a_file_that_was_written_is_read_back(tmp_path):
    model = open_ngrams(GOLDEN / "trigram.arpa")
    write_arpa(tmp_path / "again.arpa", model)
    again = open_ngrams(tmp_path / "again.arpa")
    assert log_probs_of(again) == log_probs_of(model)
    assert backoffs_of(again) == backoffs_of(model)
    with gzip.open(tmp_path / "packed.arpa.gz", "wt") as packed:
        packed.write("token-table: abc\n\n" + arpa_text(model))
    assert open_ngrams(tmp_path / "packed.arpa.gz").token_table == "abc"


def test_a_word_nobody_knows_without_unk(tmp_path):
    path = tmp_path / "tiny.arpa"
    path.write_text("\\data\\\nngram 1=2\n\n\\1-grams:\n-0.5\ta\n-1\t</s>\n\n\\end\\\n")
    model = open_ngrams(path)
    assert model.score((), "a") == pytest.approx(-0.5 * math.log(10))
    assert model.score((), "b") == pytest.approx(-100 * math.log(10))


def test_unknown_words_can_be_as_rare_as_the_rarest(tmp_path):
    path = tmp_path / "tiny.arpa"
    head = "\\data\\\nngram 1=4\n\n\\1-grams:\n-99\t<s>\n-0.1\t</s>\n-0.5\ta\n"
    path.write_text(f"{head}-0.9\tb\n\n\\end\\\n")
    assert open_ngrams(path).with_unknown().score((), "c") == pytest.approx(-0.9 * LN10)
    path.write_text(f"{head}-0.7\t<unk>\n\n\\end\\\n")
    model = open_ngrams(path)
    assert model.with_unknown() is model


@st.composite
def entries(draw: st.DrawFn) -> tuple[dict, dict, int]:
    """N-grams of a model, some of which begin with what is no n-gram itself."""
    model = draw(models())
    log_probs, backoffs = log_probs_of(model), backoffs_of(model)
    kept = {gram: draw(st.booleans()) or len(gram) == 1 for gram in log_probs}
    log_probs = {gram: value for gram, value in log_probs.items() if kept[gram]}
    return log_probs, {g: v for g, v in backoffs.items() if g in log_probs}, model.order


@settings(max_examples=80)
@given(entries=entries())
def test_scores_are_those_of_dictionaries(entries):
    model, oracle = lm_of(*entries), DictionaryLm(*entries)
    words = [START, *WORDS, END, "d"]
    for context in (c for n in range(4) for c in product(words, repeat=n)):
        for word in ("a", END, "d"):
            assert model.score(context, word) == pytest.approx(oracle.score(context, word))


@settings(max_examples=30)
@given(entries=entries())
def test_every_ngram_is_listed_with_its_probability_and_weight(entries):
    model = lm_of(*entries)
    log_probs, backoffs, _ = entries
    assert log_probs.items() <= log_probs_of(model).items()
    # What only longer n-grams begin with is there with the probability that backing off gives.
    for gram in log_probs_of(model).keys() - log_probs.keys():
        want = DictionaryLm(*entries).score(gram[:-1], gram[-1]) / LN10
        assert log_probs_of(model)[gram] == pytest.approx(want)
        assert any(longer[: len(gram)] == gram for longer in log_probs)
    assert {g: v for g, v in backoffs_of(model).items() if v} == {
        g: v for g, v in backoffs.items() if v
    }


@pytest.mark.parametrize("order", [2, 3, 4])  # KenLM has no models of single words
def test_scores_are_those_of_kenlm_today(order, tmp_path):
    kenlm, draw = needed("kenlm"), random.Random(order)
    names = [f"w{number}" for number in range(60)]
    chances = [1 / (1 + number) for number in range(60)]
    text = [draw.choices(range(50), chances[:50], k=draw.randint(0, 12)) for _ in range(400)]
    path = tmp_path / "g.arpa"
    write_arpa(path, kneser_ney(Sentences.of(text), names, order).with_unknown())
    model, peer = open_ngrams(path), kenlm.Model(str(path))
    for _ in range(200):
        words = draw.choices(names, chances, k=draw.randint(0, 9))
        each = [value for value, _, _ in peer.full_scores(" ".join(words))]
        assert model.sentence(words) / LN10 == pytest.approx(sum(each), rel=1e-6, abs=1e-6)
