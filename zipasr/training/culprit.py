"""Which module was the first that was not finite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn


def first_non_finite(model: nn.Module, run: Callable[[], None]) -> str | None:
    """Run forward and backward and name what was not finite first.

    Args:
        model: its modules are watched while ``run`` calls it.
        run: computes a loss with the model and its gradients.

    Returns:
        A parameter that is not finite already, else the first module whose output is not, else
        the first whose gradient is not; ``None`` if all were finite.
    """
    for name, parameter in model.named_parameters():
        if not _is_finite(parameter):
            return f"parameter {name}"
    found: list[str] = []

    def watch(name: str, what: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, values: Any) -> None:
            if not found and not all(_is_finite(x) for x in _tensors(values)):
                found.append(f"{what} of {name}")

        return hook

    handles = []
    for name, module in model.named_modules():
        name = f"{name or 'the model'} ({type(module).__name__})"
        handles.append(module.register_forward_hook(watch(name, "output")))
        handles.append(module.register_full_backward_hook(watch(name, "gradient of the output")))
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def _is_finite(x: Tensor) -> bool:
    return bool(torch.isfinite(x.detach().float().sum()))


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _tensors(value)
