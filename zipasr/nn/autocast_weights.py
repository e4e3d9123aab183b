"""Weights in the type of autocast, all of them made together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from zipasr.nn.fused import ActivationDropoutAndLinear


class _Narrowed(torch.autograd.Function):
    """Copies of many tensors in another type, and their gradients in the types of the tensors."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *wide: Tensor) -> tuple[Tensor, ...]:
        ctx.dtypes = [x.dtype for x in wide]
        copies = [torch.empty_like(x, dtype=dtype) for x in wide]
        torch._foreach_copy_(copies, list(wide))
        return tuple(copies)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        found = [(i, grad) for i, grad in enumerate(grads) if grad is not None]
        wide = [torch.empty_like(grad, dtype=ctx.dtypes[i]) for i, grad in found]
        torch._foreach_copy_(wide, [grad for _, grad in found])
        by_place = dict(zip((i for i, _ in found), wide, strict=True))
        return None, *(by_place.get(i) for i in range(len(grads)))


@contextmanager
def narrow_weights(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Let linear layers and convolutions compute with copies of their weights inside a block.

    Autocast would make each copy, and cast each gradient, by a launch of its own: hundreds of them.
    On a CPU, and without autocast, nothing changes.

    Args:
        model: its modules get back their parameters afterwards.
        device: where it is.
    """
    if device.type != "cuda" or not torch.is_autocast_enabled(device.type):
        yield
        return
    places = [
        (module, name, parameter)
        for module in model.modules()
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, ActivationDropoutAndLinear))
        for name in ("weight", "bias")
        if (parameter := module._parameters.get(name)) is not None
        and parameter.dtype == torch.float32
    ]
    dtype = torch.get_autocast_dtype(device.type)
    narrow: dict[int, Tensor] = {}
    for trained in (True, False):  # frozen ones apart, for which no gradients are computed
        of_kind = [p for _, _, p in places if p.requires_grad == trained]
        wide = list({id(parameter): parameter for parameter in of_kind}.values())
        if wide:
            copies = _Narrowed.apply(dtype, *wide)  # type: ignore[no-untyped-call]
            narrow.update(zip(map(id, wide), copies, strict=True))
    try:
        for module, name, parameter in places:
            module._parameters[name] = narrow[id(parameter)]  # type: ignore[assignment]
        yield
    finally:
        for module, name, parameter in places:
            module._parameters[name] = parameter
