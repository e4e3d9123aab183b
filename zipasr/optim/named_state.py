"""Optimizer state found by parameter name, where parameters were frozen, added or reordered.

The layout of ``state_dict`` stacks parameters of equal shape and knows them by position, so it
fits exactly one list of parameters. Names and shapes of that list are enough to take it apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from zipasr.base.errors import CheckpointError
from zipasr.optim.parameter_batches import StateEntry, bucket_by_shape, check_entry, new_entry

Group = dict[str, Any]
NamedShapes = Sequence[Sequence[tuple[str, Sequence[int]]]]
"""Name and shape of the parameters of each group, in order."""

_Bucket = tuple[list[str], int]
# Belong to a group or bucket, not to a parameter.
SHARED = ("step", "model_norms", "model_norm_threshold", "num_clipped")
# In the stacked layout the axis of the parameters is the first, except here.
SECOND_AXIS = ("scale_grads",)


def fit_state(
    groups: Sequence[Group],
    names: Mapping[Tensor, str],
    saved: Mapping[str, Any],
    shapes: NamedShapes,
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
    of_params = dict(_unstacked(saved, shapes))
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
            stacked = _stacked(params, names, of_params, options["size_update_period"])
            _share(stacked, _shared(saved, shapes, old))
            state |= {index_of[first]: entry for first, entry in stacked.items()}
        count += len(params)
    return {"state": state, "param_groups": fitted}, fresh


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


def check_saved(saved: Mapping[str, Any], shapes: NamedShapes) -> None:
    """Refuse saved state that is not of these parameters.

    Args:
        saved: ``state_dict`` of an optimizer.
        shapes: the parameters that it should be of.

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
        for names, index in _buckets(group, of_group):
            bucket = [torch.empty(tuple(shape_of[name]), device="meta") for name in names]
            entry = saved["state"].get(index, {})
            check_entry(bucket, entry, group.get("size_update_period", 0))


def _buckets(group: Group, shapes: Sequence[tuple[str, Sequence[int]]]) -> Iterator[_Bucket]:
    """Yield names and index of the state entry of each bucket of a saved group."""
    # Tensors without memory have the shapes, and hence the order, of the saved parameters.
    params = [torch.empty(tuple(shape), device="meta") for _, shape in shapes]
    position = {param: i for i, param in enumerate(params)}
    for bucket in bucket_by_shape(params):
        inside = [position[param] for param in bucket]
        yield [shapes[i][0] for i in inside], group["params"][inside[0]]


def _unstacked(
    saved: Mapping[str, Any], shapes: NamedShapes
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield name and state of each saved parameter, as views."""
    for group, of_group in zip(saved["param_groups"], shapes, strict=True):
        for bucket, index in _buckets(group, of_group):
            entry = saved["state"].get(index, {})
            for i, name in enumerate(bucket):
                yield (
                    name,
                    {k: _part(k, v, i) for k, v in entry.items() if k not in SHARED},
                )


def _stacked(
    params: Sequence[Tensor],
    names: Mapping[Tensor, str],
    of_params: Mapping[str, Mapping[str, Tensor]],
    size_update_period: int,
) -> dict[Tensor, StateEntry]:
    """Return an entry for each bucket, under its first parameter; what is not known is new."""
    stacked = {}
    for bucket in bucket_by_shape(params):
        entry = new_entry(bucket, size_update_period)
        for i, param in enumerate(bucket):
            for key, value in of_params.get(names[param], {}).items():
                _part(key, entry[key], i).copy_(value)
        stacked[bucket[0]] = entry
    return stacked


def _share(stacked: Mapping[Tensor, StateEntry], shared: StateEntry) -> None:
    """Write what belongs to a group: into its first bucket, the number of updates into all."""
    for k, entry in enumerate(stacked.values()):
        entry.update(shared if k == 0 else {"step": shared["step"]})


def _shared(saved: Mapping[str, Any], shapes: NamedShapes, old: int | None) -> StateEntry:
    """Return what belongs to a saved group."""
    if old is None:
        return {"step": 0}
    _, index = next(_buckets(saved["param_groups"][old], shapes[old]))
    return {key: value for key, value in saved["state"][index].items() if key in SHARED}


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


def _part(key: str, stacked: Tensor, index: int) -> Tensor:
    """Return the slice of one parameter."""
    return stacked[:, index] if key in SECOND_AXIS else stacked[index]
