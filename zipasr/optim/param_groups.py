"""Parameter groups: trained parameters, their names and learning rates."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from zipasr.base.errors import UserError, nearest

Named = tuple[str, nn.Parameter]


def parameter_groups(
    model: nn.Module, lr: float, frozen: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Sort the parameters of a model into groups of equal learning rate.

    The rate of a parameter is ``lr`` times the product of the attributes ``lr_scale`` of all
    modules on its path, the model included; a module without that attribute counts as 1.

    Args:
        model: may be wrapped for distributed training; names are those without the wrapper.
        lr: learning rate of the model.
        frozen: names of modules or parameters, at any depth, that are not trained; ``*`` in them
            stands for any text. They are marked as needing no gradient.

    Returns:
        One dictionary per learning rate, in order of first appearance, with ``named_params``
        (pairs of name and parameter) and ``lr``. Parameters that need no gradient are left out.

    Raises:
        UserError: ``frozen`` names something that is not there, or all that there is.
    """
    inner: nn.Module = model.module if isinstance(model, DistributedDataParallel) else model
    freeze(inner, frozen)
    groups: dict[float, list[Named]] = {}
    seen: set[nn.Parameter] = set()
    for name, param, rate in scaled_parameters(inner, "", lr):
        if param.requires_grad and param not in seen:
            seen.add(param)
            groups.setdefault(rate, []).append((name, param))
    return [{"named_params": named, "lr": rate} for rate, named in groups.items()]


def freeze(model: nn.Module, patterns: Collection[str]) -> None:
    """Switch off the gradients of the parameters that a pattern names; see ``parameter_groups``."""
    parameters = dict(model.named_parameters())
    for pattern in patterns:
        if not any(is_named(name, pattern) for name in parameters):
            known = {path: None for name in parameters for path in _paths(name)}
            raise UserError(
                f"Cannot freeze {pattern!r}: the model has no such module or parameter.",
                nearest(pattern, known)
                or f"choose from {', '.join(name for name, _ in model.named_children())}.",
            )
    chosen = [n for n in parameters if any(is_named(n, pattern) for pattern in patterns)]
    if parameters and len(chosen) == len(parameters):
        raise UserError(
            f"{','.join(patterns)} is all of the model: nothing is left to train.", "freeze less."
        )
    for name in chosen:
        parameters[name].requires_grad_(False)


def is_named(name: str, pattern: str) -> bool:
    """Say whether a pattern, in which ``*`` is any text, is a parameter or a module around it."""
    return any(fnmatchcase(path, pattern) for path in _paths(name))


def _paths(name: str) -> Iterator[str]:
    """Yield the names of the modules around a parameter, outermost first, and its own."""
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        yield ".".join(parts[:depth])


def scaled_parameters(
    module: nn.Module, prefix: str, lr: float
) -> Iterator[tuple[str, nn.Parameter, float]]:
    """Yield name, parameter and learning rate, in the order of ``named_parameters``."""
    rate = lr * float(getattr(module, "lr_scale", 1.0))
    for name, param in module.named_parameters(prefix, recurse=False):
        yield name, param, rate
    for name, child in module.named_children():
        yield from scaled_parameters(child, f"{prefix}.{name}" if prefix else name, rate)
