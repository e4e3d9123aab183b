"""The transformer language model: step by step, from kept beginnings, and as a whole."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zipasr.lm.config import TransformerLmConfig
from zipasr.lm.transformer import PrefixCache, TransformerLm, turn

SIZES = TransformerLmConfig(
    transformer_lm_embedding_dim=16,
    transformer_lm_encoder_dim=16,
    transformer_lm_dim_feedforward=24,
    transformer_lm_nhead=2,
    transformer_lm_num_layers=3,
)
SEQUENCES = st.lists(st.lists(st.integers(2, 6), max_size=6).map(tuple), min_size=1, max_size=6)


def tiny(sizes=SIZES):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TransformerLm(7, sizes, 1).eval()


MODEL = tiny()


def asked_whole(sequence):
    """Log-probabilities after a sequence, from all of it at once."""
    with torch.no_grad():
        return MODEL.logits(torch.tensor([[1, *sequence]]))[0, -1].log_softmax(dim=-1)


@settings(max_examples=40)
@given(batches=st.lists(SEQUENCES, min_size=1, max_size=4), most=st.sampled_from([1, 5, None]))
def test_kept_beginnings_change_no_number(batches, most):
    prefixes = PrefixCache(MODEL, most)
    for batch in batches:
        got = prefixes.log_probs(batch)
        want = torch.stack([asked_whole(sequence) for sequence in batch])
        torch.testing.assert_close(got, want, atol=1e-5, rtol=0)


def test_a_sentence_is_the_product_of_its_steps():
    sentences = [[2, 3, 4], [], [5]]
    nll = MODEL.nll(sentences)
    assert nll.shape == (3, 4)
    assert nll[1, 1:].tolist() == [0.0, 0.0, 0.0]
    for row, ids in zip(nll.tolist(), sentences, strict=True):
        for place, token in enumerate([*ids, 1]):
            assert row[place] == pytest.approx(-asked_whole(ids[:place])[token].item(), abs=1e-5)
    assert MODEL(sentences).item() == pytest.approx(nll.sum().item())


def test_attention_by_its_formula():
    """One layer, one head, by loops: softmax of the products of turned queries and keys."""
    sizes = TransformerLmConfig(
        transformer_lm_embedding_dim=4,
        transformer_lm_encoder_dim=4,
        transformer_lm_dim_feedforward=5,
        transformer_lm_nhead=1,
        transformer_lm_num_layers=1,
    )
    layer = tiny(sizes).layers[0]
    x = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = layer.attention_in(layer.norm_attention(x))[0]

        def turned(vector, place):
            for pair, rate in ((0, 1.0), (1, 0.01)):
                one, other = vector[pair].item(), vector[pair + 2].item()
                vector = vector.clone()
                vector[pair] = one * math.cos(place * rate) - other * math.sin(place * rate)
                vector[pair + 2] = one * math.sin(place * rate) + other * math.cos(place * rate)
            return vector

        for place in range(3):
            query = turned(y[place, :4], place)
            keys = torch.stack([turned(y[n, 4:8], n) for n in range(place + 1)])
            weights = (keys @ query / 2.0).softmax(dim=0)
            h = x[0, place] + layer.attention_out(weights @ y[: place + 1, 8:])
            want = h + layer.feed_forward(layer.norm_feed_forward(h))
            got = layer(x, turn(torch.arange(3), 4))[0, place]
            torch.testing.assert_close(got, want, atol=1e-6, rtol=0)


def test_weights_can_be_tied_or_not():
    assert MODEL.output_linear.weight is MODEL.input_embedding.weight
    sizes = TransformerLmConfig(
        transformer_lm_embedding_dim=8,
        transformer_lm_encoder_dim=16,
        transformer_lm_dim_feedforward=24,
        transformer_lm_nhead=2,
        transformer_lm_num_layers=1,
        transformer_lm_tie_weights=False,
    )
    assert tiny(sizes).nll([[2, 3]]).shape == (1, 3)
    for flags, message in (
        ({"transformer_lm_nhead": 5}, "even multiple of --transformer-lm-nhead, got 768 and 5"),
        ({"transformer_lm_embedding_dim": 8}, "to be equal, got 8 and 768"),
        ({"transformer_lm_num_layers": 0}, "--transformer-lm-num-layers must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            TransformerLmConfig(**flags)
