"""The attention decoder against torch's layers, plain formulas, and the published names."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.encoder.published import GOLDEN
from zipasr.encoder.zipformer.config import PRESETS
from zipasr.model.attention_decoder import (
    AttentionDecoderModel,
    DecoderLayer,
    MultiHeadAttention,
    sinusoids,
)
from zipasr.model.build import build_model
from zipasr.model.config import AttentionDecoderConfig, ModelConfig

TABLE: dict[str, Any] = json.loads((GOLDEN / "model" / "attention_decoder.json").read_text())
V, MEMORY = 11, 6
TOKENS = [[3, 3, 5], [], [2, 4, 6, 10, 2]]
LENS = torch.tensor([9, 4, 7])


def config(**changes: int) -> AttentionDecoderConfig:
    sizes = {"dim": 8, "num_layers": 2, "attention_dim": 12, "num_heads": 3, "feedforward_dim": 16}
    return AttentionDecoderConfig(**{**sizes, **changes})


def make_decoder(**changes: int) -> AttentionDecoderModel:
    torch.manual_seed(0)
    return AttentionDecoderModel(V, MEMORY, config(**changes), sentence_ends_id=1).double().eval()


@pytest.fixture
def memory() -> Tensor:
    return torch.randn(3, 9, MEMORY, generator=torch.Generator().manual_seed(1)).double()


def test_keys_shapes_and_size_are_the_published_ones() -> None:
    published = TABLE["config"]
    heads = ModelConfig(use_attention_decoder=True)
    assert published["attention_decoder_dim"] == heads.attention_decoder.dim
    for name in ("num_layers", "attention_dim", "num_heads", "feedforward_dim"):
        assert published[name] == getattr(heads.attention_decoder, name)
    with torch.device("meta"):
        model = build_model(PRESETS["medium"], heads, published["vocab_size"])
    shapes = {
        key: list(value.shape)
        for key, value in model.state_dict().items()
        if key.startswith(published["key_prefix"])
    }
    assert shapes == TABLE["shapes"]
    assert model.attention_decoder is not None
    size = sum(p.numel() for p in model.attention_decoder.parameters())
    assert size == TABLE["total_parameters"] == 25_736_692


# ------------------------------------------------------------------------------------ formulas


def test_positions_are_plain_sines_and_cosines() -> None:
    table = sinusoids(5, 6)
    for position in range(5):
        for column in range(6):
            angle = position / 10000 ** (2 * (column // 2) / 6)
            expected = math.cos(angle) if column % 2 else math.sin(angle)
            assert float(table[position, column]) == pytest.approx(expected, abs=1e-6)


def plain_attention(layer: MultiHeadAttention, x: Tensor, source: Tensor, mask: Tensor) -> Tensor:
    """One query and one head at a time, over the sources that it may see."""
    query, key, value = layer.linear_q(x), layer.linear_k(source), layer.linear_v(source)
    size = query.size(-1) // layer.num_heads
    out = torch.zeros_like(query)
    for n, u in torch.cartesian_prod(torch.arange(x.size(0)), torch.arange(x.size(1))):
        seen = ~mask.expand(x.size(0), 1, x.size(1), -1)[n, 0, u]
        for h in range(layer.num_heads):
            part = slice(h * size, (h + 1) * size)
            scores = key[n, seen, part] @ query[n, u, part] / math.sqrt(size)
            out[n, u, part] = scores.softmax(0) @ value[n, seen, part]
    result: Tensor = layer.out_proj(out)
    return result


@torch.no_grad()
@pytest.mark.parametrize("causal", [True, False])
def test_attention_equals_the_plain_sum(memory: Tensor, causal: bool) -> None:
    layer = MultiHeadAttention(8, MEMORY, 12, 3).double()
    x = torch.randn(3, 9 if causal else 4, 8).double()
    later = torch.ones(9, 9, dtype=torch.bool).triu(1)
    padding = (torch.arange(9) >= LENS[:, None])[:, None, None, :]
    mask = later[None, None] if causal else padding
    torch.testing.assert_close(
        layer(x, memory, mask), plain_attention(layer, x, memory, mask), rtol=0, atol=1e-12
    )


def torch_layer(ours: DecoderLayer) -> nn.TransformerDecoderLayer:
    """The layer of torch with our weights; it needs all widths to be equal."""
    layer = nn.TransformerDecoderLayer(
        8, 2, 16, dropout=0.0, activation=F.silu, batch_first=True, norm_first=True
    ).double()
    pairs = [(layer.self_attn, ours.self_attn), (layer.multihead_attn, ours.src_attn)]
    for theirs, attention in pairs:
        parts = (attention.linear_q, attention.linear_k, attention.linear_v)
        theirs.in_proj_weight.data = torch.cat([part.weight for part in parts])
        theirs.in_proj_bias.data = torch.cat([part.bias for part in parts])
        theirs.out_proj.load_state_dict(attention.out_proj.state_dict())
    for theirs, module in (
        (layer.norm1, ours.norm_self_attn),
        (layer.norm2, ours.norm_src_attn),
        (layer.norm3, ours.norm_ff),
        (layer.linear1, ours.feed_forward[0]),
        (layer.linear2, ours.feed_forward[3]),
    ):
        theirs.load_state_dict(module.state_dict())
    return layer.eval()


@torch.no_grad()
def test_the_decoder_equals_torchs_layers_and_the_smoothed_formula() -> None:
    torch.manual_seed(0)
    sizes = config(attention_dim=8, num_heads=2)
    model = AttentionDecoderModel(V, 8, sizes, sentence_ends_id=1).double().eval()
    for parameter in model.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.5)
    memory = torch.randn(3, 9, 8).double()
    padding = torch.arange(9) >= LENS[:, None]
    inputs = torch.tensor([[1, 3, 3, 5, 1, 1], [1, 1, 1, 1, 1, 1], [1, 2, 4, 6, 10, 2]])
    targets = [[3, 3, 5, 1], [1], [2, 4, 6, 10, 2, 1]]

    decoder = model.decoder
    x = decoder.embed(inputs) * math.sqrt(8) + sinusoids(6, 8).double()
    causal = nn.Transformer.generate_square_subsequent_mask(6, dtype=torch.float64)
    for layer in decoder.layers:
        assert isinstance(layer, DecoderLayer)
        x = torch_layer(layer)(x, memory, tgt_mask=causal, memory_key_padding_mask=padding)
    log_probs = decoder.output_layer(x).log_softmax(-1)

    expected = torch.zeros((), dtype=torch.float64)
    by_token = torch.zeros(3, 6, dtype=torch.float64)
    for n, ids in enumerate(targets):
        for u, token in enumerate(ids):
            wanted = torch.full((V,), 0.1 / V, dtype=torch.float64)
            wanted[token] += 0.9
            expected -= wanted @ log_probs[n, u]
            by_token[n, u] = -log_probs[n, u, token]
    torch.testing.assert_close(
        model.calc_att_loss(memory, LENS, TOKENS), expected, rtol=0, atol=1e-8
    )
    torch.testing.assert_close(model.nll(memory, LENS, TOKENS), by_token, rtol=0, atol=1e-8)


# ---------------------------------------------------------------------------------- properties


@torch.no_grad()
def test_padding_of_frames_and_of_transcripts_changes_nothing(memory: Tensor) -> None:
    model = make_decoder()
    together = model.nll(memory, LENS, TOKENS)
    loss = model.calc_att_loss(memory, LENS, TOKENS)
    spoilt = memory.masked_fill((torch.arange(9) >= LENS[:, None])[:, :, None], 1e4)
    assert torch.equal(model.nll(spoilt, LENS, TOKENS), together)
    losses = []
    for n, ids in enumerate(TOKENS):
        frames = memory[n : n + 1, : LENS[n]]
        alone = model.nll(frames, LENS[n : n + 1], [ids])
        assert alone.shape == (1, len(ids) + 1)
        torch.testing.assert_close(together[n, : len(ids) + 1], alone[0])
        assert not together[n, len(ids) + 1 :].any()
        losses.append(model.calc_att_loss(frames, LENS[n : n + 1], [ids]))
    torch.testing.assert_close(torch.stack(losses).sum(), loss)


@torch.no_grad()
def test_a_token_is_scored_without_knowing_what_follows(memory: Tensor) -> None:
    model = make_decoder()
    one, other = (model.nll(memory[:1], LENS[:1], [[3, 7, last, 2]]) for last in (4, 9))
    assert torch.equal(one[0, :2], other[0, :2])
    assert not torch.isclose(one[0, 2:], other[0, 2:]).any()


@torch.no_grad()
def test_likelihoods_of_all_next_tokens_add_up_to_one(memory: Tensor) -> None:
    model = make_decoder()
    frames, lens = memory[:1].expand(V, -1, -1), LENS[:1].expand(V)
    following = model.nll(frames, lens, [[3, token] for token in range(V)])[:, 1]
    assert float((-following).exp().sum()) == pytest.approx(1.0)


def gradient_of_large_scores(size: float, mask: Tensor) -> Tensor:
    layer = MultiHeadAttention(4, 4, 4, 1)
    for part in (layer.linear_q, layer.linear_k):
        nn.init.eye_(part.weight)
        nn.init.zeros_(part.bias)
    x = torch.full((1, 2, 4), size)
    (0.0 * layer(x, x, mask)).sum().backward()
    assert layer.linear_q.weight.grad is not None
    return layer.linear_q.weight.grad


def test_scores_beyond_fifty_are_penalized_where_they_are_used() -> None:
    # The score of a pair is 4 size^2 / sqrt(4).
    nothing = torch.zeros(2, 2, dtype=torch.bool)
    assert not gradient_of_large_scores(4.9, nothing).any()
    penalized = gradient_of_large_scores(5.1, nothing)
    # 1e-4 for each of 4 pairs, times the key and the query over 2.
    torch.testing.assert_close(penalized, torch.full((4, 4), 1e-4 * 4 * 5.1 * 5.1 / 2))
    causal = gradient_of_large_scores(5.1, torch.ones(2, 2, dtype=torch.bool).triu(1))
    torch.testing.assert_close(causal, 0.75 * penalized)


def test_mixed_precision_gives_float32_losses_near_the_exact_ones(memory: Tensor) -> None:
    model = make_decoder().float()
    frames = memory.float()
    exact = model.calc_att_loss(frames, LENS, TOKENS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.calc_att_loss(frames, LENS, TOKENS)
        nll = model.nll(frames, LENS, TOKENS)
    assert loss.dtype == nll.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=0.03, atol=0.0)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@torch.no_grad()
def test_dropout_acts_in_training_alone(memory: Tensor) -> None:
    model = make_decoder()
    still = [float(model.calc_att_loss(memory, LENS, TOKENS)) for _ in range(2)]
    model.train()
    moving = [float(model.calc_att_loss(memory, LENS, TOKENS)) for _ in range(2)]
    assert still[0] == still[1]
    assert len({still[0], *moving}) == 3
