"""Which parameters are trained, under which name, and with which learning rate."""

from __future__ import annotations

from collections.abc import Collection, Iterator
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
        frozen: names of direct children of the model whose parameters are not trained. They
            are marked as needing no gradient.

    Returns:
        One dictionary per learning rate, in order of first appearance, with ``named_params``
        (pairs of name and parameter) and ``lr``. Parameters that need no gradient are left out.

    Raises:
        UserError: a name in ``frozen`` is not a child of the model.
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


def freeze(model: nn.Module, names: Collection[str]) -> None:
    """Switch off the gradients of the named direct children of a model."""
    children = dict(model.named_children())
    for name in names:
        if name not in children:
            raise UserError(
                f"Cannot freeze {name!r}: the model has no such module.",
                nearest(name, children) or f"choose from {', '.join(children)}.",
            )
    for name in names:
        children[name].requires_grad_(False)


def scaled_parameters(
    module: nn.Module, prefix: str, lr: float
) -> Iterator[tuple[str, nn.Parameter, float]]:
    """Yield name, parameter and learning rate, in the order of ``named_parameters``."""
    rate = lr * float(getattr(module, "lr_scale", 1.0))
    for name, param in module.named_parameters(prefix, recurse=False):
        yield name, param, rate
    for name, child in module.named_children():
        yield from scaled_parameters(child, f"{prefix}.{name}" if prefix else name, rate)
