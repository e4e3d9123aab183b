import math
from itertools import groupby, product

import torch
from hypothesis import given
from hypothesis import strategies as st

from zipasr.search.beam_state import extend_fingerprints, merge_equal


def fingerprints(sequences):
    """Of sequences of any lengths, in no order: all of one length at a time."""
    values = []
    for _, group in groupby(sorted(sequences, key=len), key=len):
        columns = torch.tensor(list(group), dtype=torch.int64).T
        value = torch.zeros(columns.size(1), dtype=torch.int64)
        for tokens in columns:
            value = extend_fingerprints(value, tokens)
        values += value.tolist()
    return values


def test_all_short_sequences_have_their_own_fingerprint():
    sequences = [s for length in range(1, 6) for s in product(range(1, 8), repeat=length)]
    assert len({0, *fingerprints(sequences)}) == 1 + len(sequences)


def test_neighbours_of_a_long_sequence_have_their_own_fingerprint():
    tokens = [5, 5, 7, 0, 499] * 40
    others = {tuple(tokens[:n]) for n in range(1, 200)}
    others |= {(*tokens[:n], 1, *tokens[n + 1 :]) for n in range(200)}
    others |= {(*tokens[:n], tokens[n + 1], tokens[n], *tokens[n + 2 :]) for n in range(199)}
    assert len(set(fingerprints(others))) == len(others)


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-20, 0)), min_size=1, max_size=8))
def test_merging_adds_probabilities_of_equal_hypotheses(hypotheses):
    hypotheses.sort(key=lambda pair: -pair[1])
    names, log_probs = zip(*hypotheses, strict=True)
    got = merge_equal(torch.tensor([log_probs]), torch.tensor([names]))[0].tolist()
    for slot, name in enumerate(names):
        if name in names[:slot]:
            assert got[slot] == -math.inf
        else:
            total = sum(math.exp(p) for other, p in hypotheses if other == name)
            assert abs(got[slot] - math.log(total)) < 1e-4


def test_an_empty_slot_stays_empty_and_a_single_hypothesis_exact():
    log_probs = torch.tensor([[-0.1234567, -math.inf, -math.inf]])
    assert torch.equal(merge_equal(log_probs, torch.tensor([[1, 1, 2]])), log_probs)
