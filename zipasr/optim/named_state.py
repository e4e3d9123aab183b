"""Optimizer state found by parameter name, where parameters were frozen, added or reordered.

The layout of ``state_dict`` stacks parameters of equal shape and knows them by position, so it
fits exactly one list of parameters. Names and shapes of that list are enough to take it apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zipasr.base.errors import CheckpointError

Group = dict[str, Any]
StateEntry = dict[str, Any]
NamedShapes = Sequence[Sequence[tuple[str, Sequence[int]]]]
"""Name and shape of the parameters of each group, in order."""

_Bucket = tuple[list[str], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class StateLayout:
    """How an optimizer stacks the state of its parameters.

    Attributes:
        optimizer: name of the optimizer, for messages.
        option: an option of groups that no other optimizer has.
        shared: entries that belong to a group or a bucket, not to a parameter.
        second_axis: entries whose axis of the parameters is the second; else it is the first.
        counts_groups: whether ``step`` is that of the group; else each bucket has its own.
        buckets: collects the parameters whose state is stacked; the first one's entry holds it.
        new_entry: makes the state of a bucket, given the options of its group.
        check_entry: refuses state that is not of this bucket, given the options of its group.
    """

    optimizer: str
    option: str
    shared: tuple[str, ...]
    second_axis: tuple[str, ...] = ()
    counts_groups: bool = False
    buckets: Callable[[Sequence[Tensor]], list[list[Tensor]]]
    new_entry: Callable[[Sequence[Tensor], Group], StateEntry]
    check_entry: Callable[[Sequence[Tensor], StateEntry, Group], None]


def check_kind(saved: Mapping[str, Any], layout: StateLayout) -> None:
    """Refuse the ``state_dict`` of another kind of optimizer.

    Raises:
        CheckpointError: its groups lack the option by which the optimizer is known.
    """
    if not all(layout.option in group for group in saved["param_groups"]):
        raise CheckpointError(
            f"The optimizer state is not that of {layout.optimizer}.",
            "resume with the --optimizer that the run was begun with, or begin a new run with its "
            "weights: --finetune-ckpt FILE, in another --exp-dir.",
        )


def fit_state(
    groups: Sequence[Group],
    names: Mapping[Tensor, str],
    saved: Mapping[str, Any],
    shapes: NamedShapes,
    layout: StateLayout,
) -> tuple[dict[str, Any], list[str]]:
    """Stack saved state for other parameters than it was saved for.

    A group takes options, number of updates and clipping threshold from the saved group that has
    most of its parameters, but not the learning rate. Parameters without saved state begin anew:
    zeros, and their present size.

    Args:
        groups: parameter groups of the optimizer that is to load.
        names: of all its parameters.
        saved: ``state_dict`` of the optimizer that was saved.
        shapes: its parameters.
        layout: of both optimizers.

    Returns:
        A ``state_dict`` for ``groups``, and the names of the parameters that begin anew.

    Raises:
        CheckpointError: no parameter is known, or one has another shape.
    """
    known = {name: tuple(shape) for group in shapes for name, shape in group}
    every = [names[param] for group in groups for param in group["params"]]
    fresh = [name for name in every if name not in known]
    if len(fresh) == len(every):
        raise CheckpointError(
            f"The optimizer state has none of the parameters of the model, such as {every[0]!r}.",
            "resume with the same model, or start a new optimizer.",
        )
    for group in groups:
        check_shapes(group["params"], names, known)
    of_params = dict(_unstacked(saved, shapes, layout))
    state: dict[int, StateEntry] = {}
    fitted = []
    count = 0
    for group in groups:
        params = group["params"]
        old = _closest([names[param] for param in params], shapes)
        options = _options(group, None if old is None else saved["param_groups"][old])
        fitted.append({**options, "params": list(range(count, count + len(params)))})
        if saved["state"]:
            index_of = dict(zip(params, fitted[-1]["params"], strict=True))
            stacked = _stacked(params, names, of_params, options, layout)
            if layout.counts_groups:
                _share(stacked, _shared(saved, shapes, old, layout))
            state |= {index_of[first]: entry for first, entry in stacked.items()}
        count += len(params)
    return {"state": state, "param_groups": fitted}, fresh


def check_entry_shapes(entry: StateEntry, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse state that was saved for other parameters: its tensors have other shapes.

    Raises:
        CheckpointError: so it is.
    """
    for key, shape in expected.items():
        found = tuple(entry[key].shape) if key in entry else None
        if found != shape:
            raise CheckpointError(
                f"The optimizer state has {key} of shape {found} where the model needs {shape}.",
                "resume with the same model and the same frozen modules, or start a new optimizer.",
            )


