"""Searches that keep a lattice, by command: over tokens, and over words with a grammar."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from tests import tones
from tests.cli.conftest import Call
from tests.cli.test_decode import HERE, edit_distance, read_recogs
from zipasr.cli import decode, train_lm
from zipasr.cli.command_flags import read
from zipasr.cli.recognition_commands import DECODE, recognition_config
from zipasr.recognition.resources import ResourceReader
from zipasr.search.methods import Need
from zipasr.text.tokenizer import Tokenizer

LANG, LM = Path("data/tones/lang_bpe"), Path("data/tones/lm")
WORDS = {"LOW", "MID", "HIGH", "TOP"}
FAST = "_beam-20.0_max-contexts-8_max-states-64"
NAMES = {
    "fast_beam_search_nbest": f"{FAST}_nbest-scale-0.5_num-paths-200",
    "fast_beam_search_nbest_oracle": f"{FAST}_nbest-scale-0.5_num-paths-200",
    "fast_beam_search_nbest_LG": f"{FAST}_nbest-scale-0.5_num-paths-200_ngram-lm-scale-0.01",
    "1best": "_hlg-scale-0.6",
    "nbest": "_hlg-scale-0.6_nbest-scale-1.0_num-paths-100",
    "nbest-oracle": "_hlg-scale-0.6_nbest-scale-1.0_num-paths-100",
    "nbest-rescoring": "_hlg-scale-0.6_nbest-scale-1.0_num-paths-100",
    "whole-lattice-rescoring": "_hlg-scale-0.6",
}
SWEPT = ("nbest-rescoring", "whole-lattice-rescoring")


@pytest.fixture
def with_grammars(run_folder: Path, call: Call) -> Path:
    for order in ("3", "4"):
        words = ("--lm-type", "ngram", "--ngram-unit", "word", "--ngram-order", order)
        assert call(train_lm.main, run_folder, *words).status == 0
    return run_folder


def errors_in(folder: Path, name: str) -> tuple[int, set[str]]:
    """Errors of one decoding, and the words that were found."""
    (path,) = (folder / "exp" / name).glob(f"recogs-test-*{NAMES[name]}_use*.txt")
    recogs = read_recogs(path)
    found = {word for _, _, hyp in recogs for word in hyp}
    return sum(edit_distance(ref, hyp) for _, ref, hyp in recogs), found


def test_every_method_decodes_and_the_oracles_are_the_best(with_grammars: Path, call: Call) -> None:
    errors = {}
    for name in NAMES:
        main = decode.main if name.startswith("fast") else decode.ctc
        said = call(main, with_grammars, *HERE, "--decoding-method", name)
        assert said.status == 0, said.err
        assert said.out.splitlines()[2].split()[1].startswith(name)
        best = "_lm_scale_*" if name in SWEPT else ""
        folder = with_grammars / "exp" / name
        (summary,) = folder.glob(f"wer-summary-test-epoch-2_avg-1{NAMES[name]}_use-*.txt")
        settings = summary.read_text().splitlines()[1:]
        # Keys have these two the other way round.
        key = re.sub("(_nbest-scale-[^_]+)(_num-paths-[^_]+)", r"\2\1", NAMES[name])
        assert all(line.startswith(f"{name}{key}") for line in settings)
        assert len(settings) == (20 if name in SWEPT else 1)
        (recogs,) = folder.glob(f"recogs-test-epoch-2_avg-1{NAMES[name]}_use-*{best}.txt")
        found = read_recogs(recogs)
        errors[name] = sum(edit_distance(ref, hyp) for _, ref, hyp in found)
        if not name.startswith("fast") or name.endswith("LG"):
            assert {word for _, _, hyp in found for word in hyp} <= WORDS
    said = call(decode.main, with_grammars, *HERE, "--decoding-method", "fast_beam_search")
    one_best = said.out.splitlines()[2].split()
    assert errors["fast_beam_search_nbest_oracle"] <= sum(map(int, one_best[3:6]))
    assert errors["fast_beam_search_nbest_oracle"] <= errors["fast_beam_search_nbest"]
    assert errors["nbest-oracle"] <= min(errors["1best"], errors["nbest"])


def test_methods_with_their_files_are_compared_and_oracles_left_out(
    with_grammars: Path, call: Call
) -> None:
    methods = "greedy_search,nbest-oracle,1best,fast_beam_search_nbest_LG,nbest-rescoring"
    said = call(decode.main, with_grammars, *HERE, "--methods", methods)
    assert said.status == 0, said.err
    tried = [line.split()[1] for line in said.out.splitlines()[2:] if line.startswith("dev")]
    assert [name.partition("_lm_scale")[0] for name in tried] == [
        "greedy_search",
        "1best",
        "fast_beam_search_nbest_LG",
        "nbest-rescoring",
    ]
    assert "nbest-oracle is left out: nbest-oracle needs to know what was said" in said.err


def test_the_command_as_a_user_types_it(with_grammars: Path) -> None:
    words = ("--decoding-method", "1best", "--lm-dir", "elsewhere", "--grammar", "small.arpa")
    (with_grammars / LM / "G_3_gram.arpa").rename(with_grammars / "small.arpa")
    done = tones.run(with_grammars, "ctc_decode.py", *words, "--hlg-scale", "0.2")
    assert done.returncode == 0, done.stderr
    assert "small.arpa: 3-grams, 4 of 4 words of the lexicon" in done.stderr
    assert list((with_grammars / "exp" / "1best").glob("recogs-test-*hlg-scale-0.2_*"))


@pytest.mark.parametrize(("words", "is_exact"), [((), False), (("--exact-backoff", "1"), True)])
def test_the_flag_of_exact_back_off_reaches_all_ngrams(
    words: tuple[str, ...], is_exact: bool, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run_folder)
    arpa = "\\data\\\nngram 1=2\n\n\\1-grams:\n-0.5\t{}\n-0.5\t</s>\n\n\\end\\\n"
    tokenizer = Tokenizer.from_file(LANG / "bpe.model")
    Path("words.arpa").write_text(arpa.format("LOW"))
    tokens = "".join(f"-0.5\t{piece}\n" for piece in tokenizer.pieces()[3:])
    num = tokenizer.vocab_size - 3 + 1
    Path("tokens.arpa").write_text(
        f"\\data\\\nngram 1={num}\n\n\\1-grams:\n{tokens}-0.5\t</s>\n\n\\end\\\n"
    )
    files = ("--grammar", "words.arpa", "--ngram-lm", "tokens.arpa")
    run = read(DECODE, ["--recipe", "./tones", *files, *words])
    config, reader = recognition_config(run), ResourceReader(tokenizer, torch.device("cpu"))
    grammar = reader.vocabulary(config, frozenset({Need.LEXICON})).graph.grammar
    assert grammar is not None
    assert grammar.exact_backoff is is_exact
    assert reader.token_ngram(config).exact_backoff is is_exact


@pytest.mark.parametrize(
    ("method", "words", "status", "message"),
    [
        ("1best", [], 3, "no G_3_gram.arpa in data/lm or data/tones/lm. Fix: give --grammar, an "),
        ("1best", [], 3, "--recipe tones --lm-type ngram --ngram-unit word --ngram-order 3"),
        ("nbest-rescoring", ["--grammar", "x.arpa"], 3, "no G_4_gram.arpa in data/lm or data/to"),
        ("1best", ["--grammar", "no.arpa"], 3, "there is no n-gram language model at no.arpa"),
        ("1best", ["--grammar", "x.arpa"], 3, "x.arpa knows none of the 4 words of the lexicon"),
        ("1best", ["--grammar", "z.arpa"], 3, "z.arpa is an n-gram over tokens, not over words"),
        ("1best", ["--grammar", "x.arpa", "--lang-dir", "no"], 3, "there is no lexicon.txt in no"),
        ("1best", ["--lm-dir", "k2"], 3, "k2/G_3_gram.fst.txt is a graph; the ARPA file is needed"),
        (
            "fast_beam_search_nbest_LG",
            ["--grammar", "x.arpa", "--ngram-lm-scale", "-0.1"],
            2,
            "--ngram-lm-scale -0.1: fast_beam_search_nbest_LG adds the grammar",
        ),
        ("fast_beam_search_nbest", ["--num-paths", "0"], 2, "--num-paths must be at least 1"),
        ("fast_beam_search_nbest", ["--nbest-scale", "0"], 2, "--nbest-scale must be above 0"),
        (
            "attention-decoder-rescoring-with-ngram",
            ["--grammar", "y.arpa", "--large-grammar", "y.arpa"],
            2,
            "needs an attention decoder, this model has none",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_one_line(
    method: str, words: list[str], status: int, message: str, run_folder: Path, call: Call
) -> None:
    arpa = "\\data\\\nngram 1=2\n\n\\1-grams:\n-0.5\t{}\n-0.5\t</s>\n\n\\end\\\n"
    (run_folder / "x.arpa").write_text(arpa.format("low"))
    (run_folder / "y.arpa").write_text(arpa.format("LOW"))
    (run_folder / "z.arpa").write_text(arpa.format("\u2581LOW"))
    (run_folder / "k2").mkdir()
    (run_folder / "k2" / "G_3_gram.fst.txt").write_text("0 1 1 1\n")
    said = call(decode.main, run_folder, *HERE, "--decoding-method", method, *words)
    assert said.status == status
    assert message in said.error


def test_a_lexicon_of_other_tokens_is_refused(with_grammars: Path, call: Call) -> None:
    table = with_grammars / LANG / "tokens.txt"
    table.write_text(table.read_text().replace("LOW", "HIGHER"))
    said = call(decode.main, with_grammars, *HERE, "--decoding-method", "1best")
    assert said.status == 3
    assert "the lexicon is of another tokenizer" in said.error
