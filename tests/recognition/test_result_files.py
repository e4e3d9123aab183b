"""Which results are those of a model, by the names of their files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from zipasr.checkpoint.config import ChooseCheckpoint
from zipasr.lm.config import GrammarConfig, LmConfig
from zipasr.recognition.config import RecognitionConfig
from zipasr.recognition.result_names import key_of, result_suffix, search_of, search_suffix
from zipasr.search.config import DecodingConfig

AVERAGED = ChooseCheckpoint(epoch=3, avg=1)
PLAIN = ChooseCheckpoint(epoch=3, avg=1, use_averaged_model=False)
BATCHES = ChooseCheckpoint(iter=4000, avg=2)
ONE_FILE = ChooseCheckpoint(checkpoint=Path("exp/epoch-3-avg-1.pt"))
GREEDY = "context-2_max-sym-per-frame-1"


@pytest.mark.parametrize(
    ("choose", "suffix", "search"),
    [
        (AVERAGED, f"epoch-3_avg-1_{GREEDY}_use-averaged-model", GREEDY),
        (AVERAGED, "epoch-3_avg-1_use-averaged-model", ""),
        (AVERAGED, f"epoch-3_avg-1_{GREEDY}", None),
        (AVERAGED, f"epoch-3_avg-15_{GREEDY}_use-averaged-model", None),
        (AVERAGED, f"epoch-30_avg-1_{GREEDY}_use-averaged-model", None),
        (PLAIN, f"epoch-3_avg-1_{GREEDY}", GREEDY),
        (PLAIN, "epoch-3_avg-1", ""),
        (PLAIN, f"epoch-3_avg-1_{GREEDY}_use-averaged-model", None),
        (BATCHES, f"iter-4000_avg-2_{GREEDY}_use-averaged-model", GREEDY),
        (BATCHES, f"epoch-3_avg-1_{GREEDY}_use-averaged-model", None),
        (ONE_FILE, f"epoch-3-avg-1_{GREEDY}", GREEDY),
        (ONE_FILE, f"epoch-3-avg-15_{GREEDY}", None),
        (ONE_FILE, f"epoch-3_avg-1_{GREEDY}_use-averaged-model", None),
    ],
)
def test_results_of_a_model(choose: ChooseCheckpoint, suffix: str, search: str | None) -> None:
    assert search_of(suffix, choose) == search


def config(method: str, **decoding: float) -> RecognitionConfig:
    return RecognitionConfig(
        exp_dir=Path("exp"),
        checkpoint=ChooseCheckpoint(),
        decoding=DecodingConfig(decoding_method=method, **decoding),
    )


def test_setting_keys() -> None:
    assert key_of(config("greedy_search")) == "greedy_search"
    assert key_of(config("ctc_greedy_search")) == "ctc_greedy_search"
    key = key_of(config("modified_beam_search", beam_size=8))
    assert key == "modified_beam_search_beam-size-8"


@pytest.mark.parametrize(
    ("method", "iteration", "averaged", "want"),
    [
        (
            "greedy_search",
            0,
            True,
            "epoch-30_avg-9_context-2_max-sym-per-frame-1_use-averaged-model",
        ),
        ("greedy_search", 4000, False, "iter-4000_avg-9_context-2_max-sym-per-frame-1"),
        ("modified_beam_search", 0, False, "epoch-30_avg-9__modified_beam_search__beam-size-4"),
        ("ctc_greedy_search", 0, True, "epoch-30_avg-9_use-averaged-model"),
    ],
)
def test_result_suffix(method: str, iteration: int, averaged: bool, want: str) -> None:
    search = search_suffix(config(method), context_size=2)
    choose = ChooseCheckpoint(epoch=30, iter=iteration, avg=9, use_averaged_model=averaged)
    assert result_suffix(search, choose) == want


def test_unusual_scores_have_their_own_file_names() -> None:
    unusual = config("modified_beam_search", blank_penalty=1.5, temperature=2.0)
    suffix = search_suffix(unusual, context_size=2)
    assert suffix == "__modified_beam_search__beam-size-4_blank-penalty-1.5_temperature-2.0"


@pytest.mark.parametrize(
    ("method", "shown"),
    [("greedy_search", False), ("modified_beam_search_LODR", True), ("1best", True)],
)
def test_exact_backoff_is_named_where_an_ngram_takes_part(method: str, shown: bool) -> None:
    usual = config(method)
    exact = replace(usual, grammar=GrammarConfig(exact_backoff=True))
    names = [search_suffix(one, 2) for one in (usual, exact)]
    assert names[1] == names[0] + ("_exact-backoff" if shown else "")


def test_exact_backoff_is_named_with_an_ngram_as_language_model() -> None:
    usual = replace(config("modified_beam_search_lm_shallow_fusion"), lm=LmConfig(lm_type="ngram"))
    exact = replace(usual, grammar=GrammarConfig(exact_backoff=True))
    assert search_suffix(exact, 2) == f"{search_suffix(usual, 2)}_exact-backoff"
    neural = replace(exact, lm=LmConfig(lm_type="rnn"))
    assert "exact" not in search_suffix(neural, 2)
