"""Adapters: the same function before, a plain model afterwards, and few numbers in between."""

from __future__ import annotations

import torch
from torch import nn

from zipasr.nn.fused import ActivationDropoutAndLinear
from zipasr.nn.lora import adapted_layers, add_adapter, draw_adapters, is_adapter, merged

X = torch.linspace(-1.0, 1.0, 48).view(2, 3, 8)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 6), ActivationDropoutAndLinear(6, 5, "SwooshL"))


def adapted(scale: float = 0.5) -> nn.Sequential:
    net = network()
    for layer in list(net):
        add_adapter(layer, 2, scale)
    return net


def test_an_adapter_starts_as_what_it_adapts() -> None:
    plain, net = network(), adapted()
    assert torch.equal(net(X), plain(X))
    draw_adapters(net)
    assert all(adapter.lora_b.square().mean() > 0 for _, adapter in adapted_layers(net))
    torch.testing.assert_close(net(X), plain(X), rtol=1e-5, atol=1e-6)


def test_only_adapters_and_biases_have_gradients() -> None:
    net = adapted()
    draw_adapters(net)
    net(X).square().sum().backward()
    with_grad = {name for name, p in net.named_parameters() if p.grad is not None}
    expected = {name for name, _ in net.named_parameters() if is_adapter(name) or "bias" in name}
    assert with_grad == expected
    assert sum(is_adapter(name) for name in with_grad) == 4


def test_the_product_is_as_large_as_the_scale_says() -> None:
    net = adapted(scale=0.5)
    before = network()[0].weight.square().mean().sqrt()
    draw_adapters(net)
    _, adapter = next(adapted_layers(net))
    product = (adapter.scale * (adapter.lora_b @ adapter.lora_a)).detach()
    assert 0.2 < float(product.square().mean().sqrt() / before) < 1.0


def test_merged_weights_compute_the_same() -> None:
    net, plain = adapted(), network()
    draw_adapters(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        net(X).square().sum().backward()
        optimizer.step()
    state = merged(net.state_dict())
    assert state.keys() == plain.state_dict().keys()
    plain.load_state_dict(state)
    torch.testing.assert_close(plain(X), net(X), rtol=1e-6, atol=1e-6)
    assert not torch.allclose(plain(X), network()(X), atol=1e-3)


def test_autocast_does_not_round_the_sum() -> None:
    net, plain = adapted(), network()
    draw_adapters(net)
    plain.load_state_dict(merged(net.state_dict()))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net(X), plain(X))


def test_a_state_without_adapters_stays_as_it_is() -> None:
    state = network().state_dict()
    same = merged(state)
    assert same.keys() == state.keys()
    assert all(same[name] is tensor for name, tensor in state.items())
