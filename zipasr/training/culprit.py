"""Which modules are not finite, and which was the first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


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
    handles = watch(model, found.append)
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def warn_of_non_finite(model: nn.Module) -> list[RemovableHandle]:
    """Log a warning whenever an output or a gradient is not finite (``--inf-check``)."""
    return watch(model, lambda what: logging.warning("not finite: %s", what))


def watch(model: nn.Module, report: Callable[[str], None]) -> list[RemovableHandle]:
    """Call ``report`` with each output and gradient of a module or parameter that is not finite."""

    def check(what: str, values: Any) -> None:
        if not all(_is_finite(x) for x in _tensors(values)):
            report(what)

    handles = []
    for path, module in model.named_modules():
        name = f"{path or 'the model'} ({type(module).__name__})"
        forward = _checks_last(check, f"output of {name}")
        backward = _checks_last(check, f"gradient of the output of {name}")
        handles.append(module.register_forward_hook(forward))
        handles.append(module.register_full_backward_hook(backward))
    for path, parameter in model.named_parameters():
        hook = _checks_last(check, f"gradient of parameter {path}")
        handles.append(parameter.register_hook(hook))  # type: ignore[no-untyped-call]
    return handles


def _checks_last(check: Callable[[str, Any], None], what: str) -> Callable[..., None]:
    """Make a hook of any kind: all of them are given the values that count as last argument."""

    def hook(*arguments: Any) -> None:
        check(what, arguments[-1])

    return hook


def _is_finite(x: Tensor) -> bool:
    return bool(torch.isfinite(x.detach().float().sum()))


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _tensors(value)
