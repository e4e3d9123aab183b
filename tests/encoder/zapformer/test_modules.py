"""Single modules of the Zapformer against recorded results and gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.encoder.zapformer.published import GOLDEN, MORE, filled, load, needs_more
from zipasr.encoder.attention_scores import mean_penalty_gradient
from zipasr.encoder.chunk_masks import Masks, chunk_mask
from zipasr.encoder.chunks import Chunks
from zipasr.encoder.zapformer.attention import SelfAttention, WeightedMean
from zipasr.encoder.zapformer.config import LayerConfig
from zipasr.encoder.zapformer.front_end import AddNoise, ConvNeXt
from zipasr.encoder.zapformer.layer import ConvolutionModule, FeedForward, ZapformerLayer
from zipasr.encoder.zapformer.mixing import MAX_SCORE, Hidden, Inputs, mix
from zipasr.encoder.zapformer.model import single_frames, stacked_frames
from zipasr.encoder.zapformer.norm import CausalSequenceNorm, RmsNorm, SequenceNorm
from zipasr.encoder.zapformer.penalties import (
    OrthogonalLinear,
    correlation_gradient,
    scale_gradient,
)
from zipasr.encoder.zapformer.positions import (
    RelativePositions,
    frequencies,
    position_table,
    recorded_table,
)
from zipasr.nn.activations import SWOOSHES, swoosh_gradient, swoosh_value
from zipasr.nn.fused import activation_dropout_linear

FIRST = load(GOLDEN / "modules.npz")
SECOND = load(MORE / "modules.npz") if MORE.is_dir() else {}
PADDING = torch.from_numpy(FIRST["mask"])
LAYER = LayerConfig(
    encoder_dim=16,
    feedforward_dim=32,
    num_heads=4,
    query_head_dim=5,
    value_head_dim=6,
    pos_head_dim=3,
    conv_params=7,
)
SMALL = LayerConfig(
    encoder_dim=12,
    feedforward_dim=36,
    num_heads=2,
    query_head_dim=4,
    value_head_dim=3,
    pos_head_dim=4,
    conv_params=5,
)


def tensor(key: str, table: dict[str, np.ndarray] = FIRST) -> Tensor:
    return torch.from_numpy(table[key])


def near(actual: Tensor, expected: np.ndarray, share: float = 1e-5) -> None:
    """Compare, with a tolerance in units of the largest value."""
    limit = share * max(1e-3, float(np.abs(expected).max(initial=0.0)))
    right = torch.from_numpy(np.asarray(expected)).to(actual.dtype)
    torch.testing.assert_close(actual.detach(), right, rtol=0, atol=limit)


def second_padding() -> Tensor:
    return torch.arange(13)[None] >= tensor("lens", SECOND)[:, None]


def causal(config: LayerConfig) -> LayerConfig:
    fields = {name: getattr(config, name) for name in config.__slots__}
    return LayerConfig(**fields | {"causal": True})


NORMS: dict[str, tuple[Callable[[], nn.Module], tuple[Tensor, ...]]] = {
    "rms": (RmsNorm, ()),
    "seq": (SequenceNorm, ()),
    "seqmask": (SequenceNorm, (PADDING,)),
    "causalseq": (CausalSequenceNorm, ()),
}


@pytest.mark.parametrize("name", NORMS)
def test_norms(name: str) -> None:
    make, arguments = NORMS[name]
    norm = make()
    values = {
        "scale": 0.6,
        "eps": 0.3,
        "offset": 0.2,
        "ballast_rms": 0.4,
        "ballast_frames": 0.03,
    }
    with torch.no_grad():
        for key, parameter in norm.named_parameters():
            parameter.fill_(values[key])
    x = tensor("norm.x").requires_grad_()
    y = norm(x, *arguments)
    near(y, FIRST[f"norm.{name}.y"])
    y.backward(tensor("norm.gy"))
    assert x.grad is not None
    near(x.grad, FIRST[f"norm.{name}.gx"])
    for key, parameter in norm.named_parameters():
        assert parameter.grad is not None
        near(parameter.grad, FIRST[f"norm.{name}.g_{key}"])


def test_norm_in_pieces_and_of_silence() -> None:
    norm = CausalSequenceNorm()
    x = torch.randn(12, 3, 6)
    memory = norm.initial_sums(3, "cpu")
    with torch.no_grad():
        pieces = torch.cat([norm(piece, memory) for piece in x.split([5, 4, 3])])
        torch.testing.assert_close(pieces, norm(x))
    assert memory.count.tolist() == [17.0] * 3
    silence = torch.zeros(4, 2, 6, requires_grad=True)
    SequenceNorm()(silence).sum().backward()
    assert silence.grad is not None
    assert silence.grad.isfinite().all()


def test_activations() -> None:
    x = tensor("swash.x")
    for name, key in (("SwashL", "l"), ("SwashR", "r")):
        swoosh = SWOOSHES[name]  # type: ignore[index]
        near(swoosh_value(x, swoosh), FIRST[f"swash.{key}"])
        near(swoosh_gradient(x, swoosh, torch.ones_like(x)), FIRST[f"swash.d{key}"])
        # Through the compiled loops, where there are any.
        many = x.repeat(100)
        near(swoosh_value(many, swoosh), np.tile(FIRST[f"swash.{key}"], 100))
        ones = torch.ones_like(many)
        near(swoosh_gradient(many, swoosh, ones), np.tile(FIRST[f"swash.d{key}"], 100))


def test_activation_and_linear() -> None:
    x, w, b = (tensor(f"actlin.{n}").requires_grad_() for n in ("x", "w", "b"))
    y = activation_dropout_linear(x, w, b, None, "SwashR")
    near(y, FIRST["actlin.y"])
    y.backward(tensor("actlin.gy"))
    for name, value in (("x", x), ("w", w), ("b", b)):
        assert value.grad is not None
        near(value.grad, FIRST[f"actlin.g{name}"])


def test_scale_penalty() -> None:
    found = tensor("scalelim.gy") + scale_gradient(tensor("scalelim.x"), 0.7, 1.0)
    near(found, FIRST["scalelim.gx"])
    assert scale_gradient(torch.zeros(2, 4), 1.0, 1.0).eq(0.0).all()


def score_of(x: Tensor, padding: Tensor | None) -> Tensor:
    """Return the mean product of the second moments of both halves, the plain way."""
    units = x / (x.square().mean(-1, keepdim=True) + 1e-20).sqrt()
    valid = torch.ones(x.shape[:2]) if padding is None else (~padding).t().float()
    moments = []
    for start in (0, 1):
        part, counts = units[:, start::2], valid[:, start::2]
        moments.append(torch.einsum("tnc,tnd,tn->cd", part, part, counts) / counts.sum())
    return (moments[0] * moments[1]).mean()


@given(num=st.integers(4, 7), seed=st.integers(0, 99), padded=st.booleans())
def test_correlation_penalty(num: int, seed: int, padded: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = (torch.randn(9, num, 5, generator=generator) + 0.7).requires_grad_()
    padding = torch.arange(9)[None] >= torch.tensor([[9, *range(4, 3 + num)]]).t()
    mask = padding if padded else None
    (2.0 * 9 * num * torch.relu(score_of(x, mask) - 0.25)).backward()
    assert x.grad is not None
    found = correlation_gradient(x.detach(), mask, 2.0, 0.25)
    torch.testing.assert_close(found, x.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("num", [4, 5])
def test_recorded_correlation_penalty(num: int) -> None:
    x, grad = (tensor(f"corrlim{num}.{n}").transpose(0, 1) for n in ("x", "gy"))
    lens = torch.tensor([9, 8, 5, 9, 3])
    padding = None if num == 4 else torch.arange(9)[None] >= lens[:, None]
    expected = FIRST[f"corrlim{num}.gx"].swapaxes(0, 1)
    # Weighted by twice alpha in a layer; here alpha itself is given.
    found = [grad + correlation_gradient(x, padding, a, 0.25) for a in (0.9, 1.8)]
    gaps = [float((one - torch.from_numpy(expected)).abs().max()) for one in found]
    assert min(gaps) < 1e-5 * float(np.abs(expected).max())


@pytest.mark.parametrize("name", ["attnpen", "attnpenmask"])
def test_score_penalty(name: str) -> None:
    scores = tensor(f"{name}.x")  # (H, N, T, S)
    penalty = 0.6 / (8 * len(scores))
    extra = mean_penalty_gradient(scores, scores.softmax(-1), MAX_SCORE, penalty)
    if "mask" in name:
        extra.masked_fill_(PADDING[None, :, :8, None], 0.0)
    near(tensor(f"{name}.gy") + extra, FIRST[f"{name}.gx"], 2e-5)


@pytest.mark.parametrize("name", ["orthwide", "orthtall"])
def test_projection(name: str) -> None:
    for start, transpose in (("", False), ("t_", True)):
        weight = tensor(f"{name}.w")
        layer = OrthogonalLinear(weight.size(1), weight.size(0))
        layer.load_state_dict({"weight": weight})
        x = tensor(f"{name}.{start}x").requires_grad_()
        y = layer(x, transpose)
        near(y, FIRST[f"{name}.{start}y"])
        y.backward(tensor(f"{name}.{start}gy"))
        assert x.grad is not None
        assert layer.weight.grad is not None
        near(x.grad, FIRST[f"{name}.{start}gx"])
        near(layer.weight.grad, FIRST[f"{name}.{start}gw"], 2e-5)


def test_weighted_mean() -> None:
    x = tensor("wmean.x")
    whole, so_far = WeightedMean(6, causal=False), WeightedMean(6, causal=True)
    for module in (whole, so_far):
        module.load_state_dict({"weights": tensor("wmean.w")})
    near(whole(x)[0], FIRST["wmean.plain"])
    near(whole(x, PADDING)[0], FIRST["wmean.mask"])
    near(so_far(x, PADDING), FIRST["wmean.causal"])


def test_positions() -> None:
    np.testing.assert_allclose(frequencies(), FIRST["basis.freqs"], atol=1e-6)
    # Sines of other instructions differ by 1e-5 at large arguments.
    near(position_table(-6, 6), FIRST["basis.s7.l0"], 3e-5)
    near(position_table(-399, 399)[::37], FIRST["basis.s400.every37"], 3e-5)
    near(recorded_table(7, torch.device("cpu")), FIRST["basis.s7.l0"], 3e-5)
    module = RelativePositions(2, 3)
    module.load_state_dict({"weight": tensor("relpos.w")})
    query = tensor("relpos.p").transpose(0, 1) if FIRST["relpos.p"].shape[0] != 2 else None
    for left, key in ((0, "relpos.scores"), (4, "relpos.scores_left4")):
        functions = module(position_table(-6 - left, 6))
        p = tensor("relpos.p") if query is None else query
        by_distance = torch.einsum("nhtd,hkd->nhtk", p, functions)
        i, j = torch.arange(7)[:, None], torch.arange(7 + left)[None]
        picked = by_distance.gather(-1, (6 - i + j).expand(2, 2, 7, 7 + left))
        expected = tensor(key)
        same = [
            torch.allclose(one, expected, atol=1e-5) for one in (picked, picked.transpose(0, 1))
        ]
        assert any(same)


def test_rates() -> None:
    x = tensor("rate.x")
    near(stacked_frames(x, 4), FIRST["rate.down4"])
    near(single_frames(x, 3), FIRST["rate.up3_of_x"])
    assert torch.equal(single_frames(stacked_frames(x, 2), 2), x)


def test_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "randn_like", lambda _: tensor("addnoise.noise"))
    near(AddNoise().train()(tensor("addnoise.x")), FIRST["addnoise.y"])
    x = tensor("addnoise.x")
    assert AddNoise().eval()(x) is x


@pytest.mark.parametrize("name", ["layer", "layercausal"])
@torch.no_grad()
def test_layer(name: str) -> None:
    config = causal(LAYER) if "causal" in name else LAYER
    layer = ZapformerLayer(config).eval()
    layer.load_state_dict({k: filled(f"m.{k}", v.shape) for k, v in layer.state_dict().items()})
    x, table = tensor(f"{name}.x"), position_table(-11, 11)
    chunk = chunk_mask(12, Chunks(4, 1), x.device) if config.causal else None
    masks = Masks(PADDING, chunk)
    near(layer.self_attn(x, 0.5 * x, table, masks), FIRST[f"{name}.attn"], 2e-5)
    near(layer.conv_module(x, PADDING), FIRST[f"{name}.conv"], 2e-5)
    near(layer.feed_forward1(x), FIRST[f"{name}.ff1"], 2e-5)
    near(layer(x, table, masks), FIRST[f"{name}.y"], 2e-5)
    near(layer(x, table), FIRST[f"{name}.y_nomask"], 2e-5)


def plain_mix(inputs: Inputs, hidden: Hidden, penalty: float) -> tuple[Tensor, Tensor]:
    """Return the mixed values and the penalty, with all scores in memory."""
    query, key, pos_query, pos_key, value = inputs
    targets, sources = query.size(2), key.size(2)
    by_distance = torch.einsum("nhtd,hkd->nhtk", pos_query, pos_key)
    i, j = torch.arange(targets)[:, None], torch.arange(sources)[None]
    index = (targets - 1 - i + j).expand(*by_distance.shape[:2], -1, -1)
    scores = torch.einsum("nhtd,nhsd->nhts", query, key) + by_distance.gather(-1, index)
    if hidden.chunk is not None:
        scores = scores.masked_fill(hidden.chunk, -1000.0)
    silent = torch.zeros(query.size(0), targets, dtype=torch.bool)
    if hidden.padding is not None:
        scores = scores.masked_fill(hidden.padding[:, None, None], -1000.0)
        silent = hidden.padding[:, sources - targets :]
    weights = scores.softmax(-1)
    mean = (weights * scores.abs()).sum(-1).masked_fill(silent[:, None], 0.0)
    return weights @ value, penalty * torch.relu(mean - 8.0).sum()


@pytest.mark.parametrize("targets", [7, 70, 700])
@pytest.mark.parametrize("masked", [False, True])
def test_mixing_is_what_it_is_the_plain_way(targets: int, masked: bool) -> None:
    """In one block, in blocks of heads, and in blocks of queries."""
    generator = torch.Generator().manual_seed(targets)
    shapes = [(2, 3, targets, 4), (2, 3, targets, 4), (2, 3, targets, 2)]
    shapes += [(3, 2 * targets - 1, 2), (2, 3, targets, 5)]
    values = [3.0 * torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    lens = torch.tensor([targets, targets // 2])
    padding = torch.arange(targets)[None] >= lens[:, None] if masked else None
    chunk = chunk_mask(targets, Chunks(max(1, targets // 5), 1), lens.device) if masked else None
    hidden, results = Hidden(padding, chunk), []
    for plain in (False, True):
        inputs = Inputs(*(value.clone().requires_grad_() for value in values))
        if plain:
            out, extra = plain_mix(inputs, hidden, 0.3)
        else:
            out, extra = mix(inputs, hidden, 0.3), torch.zeros(())
        ((out * out.detach().cos()).sum() + extra).backward()
        results.append([out, *(t.grad for t in inputs if t.grad is not None)])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)


CASES = {
    "rms": (RmsNorm, ["ap", "an", "bp", "bn"], None),
    "seqnorm": (SequenceNorm, [f"{c}.mask" for c in ("ap", "an", "bp", "bn")], "mask"),
    "seqnorm ": (SequenceNorm, [f"{c}.nomask" for c in ("ap", "an", "bp", "bn")], None),
    "cseqnorm": (CausalSequenceNorm, ["ap", "an", "bp", "bn"], None),
    "convnext": (lambda: ConvNeXt(4, causal=False), ["plain"], None),
    "convnext ": (lambda: ConvNeXt(4, causal=True), ["causal"], None),
    "ff": (lambda: FeedForward(12, 36), [""], None),
    "conv": (lambda: ConvolutionModule(SMALL), ["plain.mask"], "mask"),
    "conv ": (lambda: ConvolutionModule(SMALL), ["plain.nomask"], None),
    "conv  ": (lambda: ConvolutionModule(causal(SMALL)), ["causal.mask"], "mask"),
}


@needs_more
@pytest.mark.parametrize("name", CASES)
def test_second_set(name: str) -> None:
    make, cases, mask = CASES[name]
    for case in cases:
        start = f"{name.strip()}.{case}".rstrip(".")
        module = make().train()
        module.load_state_dict(
            {key: tensor(f"{start}.w.{key}", SECOND) for key in module.state_dict()}
        )
        x = tensor(f"{start}.x.x", SECOND).requires_grad_()
        y = module(x, second_padding()) if mask else module(x)
        near(y, SECOND[f"{start}.y"], 2e-5)
        y.backward(tensor(f"{start}.g", SECOND))
        assert x.grad is not None
        near(x.grad, SECOND[f"{start}.dx.x"], 2e-5)
        for key, parameter in module.named_parameters():
            assert parameter.grad is not None
            near(parameter.grad, SECOND[f"{start}.dw.{key}"], 5e-5)


@needs_more
@pytest.mark.parametrize("kind", ["plain", "causal"])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_attention_and_layer_of_the_second_set(kind: str, mode: str) -> None:
    config = causal(SMALL) if kind == "causal" else SMALL
    chunk = chunk_mask(13, Chunks(4, 1), torch.device("cpu")) if config.causal else None
    masks, table = Masks(second_padding(), chunk), position_table(-12, 12)
    for module, alpha in ((SelfAttention(config), 4.0), (ZapformerLayer(config), 1.5)):
        part = "attn" if isinstance(module, SelfAttention) else "layer"
        start = f"{part}.{kind}.{mode}"
        module.train(mode == "train")
        module.load_state_dict(
            {key: tensor(f"{start}.w.{key}", SECOND) for key in module.state_dict()}
        )
        names = ("a", "b") if part == "attn" else ("x",)
        inputs = [tensor(f"{start}.x.{n}", SECOND).requires_grad_() for n in names]
        y = module(*inputs, table, masks, alpha if mode == "train" else 0.0)
        near(y, SECOND[f"{start}.y"], 2e-5)
        y.backward(tensor(f"{start}.g", SECOND))
        for n, x in zip(names, inputs, strict=True):
            assert x.grad is not None
            near(x.grad, SECOND[f"{start}.dx.{n}"], 5e-5)
        for key, parameter in module.named_parameters():
            assert parameter.grad is not None
            near(parameter.grad, SECOND[f"{start}.dw.{key}"], 2e-4)
