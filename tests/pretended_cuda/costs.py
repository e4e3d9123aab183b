"""What an operation launches and moves on a CUDA device, read off the sources of PyTorch 2.11."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

aten = torch.ops.aten


class Cost(NamedTuple):
    """Kernels launched, and bytes that they read and write."""

    launches: int = 0
    moved: float = 0.0

    def plus(self, other: Cost) -> Cost:
        return Cost(self.launches + other.launches, self.moved + other.moved)


#: Operations that allocate, or look at a tensor in another way.
FREE = {
    "_unsafe_view",
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "lift_fresh",
    "resize_",
    "set_",
    "_reshape_alias",
    "is_same_size",
    "_has_compatible_shallow_copy_type",
}
#: Operations that write over a tensor without reading it.
WRITES_ONLY = {
    "copy_", "fill_", "zero_", "uniform_", "normal_", "bernoulli_", "random_", "exponential_",
}  # fmt: skip
#: Operations that take from their first operand what kind of tensor it is, not its elements.
FILLS = {"new_zeros", "new_ones", "new_full", "zeros_like", "ones_like", "full_like"}
#: Operations that read the elements they pick, not all of their first operand.
PICKS = {"index", "gather", "index_select", "embedding"}
#: Operations that write some elements of the operand they change.
PUTS = {
    "index_put_", "scatter_", "scatter_add_", "index_copy_", "index_add_", "_index_put_impl_",
}  # fmt: skip
#: Kernels, and how often the operands and results are moved; all others are (1, 1).
KERNELS: dict[str, tuple[int, float]] = {
    "masked_fill": (2, 1.5),
    "scatter": (2, 1.5),
    "scatter_add": (2, 1.5),
    "index_put": (2, 1.5),
    "index_add": (2, 1.5),
    "index_fill": (2, 1.5),
    "index_copy": (2, 1.5),
    "constant_pad_nd": (2, 1.5),
    "slice_backward": (2, 1.5),
    "select_backward": (2, 1.5),
    "logsumexp": (6, 5.0),
    "baddbmm": (2, 1.3),
    "nonzero": (3, 2.0),
    "masked_select": (4, 2.0),
    "_unique2": (6, 4.0),
    "unique_dim": (8, 6.0),
    "sort": (2, 4.0),
    "topk": (2, 2.0),
    "native_layer_norm_backward": (2, 1.5),
    "embedding_dense_backward": (5, 2.0),
    "_ctc_loss": (4, 1.0),
    "_ctc_loss_backward": (6, 2.0),
    "repeat": (2, 1.0),
    "cumsum": (2, 1.0),
    "bincount": (3, 1.0),
    "lstm": (10, 4.0),
}


def touched(x: Tensor) -> int:
    """Bytes of the elements of a tensor; those repeated by a stride of 0 count once."""
    sizes = (size for size, step in zip(x.shape, x.stride(), strict=True) if step or not size)
    return math.prod(sizes) * x.element_size()


def leaves(tree: Any) -> Iterator[Any]:
    """Yield what is in nested arguments; torch's own walk is many times slower."""
    if isinstance(tree, (list, tuple)):
        for part in tree:
            yield from leaves(part)
    elif isinstance(tree, dict):
        for part in tree.values():
            yield from leaves(part)
    else:
        yield tree


def mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply a function to what is in nested arguments."""
    if isinstance(tree, (list, tuple)):
        parts = [mapped(function, part) for part in tree]
        return parts if isinstance(tree, list) else tuple(parts)
    if isinstance(tree, dict):
        return {name: mapped(function, part) for name, part in tree.items()}
    return function(tree)


@functools.cache
def is_view(func: Any) -> bool:
    """Say whether the result shares memory with an operand that is not changed."""
    infos = (result.alias_info for result in func._schema.returns)
    return any(info is not None and not info.is_write for info in infos)


def cost_of(func: Any, name: str, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Cost:
    """Return what an operation on tensors of the device costs.

    Args:
        func: the operation.
        name: of it, without name space and overload.
        args: with the tensors' values.
        kwargs: with the tensors' values.
        out: its result.
    """
    if is_view(func) or name in FREE:
        return Cost()
    return Cost(_kernels_of(func, name, args), _moved(func, name, args, kwargs, out))


def _moved(func: Any, name: str, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> float:
    reads = [] if name in FILLS else _tensors((args, kwargs))
    changed = changed_by(func, args, kwargs)
    fresh = [x for x in _tensors(out) if not _has(changed, x)]
    if name in PICKS:
        return _bytes(reads[1:]) + 2 * _bytes(fresh)
    others = [x for x in reads if not _has(changed, x)]
    if name in PUTS:
        return 2 * _bytes(others)
    read = _bytes(others if name in WRITES_ONLY else reads)
    factor = 1.5 if name == "convolution_backward" else KERNELS.get(name, (1, 1.0))[1]
    return factor * (read + _bytes(changed) + _bytes(fresh))


def _kernels_of(func: Any, name: str, args: Sequence[Any]) -> int:
    if name.startswith(("_foreach", "_amp_foreach")):
        return _foreach_launches(name, args)
    if name == "convolution":
        return 1 if args[2] is None else 2
    if name == "convolution_backward":
        return sum(map(bool, args[10]))
    if name in ("index_put_", "_index_put_impl_") and len(args) > 3 and args[3]:
        return 5  # sorted, then added
    return KERNELS.get(name, (1, 1.0))[0]


def _tensors(tree: Any) -> list[Tensor]:
    return [x for x in leaves(tree) if isinstance(x, Tensor)]


def _has(tensors: Iterable[Tensor], x: Tensor) -> bool:
    return any(x is other for other in tensors)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(map(touched, tensors))


def changed_by(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Tensor]:
    """Return the operands that an operation writes to."""
    found: list[Tensor] = []
    for number, name in _written(func):
        found += _tensors(args[number] if number < len(args) else kwargs.get(name))
    return found


@functools.cache
def _written(func: Any) -> list[tuple[int, str]]:
    return [
        (number, argument.name)
        for number, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]


def _foreach_launches(name: str, args: Sequence[Any]) -> int:
    """Launches of an operation on lists: 36 to 110 tensors or 320 blocks of 65536 in each."""
    lists = [x for x in args if isinstance(x, (list, tuple)) and x and isinstance(x[0], Tensor)]
    if not lists:
        return 1
    depth = len(lists) + (0 if name.endswith("_") else 1)
    most = {1: 110, 2: 64, 3: 48, 4: 36}.get(depth, 30)
    blocks = sum(math.ceil(max(1, x.numel()) / 65536) for x in lists[0])
    launches = max(math.ceil(len(lists[0]) / most), math.ceil(blocks / 320))
    return launches + (2 if "norm" in name else 0)
