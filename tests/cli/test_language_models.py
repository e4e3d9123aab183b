"""Language models by command: trained, used in searches, refused where they do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Call
from zipasr.cli import decode, lm_text, train_lm
from zipasr.lm.arpa import read_arpa
from zipasr.text.tokenizer import Tokenizer

# Reading in this process: starting another one takes longer than the work.
HERE = ("--num-workers", "0")
LANG = Path("data/tones/lang_bpe")


def test_ngrams_over_tokens_and_over_words(run_folder: Path, call: Call) -> None:
    words = ["--lm-type", "ngram"]
    said = call(train_lm.main, run_folder, *words)
    assert said.status == 0, said.err
    assert said.out.startswith(f"{LANG / '2gram.arpa'}: ")
    assert "perplexity" not in said.out
    first = (run_folder / LANG / "2gram.arpa").read_bytes()
    model = read_arpa(run_folder / LANG / "2gram.arpa")
    tokenizer = Tokenizer.from_file(run_folder / LANG / "bpe.model")
    assert model.token_table == tokenizer.table_hash()
    assert {*tokenizer.pieces()[3:]} <= model.words

    assert call(lm_text.main, run_folder).status == 0
    said = call(train_lm.main, run_folder, *words)
    assert 1.0 < float(said.out.split("perplexity on dev: ")[1]) < 10.0
    assert (run_folder / LANG / "2gram.arpa").read_bytes() == first

    said = call(train_lm.main, run_folder, *words, "--ngram-unit", "word", "--ngram-order", "3")
    assert said.status == 0, said.err
    assert read_arpa(run_folder / "data/tones/lm/G_3_gram.arpa").words == {
        *("LOW", "MID", "HIGH", "TOP"),
        *("<s>", "</s>", "<unk>"),
    }

    fusion = "modified_beam_search_lm_shallow_fusion"
    said = call(decode.main, run_folder, *HERE, "--decoding-method", fusion, *words)
    assert said.status == 0, said.err
    assert list((run_folder / "exp" / fusion).glob("wer-summary-*ngram-lm-scale-0.3*.txt"))


@pytest.mark.parametrize("given", ["", "\n \n"])
def test_an_ngram_of_no_text_is_one_line_and_no_file(
    given: str, run_folder: Path, call: Call
) -> None:
    (run_folder / "empty.txt").write_text(given)
    said = call(train_lm.main, run_folder, "--lm-type", "ngram", "--lm-data", "empty.txt")
    assert said.status == 3
    assert said.error == "error: empty.txt has no text."
    assert not (run_folder / LANG / "2gram.arpa").exists()
