from itertools import groupby

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zipasr.search.ctc_greedy import CtcGreedySearch, CtcHead

from . import golden


@pytest.mark.parametrize("run", golden.runs("ctc_greedy_search"), ids=lambda run: run["id"])
def test_reference_results(run):
    logits = golden.arrays()[run["options"]["input"]]
    golden.check(
        CtcGreedySearch(CtcHead(lambda frames: frames))(logits, golden.arrays()["lens"]), run
    )


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    path=st.lists(st.integers(0, 3), max_size=12),
    padding=st.lists(st.integers(0, 3), max_size=3),
)
def test_joins_repeats_and_drops_blanks(path, padding):
    probabilities = torch.full((1, len(path + padding), 4), 0.1)
    for time, symbol in enumerate(path + padding):
        probabilities[0, time, symbol] = 0.7
    (utterance,) = CtcGreedySearch(CtcHead(torch.log))(probabilities, torch.tensor([len(path)]))
    runs = [list(run) for _, run in groupby(enumerate(path), key=lambda item: item[1])]
    assert utterance.tokens == [run[0][1] for run in runs if run[0][1] != 0]
    assert utterance.frames == [run[0][0] for run in runs if run[0][1] != 0]
    want = len(path) * torch.log(torch.tensor(0.7)).item()
    assert abs(utterance.log_prob - want) < 1e-4


def test_blank_penalty_and_temperature():
    logits = torch.tensor([[[2.0, 1.5, 0.0]]])
    (plain,) = CtcGreedySearch(CtcHead(lambda frames: frames))(logits, torch.tensor([1]))
    (changed,) = CtcGreedySearch(
        CtcHead(lambda frames: frames, blank_penalty=1.0, temperature=2.0)
    )(logits, torch.tensor([1]))
    assert (plain.tokens, changed.tokens) == ([], [1])
    want = torch.log_softmax(torch.tensor([0.5, 0.75, 0.0]), dim=0)[1].item()
    assert abs(changed.log_prob - want) < 1e-6


def test_lengths_that_do_not_fit():
    with pytest.raises(ValueError, match="do not fit 2 encoder frames"):
        CtcGreedySearch(CtcHead(lambda x: x))(torch.zeros(1, 2, 3), torch.tensor([3]))
