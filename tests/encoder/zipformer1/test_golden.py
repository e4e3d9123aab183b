"""The first Zipformer against numbers recorded from the reference."""

from __future__ import annotations

import gzip
import json
import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.encoder.zipformer1.published import GOLDEN, LENS, TINY, features, fill, seeded
from zipasr.encoder.zipformer1.config import Zipformer1Config
from zipasr.encoder.zipformer1.model import Zipformer
from zipasr.encoder.zipformer1.scaling import (
    STEP,
    ActivationBalancer,
    BasicNorm,
    DoubleSwish,
    EarlyWhiten,
    double_swish,
    double_swish_slope,
)
from zipasr.nn.gradients import penalize_abs_values_gt

Recorded = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def tiny() -> Zipformer:
    model = Zipformer(TINY).eval()
    fill(model, "encoder.")
    return model


@pytest.fixture(scope="module")
def forward() -> Recorded:
    return dict(np.load(GOLDEN / "forward.npz"))


@pytest.fixture(scope="module")
def scaling() -> Recorded:
    return dict(np.load(GOLDEN / "scaling.npz"))


def assert_close(actual: Tensor, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(actual.detach(), torch.from_numpy(expected), rtol=0, atol=tolerance)


@torch.no_grad()
def test_outputs(tiny: Zipformer, forward: Recorded) -> None:
    encoded, lens = tiny(features(), torch.tensor(LENS))
    assert lens.tolist() == forward["encoder_out_lens"].tolist()
    assert_close(encoded, forward["encoder_out"])
    alone, _ = tiny(features()[1:, : LENS[1]], torch.tensor(LENS[1:]))
    assert_close(alone, forward["encoder_out_second_alone"])


@torch.no_grad()
def test_blocks(tiny: Zipformer, forward: Recorded) -> None:
    seen: dict[str, Tensor] = {}

    def remember(name: str) -> None:
        def hook(
            _module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, object]
        ) -> None:
            seen[name] = output[0] if isinstance(output, tuple) else output

        hooks.append(tiny.get_submodule(name).register_forward_hook(hook))

    hooks: list[torch.utils.hooks.RemovableHandle] = []
    first = "encoders.0.layers.0"
    second_use = f"{first}.self_attn.forward2"
    for name in forward:
        module = name.removeprefix("tap.").removesuffix(".out")
        if name.startswith("tap.") and module != second_use:
            remember(module)
    # The second use is a method, not a module.
    attention = tiny.get_submodule(f"{first}.self_attn")
    original = attention.forward2
    attention.forward2 = lambda *a, **k: seen.setdefault(second_use, original(*a, **k))
    try:
        tiny(features(), torch.tensor(LENS))
    finally:
        del attention.forward2
        for hook in hooks:
            hook.remove()
    for name, expected in forward.items():
        if name.startswith("tap."):
            assert_close(seen[name.removeprefix("tap.").removesuffix(".out")], expected)


def test_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ActivationBalancer, "forward", lambda _, x: x)
    monkeypatch.setattr(EarlyWhiten, "forward", lambda _, x: x)
    recorded = json.loads((GOLDEN / "gradients.json").read_text())
    model = Zipformer(TINY).eval()
    fill(model, "encoder.")
    model.double()
    x = features().double().requires_grad_()
    encoded, _ = model(x, torch.tensor(LENS))
    loss = (encoded * seeded("encoder_out_grad", *encoded.shape).double()).sum()
    loss.backward()
    # Processors with other instructions draw weights and features that differ in the last bit.
    assert loss.item() == pytest.approx(recorded["loss"], rel=1e-5)
    assert x.grad is not None
    assert x.grad.norm().item() == pytest.approx(recorded["features_grad_norm"], rel=1e-5)
    norms = {key: p.grad.norm().item() for key, p in model.named_parameters()}
    assert norms == pytest.approx(recorded["grad_norm"], rel=1e-4, abs=1e-9)


