"""The fused layer against its three parts."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zipasr.nn.activations import SWOOSHES, SwooshName, swoosh_l, swoosh_r
from zipasr.nn.fused import ActivationDropoutAndLinear, _FusedFunction
from zipasr.nn.schedule import dropout_mask

names = pytest.mark.parametrize("name", ["SwooshL", "SwooshR"])


@names
def test_values_of_the_reference(golden: dict[str, Tensor], name: SwooshName) -> None:
    layer = ActivationDropoutAndLinear(8, 5, name)
    layer.load_state_dict({"weight": golden["actlin.w"], "bias": golden["actlin.b"]})
    x = golden[f"actlin.{name}.x"].clone().requires_grad_()
    y = layer(x)
    y.backward(golden["actlin.gout"])
    found = {"y": y.detach(), "gx": x.grad, "gw": layer.weight.grad, "gb": layer.bias.grad}
    for key, value in found.items():
        torch.testing.assert_close(value, golden[f"actlin.{name}.{key}"], rtol=1e-5, atol=1e-5)


@names
@pytest.mark.parametrize("shared_dim", [0, -1, None, "no mask"])
@pytest.mark.parametrize("has_bias", [True, False])
def test_derivative_by_finite_differences(
    name: SwooshName, shared_dim: int | str | None, has_bias: bool
) -> None:
    x = torch.randn(4, 2, 3, dtype=torch.float64).mul(3).requires_grad_()
    weight = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(5, dtype=torch.float64, requires_grad=True) if has_bias else None
    mask = None if shared_dim == "no mask" else dropout_mask(x, 0.4, shared_dim)

    def function(*tensors: Tensor | None) -> Tensor:
        return _FusedFunction.call(*tensors, mask, SWOOSHES[name])

    assert torch.autograd.gradcheck(function, (x, weight, bias))


def test_dropout_shares_its_mask_over_time_and_is_off_in_eval() -> None:
    layer = ActivationDropoutAndLinear(6, 6, "SwooshL", dropout_p=0.5, dropout_shared_dim=0)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(6))
        layer.bias.zero_()
    x = torch.randn(50, 2, 6)
    ratio = layer(x) / swoosh_l(x)
    assert torch.allclose(ratio, ratio[:1].expand_as(ratio), atol=1e-4)
    assert set(ratio[0].flatten().round().tolist()) == {0.0, 2.0}
    torch.testing.assert_close(layer.eval()(x), swoosh_l(x))


@pytest.mark.parametrize("frozen", ["x", "weight", "bias"])
def test_no_gradient_for_what_is_frozen(frozen: str) -> None:
    layer = ActivationDropoutAndLinear(3, 2, "SwooshR")
    tensors = {"x": torch.randn(4, 3), "weight": layer.weight, "bias": layer.bias}
    for key, tensor in tensors.items():
        tensor.requires_grad_(key != frozen)
    layer(tensors["x"]).sum().backward()
    assert {key for key, tensor in tensors.items() if tensor.grad is None} == {frozen}


@pytest.mark.parametrize("backward_inside", [True, False])
def test_autocast_multiplies_in_bfloat16_and_returns_float32_gradients(
    backward_inside: bool,
) -> None:
    layer = ActivationDropoutAndLinear(32, 16, "SwooshR")
    x = torch.randn(10, 2, 32, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        if backward_inside:
            y.float().square().sum().backward()
    if not backward_inside:
        y.float().square().sum().backward()
    expected_x = x.detach().clone().requires_grad_()
    expected = F.linear(swoosh_r(expected_x), layer.weight, layer.bias)
    expected_grads = torch.autograd.grad(
        expected.square().sum(), (expected_x, layer.weight, layer.bias)
    )
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), expected, rtol=0.02, atol=0.02)
    for tensor, wanted in zip((x, layer.weight, layer.bias), expected_grads, strict=True):
        assert tensor.grad is not None
        assert tensor.grad.dtype == torch.float32
        assert (tensor.grad - wanted).norm() < 0.02 * wanted.norm()


def test_saves_only_the_input_and_the_weight() -> None:
    layer = ActivationDropoutAndLinear(3, 2, "SwooshL", dropout_p=0.0)
    x = torch.randn(4, 3, requires_grad=True)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        layer(x)
    assert [t.data_ptr() for t in saved] == [x.data_ptr(), layer.weight.data_ptr()]


def test_initial_values_are_scaled() -> None:
    layer = ActivationDropoutAndLinear(100, 100, "SwooshL", initial_scale=0.1)
    assert layer.weight.abs().max().item() <= 0.1 * 0.1
    assert 0.009 < layer.bias.abs().max().item() <= 0.01
    assert list(layer.state_dict()) == ["weight", "bias"]
    assert ActivationDropoutAndLinear(3, 2, "SwooshL", bias=False).bias is None
    assert isinstance(layer.bias, nn.Parameter)
