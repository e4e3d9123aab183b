"""Language models by command: trained, used in searches, refused where they do not fit."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from tests import tones
from tests.cli.conftest import Call
from zipasr.checkpoint.checkpoint_file import load_checkpoint, save_checkpoint
from zipasr.cli import decode, prepare, train_lm
from zipasr.lm.ngram_file import open_ngrams
from zipasr.text.tokenizer import Tokenizer

# Reading in this process: starting another one takes longer than the work.
HERE = ("--num-workers", "0")
LANG = Path("data/tones/lang_bpe")
SIZES = {
    "rnn": "--rnn-lm-embedding-dim 16 --rnn-lm-hidden-dim 16 --rnn-lm-num-layers 1",
    "transformer": "--transformer-lm-embedding-dim 16 --transformer-lm-encoder-dim 16 "
    "--transformer-lm-dim-feedforward 32 --transformer-lm-nhead 2 --transformer-lm-num-layers 1",
}


@pytest.fixture(scope="module")
def with_lms(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of ``trained`` with a model of each kind. Do not write to it: copy it."""
    folder = tmp_path_factory.mktemp("lms") / "run"
    shutil.copytree(trained, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        recipe = ["--recipe", "./tones"]
        assert prepare.write_lm_text(recipe) == 0
        assert train_lm.main([*recipe, "--lm-type", "ngram"]) == 0
        for kind, sizes in SIZES.items():
            words = ["--lm-type", kind, *sizes.split(), "--num-epochs", "2", "--batch-size", "10"]
            assert train_lm.main([*recipe, *words]) == 0
    return folder


@pytest.fixture
def lm_folder(with_lms: Path, tmp_path: Path) -> Path:
    """A copy of ``with_lms`` to write to."""
    shutil.copytree(with_lms, tmp_path / "run")
    return tmp_path / "run"


def using(kind: str) -> list[str]:
    return [*HERE, "--lm-type", kind, "--lm-exp-dir", f"{kind}_lm_exp", "--lm-epoch", "2"]


def test_ngrams_over_tokens_and_over_words(run_folder: Path, call: Call) -> None:
    words = ["--lm-type", "ngram"]
    said = call(train_lm.main, run_folder, *words)
    assert said.status == 0, said.err
    assert said.out.startswith(f"{LANG / '2gram.arpa'}: ")
    assert "perplexity" not in said.out
    assert "valid.txt; ./prepare.sh --recipe ./tones --stage 5 makes it" in said.err
    first = (run_folder / LANG / "2gram.arpa").read_bytes()
    model = open_ngrams(run_folder / LANG / "2gram.arpa")
    tokenizer = Tokenizer.from_file(run_folder / LANG / "bpe.model")
    assert model.token_table == tokenizer.table_hash()
    assert {*tokenizer.pieces()[3:]} <= model.words

    assert call(prepare.write_lm_text, run_folder).status == 0
    said = call(train_lm.main, run_folder, *words)
    assert 1.0 < float(said.out.split("perplexity on dev: ")[1]) < 10.0
    assert (run_folder / LANG / "2gram.arpa").read_bytes() == first

    said = call(train_lm.main, run_folder, *words, "--ngram-unit", "word", "--ngram-order", "3")
    assert said.status == 0, said.err
    assert open_ngrams(run_folder / "data/tones/lm/G_3_gram.arpa").words == {
        *("LOW", "MID", "HIGH", "TOP"),
        *("<s>", "</s>", "<unk>"),
    }

    fusion = "modified_beam_search_lm_shallow_fusion"
    said = call(decode.main, run_folder, *HERE, "--decoding-method", fusion, *words)
    assert said.status == 0, said.err
    (summary,) = (run_folder / "exp" / fusion).glob("wer-summary-*ngram-lm-scale-0.3*.txt")
    assert summary.read_text().startswith(f"settings\tWER\n{fusion}_beam-size-4\t")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (b"", "x.txt has no text."),
        (b"\n \n", "x.txt has no text."),
        (b"LOW\n\xff\n", "x.txt is not UTF-8 text. Fix: convert it first."),
        (b"LOW\nHI\0GH\n", "x.txt, line 2: there is a NUL byte. Fix: convert it to UTF-8 text."),
        (None, "there is no text at x.txt. Fix: see that the path is right."),
    ],
)
def test_an_ngram_of_no_text_is_one_line_and_no_file(
    given: bytes | None, message: str, run_folder: Path, call: Call
) -> None:
    if given is not None:
        (run_folder / "x.txt").write_bytes(given)
    said = call(train_lm.main, run_folder, "--lm-type", "ngram", "--lm-data", "x.txt")
    assert said.status == 3
    assert said.error == f"error: {message}"
    assert not (run_folder / LANG / "2gram.arpa").exists()