def test_double_swish(scaling: Recorded) -> None:
    x = torch.from_numpy(scaling["double_swish.x"])
    assert_close(double_swish(x), scaling["double_swish.y"], 1e-6)
    assert_close(double_swish_slope(x.double()), scaling["double_swish.exact_deriv"], 1e-6)
    x.requires_grad_()
    layer = DoubleSwish()
    torch.manual_seed(0)
    layer(x).sum().backward()
    assert x.grad is not None
    assert_close(x.grad, scaling["double_swish.quantised_deriv_seed0"], 1e-6)
    error = x.grad.double() - torch.from_numpy(scaling["double_swish.exact_deriv"])
    assert error.abs().max() <= STEP + 1e-6
    x.grad = None
    layer.eval()(x).sum().backward()
    assert_close(x.grad.double(), scaling["double_swish.exact_deriv"], 1e-6)


def test_basic_norm(scaling: Recorded) -> None:
    norm = BasicNorm().eval()
    x = torch.from_numpy(scaling["basic_norm.x"]).requires_grad_()
    y = norm(x)
    y.backward(torch.from_numpy(scaling["basic_norm.y_grad"]))
    assert_close(y, scaling["basic_norm.y"], 1e-6)
    assert_close(x.grad, scaling["basic_norm.x_grad"], 1e-6)
    assert_close(norm.eps.grad, scaling["basic_norm.eps_grad"], 1e-5)


CONFIGURATIONS = {
    "default": {},
    "layer": {"min_positive": 0.45, "max_positive": 0.55, "max_abs": 6.0},
    "ff": {"max_abs": 10.0, "min_prob": 0.25},
    "conv1": {"max_abs": 10.0, "min_positive": 0.05, "max_positive": 1.0},
    "no_sign": {"min_positive": 0.0, "max_positive": 1.0, "max_abs": 0.8},
}


@pytest.mark.parametrize("data", ["shift", "mag", "both"])
@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("count", [0, 100000])
def test_balancer(
    scaling: Recorded, monkeypatch: pytest.MonkeyPatch, name: str, data: str, count: int
) -> None:
    monkeypatch.setattr(random, "random", lambda: 0.0)
    balancer = ActivationBalancer(channel_dim=1, **CONFIGURATIONS[name])
    balancer.num_calls = count
    x = torch.from_numpy(scaling[f"balancer.x.{data}"]).requires_grad_()
    y_grad = torch.from_numpy(scaling["balancer.y_grad"])
    balancer(x).backward(y_grad)
    assert x.grad is not None
    factor = (y_grad - x.grad) / y_grad.abs()
    start = f"balancer.{name}.{data}.count{count}."
    for sign, chosen in (("pos", x > 0), ("neg", x <= 0)):
        for channel, expected in enumerate(scaling[f"{start}factor_{sign}"]):
            found = factor[:, channel][chosen[:, channel]]
            # A factor is a small difference, divided by a gradient of about 1.
            assert np.isnan(expected) or found.median().item() == pytest.approx(expected, abs=1e-6)
    if f"{start}x_grad" in scaling:
        assert_close(x.grad, scaling[f"{start}x_grad"], 1e-6)


@pytest.mark.parametrize("case", ["a", "b", "c", "d", "e"])
def test_whiten(scaling: Recorded, case: str) -> None:
    start = f"whiten.{case}."
    whiten = EarlyWhiten(
        int(scaling[f"{start}groups"]), float(scaling[f"{start}limit"]), prob=1.0, grad_scale=0.1
    )
    x = torch.from_numpy(scaling[f"{start}x"]).requires_grad_()
    whiten(x).backward(torch.from_numpy(scaling[f"{start}y_grad"]))
    assert_close(x.grad, scaling[f"{start}x_grad"], 1e-6)


def test_penalty(scaling: Recorded) -> None:
    x = torch.from_numpy(scaling["penalize.x"]).requires_grad_()
    y = penalize_abs_values_gt(x, 10.0, 1e-4)
    y.backward(torch.from_numpy(scaling["penalize.y_grad"]))
    assert_close(y, scaling["penalize.y"], 1e-6)
    assert_close(x.grad, scaling["penalize.x_grad"], 1e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_keys_and_shapes_of_the_published_model(causal: bool) -> None:
    table = json.loads(gzip.decompress((GOLDEN / "state_dict.json.gz").read_bytes()))
    with torch.device("meta"):
        model = Zipformer(Zipformer1Config(causal=causal))
    ours = {f"encoder.{key}": list(value.shape) for key, value in model.state_dict().items()}
    assert ours == {key: shape for key, shape in table.items() if key.startswith("encoder.")}
    assert sum(p.numel() for p in model.parameters()) == 68_944_019
