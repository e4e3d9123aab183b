import gzip
import json
import math
from pathlib import Path

import pytest

from zipasr.lm.arpa import arpa_text, read_arpa, write_arpa
from zipasr.lm.ngram import END, LN10

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "lm"
CASES = json.loads((GOLDEN / "kenlm.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_scores_are_those_of_kenlm(case):
    model = read_arpa(GOLDEN / "trigram.arpa")
    assert model.sentence(case["words"]) / LN10 == pytest.approx(case["total"], abs=1e-4)
    context, each = model.start(), []
    for word in (*case["words"], END):
        each.append(model.score(context, word) / LN10)
        context = model.next_context(context, word)
    assert each == pytest.approx(case["each"], abs=1e-5)


def test_a_file_that_was_written_is_read_back(tmp_path):
    model = read_arpa(GOLDEN / "trigram.arpa")
    write_arpa(tmp_path / "again.arpa", model)
    again = read_arpa(tmp_path / "again.arpa")
    assert again == model
    with gzip.open(tmp_path / "packed.arpa.gz", "wt") as packed:
        packed.write("token-table: abc\n\n" + arpa_text(model))
    assert read_arpa(tmp_path / "packed.arpa.gz").token_table == "abc"


def test_a_word_nobody_knows_without_unk(tmp_path):
    path = tmp_path / "tiny.arpa"
    path.write_text("\\data\\\nngram 1=2\n\n\\1-grams:\n-0.5\ta\n-1\t</s>\n\n\\end\\\n")
    model = read_arpa(path)
    assert model.score((), "a") == pytest.approx(-0.5 * math.log(10))
    assert model.score((), "b") == pytest.approx(-100 * math.log(10))


def test_unknown_words_can_be_as_rare_as_the_rarest(tmp_path):
    path = tmp_path / "tiny.arpa"
    head = "\\data\\\nngram 1=4\n\n\\1-grams:\n-99\t<s>\n-0.1\t</s>\n-0.5\ta\n"
    path.write_text(f"{head}-0.9\tb\n\n\\end\\\n")
    assert read_arpa(path).with_unknown().score((), "c") == pytest.approx(-0.9 * LN10)
    path.write_text(f"{head}-0.7\t<unk>\n\n\\end\\\n")
    model = read_arpa(path)
    assert model.with_unknown() is model