def test_every_search_takes_a_transformer(lm_folder: Path, call: Call) -> None:
    methods = [
        "modified_beam_search_lm_shallow_fusion",
        "modified_beam_search_LODR",
        "modified_beam_search_lm_rescore",
        "modified_beam_search_lm_rescore_LODR",
        "modified_beam_search_ngram_rescoring",
        "ctc-prefix-beam-search-shallow-fussion",
    ]
    words = [*using("transformer"), "--methods", ",".join(methods), "--lm-scales", "0.5"]
    said = call(decode.main, lm_folder, *words)
    assert said.status == 0, said.err
    table = said.out.split("--methods chose")[0]
    shown = [line.split()[1].split("_nnlm")[0] for line in table.splitlines()[2:]]
    scale, lodr = "_transformer-lm-scale-0.5", "_LODR-2gram-scale--0.25"
    assert shown == [
        f"{methods[0]}{scale}",
        f"{methods[1]}{scale}{lodr}",
        *methods[2:4],
        f"{methods[4]}_2gram-scale-0.01",
        f"{methods[5]}{scale}",
    ]


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two processes need two cores")
def test_two_processes_go_on_with_a_language_model(lm_folder: Path) -> None:
    words = ["--lm-type", "rnn", *SIZES["rnn"].split(), "--num-epochs", "3", "--batch-size", "10"]
    done = tones.run(lm_folder, "train_lm.py", *words, "--world-size", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("perplexity on dev: ") == 1
    folder = lm_folder / "rnn_lm_exp"
    assert (folder / "epoch-3.pt").is_file()
    assert {path.name[-2:] for path in folder.glob("log-train-lm-*-[01]")} == {"-0", "-1"}


def test_weights_of_a_language_model_are_tried_on_dev(lm_folder: Path, call: Call) -> None:
    method = "ctc-prefix-beam-search-shallow-fussion"
    words = [*using("rnn"), "--methods", method, "--lm-scales", "0.4,30.0"]
    said = call(decode.main, lm_folder, *words)
    assert said.status == 0, said.err
    rates = dict(re.findall(rf"{method}_rnn-lm-scale-(\S+): WER (\S+) % on dev", said.err))
    assert {*rates} == {"0.4", "30.0"}
    best = min(rates, key=lambda scale: float(rates[scale]))
    assert f"--methods chose {method}_rnn-lm-scale-{best}: WER {rates[best]} % on dev" in said.out
    assert list((lm_folder / "exp" / method).glob(f"errs-test-*_rnn-lm-scale-{best}_*.txt"))


def test_the_ctc_program_in_icefalls_words(lm_folder: Path, call: Call) -> None:
    method = "ctc-prefix-beam-search-shallow-fussion"
    words = [*HERE, "--decoding-method", method, "--nnlm-type", "rnn"]
    words += ["--lm-exp-dir", "rnn_lm_exp", "--lm-epoch", "2", "--skip-scoring", "1"]
    said = call(decode.ctc, lm_folder, *words)
    assert said.status == 2
    assert "the weight of the language model is 0" in said.error

    lodr = ["--nnlm-scale", "0.5", "--lodr-ngram", str(LANG / "2gram.arpa")]
    said = call(decode.ctc, lm_folder, *words, *lodr)
    assert said.status == 2
    assert "LODR subtracts the n-gram. Fix: give a negative scale" in said.error

    for more, name in (
        (lodr[:2], "_rnn-lm-scale-0.5_use"),
        ([*lodr, "--lodr-lm-scale", "-9.0"], "_rnn-lm-scale-0.5_LODR-2gram-scale--9.0_use"),
    ):
        said = call(decode.ctc, lm_folder, *words, *more)
        assert said.status == 0, said.err
        assert list((lm_folder / "exp" / method).glob(f"recogs-test-*{name}*.txt"))
    plain, without = (
        next((lm_folder / "exp" / method).glob(f"recogs-test-*-0.5_{end}*.txt")).read_text()
        for end in ("use", "LODR")
    )
    assert plain != without


@pytest.mark.parametrize("kind", SIZES)
def test_a_model_of_other_tokens_is_refused(kind: str, lm_folder: Path, call: Call) -> None:
    fusion = ["--decoding-method", "modified_beam_search_lm_shallow_fusion"]
    path = lm_folder / f"{kind}_lm_exp" / "epoch-2.pt"
    save_checkpoint(path, load_checkpoint(path) | {"token_table": "0" * 16})
    said = call(decode.main, lm_folder, *using(kind), *fusion)
    assert said.status == 4
    assert f"{kind}_lm_exp/epoch-2.pt was trained on other tokens than the model" in said.error
    assert said.error.endswith("with the tokenizer of the model: ./train_lm.py.")

    said = call(decode.main, lm_folder, *using(kind), "--lm-epoch", "7", *fusion)
    assert f"{kind}_lm_exp/epoch-7.pt does not exist; {kind}_lm_exp has epoch-1" in said.error
    assert "choose --lm-epoch and --lm-avg" in said.error

    other = "rnn" if kind == "transformer" else "transformer"
    wrong = [*using(kind), "--lm-exp-dir", f"{other}_lm_exp"]
    said = call(decode.main, lm_folder, *wrong, *fusion)
    assert said.status == 4
    assert said.error.endswith(f"Fix: give --lm-type {other}.")


def test_an_ngram_of_other_tokens_is_refused(lm_folder: Path, call: Call) -> None:
    path = lm_folder / LANG / "2gram.arpa"
    text, table = path.read_text(), open_ngrams(path).token_table
    assert table is not None
    fusion = ["--decoding-method", "modified_beam_search_lm_shallow_fusion", "--lm-type", "ngram"]
    # A file of another program does not say whose tokens it has; its words do.
    said = call(decode.main, lm_folder, *HERE, *fusion, "--tokens-ngram", "9")
    assert "make it: ./train_lm.py --lm-type ngram --ngram-order 9" in said.error
    for other, message in (
        (text.replace(table, "0" * 16), f"its token table is {'0' * 16}"),
        (text.replace(f"token-table: {table}\n", "").replace("▁", "▁▁"), "it has '▁▁"),
        ("0 1 5 0.5\n", "is no ARPA file: it has no line"),
    ):
        path.write_text(other)
        said = call(decode.main, lm_folder, *HERE, *fusion)
        assert said.status == 3
        assert message in said.error
