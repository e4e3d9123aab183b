"""Which results are those of a model, by the names of their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from zipasr.checkpoint.config import ChooseCheckpoint
from zipasr.recognition.result_files import search_of

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