def check_shapes(
    params: Sequence[Tensor], names: Mapping[Tensor, str], known: Mapping[str, tuple[int, ...]]
) -> None:
    """Refuse a parameter that was saved with another shape."""
    for param in params:
        shape, saved = tuple(param.shape), known.get(names[param])
        if saved is not None and saved != shape:
            raise CheckpointError(
                f"The optimizer state has shape {saved} for {names[param]!r}, the model {shape}.",
                "resume with the same model, or start a new optimizer.",
            )


def check_saved(saved: Mapping[str, Any], shapes: NamedShapes, layout: StateLayout) -> None:
    """Refuse saved state that is not of these parameters.

    Args:
        saved: ``state_dict`` of an optimizer.
        shapes: the parameters that it should be of.
        layout: of the optimizer that it should be of.

    Raises:
        CheckpointError: their number differs, or state is missing or has another shape.
    """
    found = [len(group["params"]) for group in saved["param_groups"]]
    if found != [len(group) for group in shapes]:
        raise CheckpointError(
            f"The optimizer state is of groups of {found} parameters, the model has "
            f"{[len(group) for group in shapes]}.",
            "resume with the same model, or start a new optimizer.",
        )
    for group, of_group in zip(saved["param_groups"], shapes, strict=True):
        shape_of = dict(of_group)
        for names, index in _buckets(group, of_group, layout):
            bucket = [torch.empty(tuple(shape_of[name]), device="meta") for name in names]
            layout.check_entry(bucket, saved["state"].get(index, {}), group)


def _buckets(
    group: Group, shapes: Sequence[tuple[str, Sequence[int]]], layout: StateLayout
) -> Iterator[_Bucket]:
    """Yield names and index of the state entry of each bucket of a saved group."""
    # Tensors without memory have the shapes, and hence the order, of the saved parameters.
    params = [torch.empty(tuple(shape), device="meta") for _, shape in shapes]
    position = {param: i for i, param in enumerate(params)}
    for bucket in layout.buckets(params):
        inside = [position[param] for param in bucket]
        yield [shapes[i][0] for i in inside], group["params"][inside[0]]


def _unstacked(
    saved: Mapping[str, Any], shapes: NamedShapes, layout: StateLayout
) -> Iterator[tuple[str, StateEntry]]:
    """Yield name and state of each saved parameter, as views, with the step of its bucket."""
    for group, of_group in zip(saved["param_groups"], shapes, strict=True):
        for bucket, index in _buckets(group, of_group, layout):
            entry = saved["state"].get(index, {})
            of_each = {k: v for k, v in entry.items() if k not in layout.shared}
            for i, name in enumerate(bucket):
                state = {key: _part(key, value, i, layout) for key, value in of_each.items()}
                yield name, {**state, "step": entry.get("step", 0)}


def _stacked(
    params: Sequence[Tensor],
    names: Mapping[Tensor, str],
    of_params: Mapping[str, StateEntry],
    options: Group,
    layout: StateLayout,
) -> dict[Tensor, StateEntry]:
    """Return an entry for each bucket, under its first parameter; what is not known is new."""
    stacked = {}
    for bucket in layout.buckets(params):
        entry = layout.new_entry(bucket, options)
        for i, param in enumerate(bucket):
            state = of_params.get(names[param], {"step": 0})
            entry["step"] = max(entry["step"], state["step"])
            for key, value in state.items():
                if key != "step":
                    _part(key, entry[key], i, layout).copy_(value)
        stacked[bucket[0]] = entry
    return stacked


def _share(stacked: Mapping[Tensor, StateEntry], shared: StateEntry) -> None:
    """Write what belongs to a group: into its first bucket, the number of updates into all."""
    for k, entry in enumerate(stacked.values()):
        entry.update(shared if k == 0 else {"step": shared["step"]})


def _shared(
    saved: Mapping[str, Any], shapes: NamedShapes, old: int | None, layout: StateLayout
) -> StateEntry:
    """Return what belongs to a saved group."""
    if old is None:
        return {"step": 0}
    _, index = next(_buckets(saved["param_groups"][old], shapes[old], layout))
    return {key: value for key, value in saved["state"][index].items() if key in layout.shared}


def _options(group: Group, old: Group | None) -> Group:
    """Return the options of a saved group, with the learning rate of the new one."""
    own = {key: value for key, value in group.items() if key != "params"}
    if old is None:
        return own
    kept = {key: value for key, value in old.items() if key in own}
    return own | kept | {key: own[key] for key in ("lr", "base_lr") if key in own}


def _closest(names: Sequence[str], shapes: NamedShapes) -> int | None:
    """Return the index of the saved group that has most of these names; None if none has any."""
    common = [len({name for name, _ in group} & set(names)) for group in shapes]
    best = max(common, default=0)
    return common.index(best) if best else None


def _part(key: str, stacked: Tensor, index: int, layout: StateLayout) -> Tensor:
    """Return the slice of one parameter."""
    return stacked[:, index] if key in layout.second_axis else stacked[index]
