"""How often speech is encoded and files are read: once, for however many searches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.captured_output import Call
from zipasr.cli import decode
from zipasr.encoder.zipformer.prepared import PreparedZipformer
from zipasr.lm import ngram_file
from zipasr.recognition import acoustic_model
from zipasr.recognition.recogniser import Recogniser
from zipasr.search.methods import METHODS
from zipasr.search.protocol import ScaleSetting, Utterance
from zipasr.search.rescoring import WholeUtteranceSearch
from zipasr.text.tokenizer import Tokenizer

HERE = ("--num-workers", "0")
BPE = Path("data/tones/lang_bpe/bpe.model")
Count = Callable[[Any, str], None]


@pytest.fixture
def counted() -> Counter[str]:
    return Counter()


@pytest.fixture
def count(counted: Counter[str], monkeypatch: pytest.MonkeyPatch) -> Count:
    """Count the calls of a function of a module or a class."""

    def replace(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def counting(*given: Any, **named: Any) -> Any:
            counted[name] += 1
            return real(*given, **named)

        monkeypatch.setattr(owner, name, counting)

    return replace


@pytest.fixture
def token_ngram(run_folder: Path) -> tuple[str, ...]:
    """Flags of a language model: an n-gram over the tokens of the run."""
    pieces = Tokenizer.from_file(run_folder / BPE).pieces()[3:]
    lines = "".join(f"-0.5\t{piece}\n" for piece in ("</s>", *pieces))
    (run_folder / "tokens.arpa").write_text(
        f"\\data\\\nngram 1={1 + len(pieces)}\n\n\\1-grams:\n{lines}\n\\end\\\n"
    )
    return "--lm-type", "ngram", "--ngram-lm", "tokens.arpa"


def test_methods_are_compared_with_one_model_that_encodes_dev_once(
    run_folder: Path, call: Call, count: Count, counted: Counter[str]
) -> None:
    count(PreparedZipformer, "encode")
    said = call(decode.main, run_folder, *HERE, "--test-sets", "dev")
    assert said.status == 0, said.err
    num_batches = counted["encode"]
    assert num_batches > 0
    counted.clear()
    count(acoustic_model, "stored_model")
    methods = "greedy_search,modified_beam_search,ctc-greedy-search,fast_beam_search"
    said = call(decode.main, run_folder, *HERE, "--methods", methods, "--test-sets", "dev")
    assert said.status == 0, said.err
    assert len([line for line in said.out.splitlines() if line.startswith("dev ")]) == 5
    # Once for all methods, and once more for the set that the best one decodes.
    assert counted == {"encode": 2 * num_batches, "stored_model": 2}


def test_a_language_model_is_read_once_for_all_methods_and_weights(
    run_folder: Path,
    call: Call,
    count: Count,
    counted: Counter[str],
    token_ngram: tuple[str, ...],
) -> None:
    count(ngram_file, "open_ngrams")
    methods = "modified_beam_search_lm_shallow_fusion,modified_beam_search_lm_rescore"
    words = (*token_ngram, "--lm-scales", "0.1,0.2", "--methods", methods)
    said = call(decode.main, run_folder, *HERE, *words)
    assert said.status == 0, said.err
    # Once on dev, and once for the method that was chosen.
    assert counted == {"open_ngrams": 2}


def test_streams_read_a_language_model_once(
    run_folder: Path,
    call: Call,
    count: Count,
    counted: Counter[str],
    token_ngram: tuple[str, ...],
) -> None:
    count(ngram_file, "open_ngrams")
    words = (*token_ngram, "--decoding-method", "modified_beam_search_lm_shallow_fusion")
    said = call(decode.streaming, run_folder, *HERE, *words)
    # The model of the run is not causal: that is found after all files were read.
    assert (said.status, "the model is not causal" in said.error) == (2, True)
    assert counted == {"open_ngrams": 1}


def test_one_setting_of_a_rescoring_is_used_alone(prepared: Path) -> None:
    settings = (ScaleSetting("_a", (1.0,)), ScaleSetting("_b", (-1.0,)))
    nbest = [[Utterance([1], [0], -1.0), Utterance([2], [0], -2.0)]]
    search = WholeUtteranceSearch(lambda frames, lens: nbest, (), settings, settings[0])
    tokenizer, nothing = Tokenizer.from_file(prepared / BPE), torch.zeros(1, 2, 3)
    recogniser = Recogniser(None, tokenizer, METHODS["nbest-rescoring"], search)  # type: ignore[type-var]
    lens = torch.tensor([2])
    every = recogniser.best_by_setting(nothing, lens, ["x"])
    assert {name: one.tokens for name, (one,) in every.items()} == {"_a": [1], "_b": [2]}
    alone = recogniser.with_setting("_b").best_by_setting(nothing, lens, ["x"])
    assert alone == {"_b": every["_b"]}
