"""Loading of weights into a model: all of them, or none with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zipasr.base.errors import CheckpointError
from zipasr.model.build import describe
from zipasr.model.infer_config import infer_config, what_else
from zipasr.nn.lora import merged

StateDict = dict[str, Tensor]

# Left in the names by a model that was saved inside a wrapper: of distributed training, of a
# compiler.
WRAPPERS = ("module.", "_orig_mod.")

# How many differences a message names.
SHOWN = 3


def model_state(checkpoint: Mapping[str, Any], origin: str = "The checkpoint") -> StateDict:
    """Return the weights in a checkpoint, without the prefix of a wrapper.

    They are its entry ``model``, or all of it if it consists of named tensors. Adapters are merged
    into the weights that they correct.

    Args:
        checkpoint: what a file holds.
        origin: of the checkpoint, named in errors.

    Raises:
        CheckpointError: there are no weights, or some are not finite.
    """
    weights = checkpoint.get("model")
    if weights is None and _is_state_dict(checkpoint):
        weights = checkpoint
    if not isinstance(weights, Mapping) or not _is_state_dict(weights):
        held = ", ".join(repr(name) for name in list(checkpoint)[:6]) or "nothing"
        raise CheckpointError(
            f"{origin} has no entry 'model' with the weights of a model; it holds {held}.",
            "choose a checkpoint that train.py wrote, or a pretrained.pt.",
        )
    check_finite(weights, origin)
    return merged(unwrapped(weights))


def check_finite(tensors: Mapping[str, Any], origin: str) -> None:
    """Refuse weights with values that are not finite: nothing can be computed with them.

    Args:
        tensors: by name; what is no tensor is passed over.
        origin: file that they are from, named in errors.

    Raises:
        CheckpointError: names the first tensor with such values.
    """
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            continue
        # A sum of finite numbers may overflow; one with others is never finite.
        if not isfinite(tensor.sum()) and not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"{origin} has weights that are not finite numbers, in {name}.",
                "use an earlier checkpoint.",
            )


def check_finite_state(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Refuse a checkpoint whose weights or running average are not finite; see ``check_finite``.

    Raises:
        CheckpointError: so it is.
    """
    for entry in ("model", "model_avg"):
        tensors = checkpoint.get(entry)
        if isinstance(tensors, Mapping):
            check_finite(tensors, str(path))


def unwrapped(state_dict: Mapping[str, Tensor]) -> StateDict:
    """Return a state dict without the prefixes of wrappers that all of its names have."""
    state = dict(state_dict)
    while state and (found := _common_wrapper(state)):
        state = {name.removeprefix(found): tensor for name, tensor in state.items()}
    return state


def load_model(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Load all of ``weights`` into all of ``model``, or change nothing.

    Args:
        model: with the names and shapes that it wants.
        weights: state dict; the prefix of a wrapper is taken off.
        path: where the weights come from, named in errors.

    Raises:
        CheckpointError: names or shapes differ; says which model each side is and shows the first
            differences.
    """
    weights = unwrapped(weights)
    own = model.state_dict()
    if wrong := differences(weights, own):
        raise CheckpointError(
            f"{path} holds another model than the flags describe: it holds {kind_of(weights)}, "
            f"they describe {kind_of(own)}; {summary(wrong)}.",
            "leave the model flags as they were in training, or choose another checkpoint.",
        )
    model.load_state_dict(weights)


def differences(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Describe each name whose tensor differs, in the order of the model, then of the file.

    Args:
        weights: of a file.
        own: state dict of the model that shall have them.
    """
    wrong = []
    for name, tensor in own.items():
        there = weights.get(name)
        if there is None:
            wrong.append(f"{name} {tuple(tensor.shape)} is not in the file")
        elif there.shape != tensor.shape:
            wrong.append(
                f"{name} is {tuple(there.shape)} in the file and {tuple(tensor.shape)} by the flags"
            )
    only_there = (name for name in weights if name not in own)
    return wrong + [f"{name} {tuple(weights[name].shape)} is only there" for name in only_there]


def summary(wrong: list[str]) -> str:
    """Count differences and show the first."""
    more = " and others" if len(wrong) > SHOWN else ""
    tensors = "1 tensor differs" if len(wrong) == 1 else f"{len(wrong)} tensors differ"
    return f"{tensors}: {', '.join(wrong[:SHOWN])}{more}"


def kind_of(weights: Mapping[str, Tensor]) -> str:
    """Name the model that weights belong to."""
    try:
        encoder, model, vocab_size, _ = infer_config(weights)
    except CheckpointError:
        return what_else(weights)
    return f"a {describe(encoder, model, vocab_size)}"


def check_same_keys(
    reference: Mapping[str, Tensor], other: Mapping[str, Tensor], name: str
) -> None:
    """Refuse state dicts with different keys or shapes."""
    fix = "use checkpoints of one and the same model."
    different = sorted(reference.keys() ^ other.keys())
    if different:
        raise CheckpointError(
            f"The model and {name} differ in {len(different)} keys, such as {different[0]!r}.", fix
        )
    reshaped = sorted(key for key in reference if reference[key].shape != other[key].shape)
    if reshaped:
        shapes = " and ".join(str(tuple(side[reshaped[0]].shape)) for side in (other, reference))
        raise CheckpointError(
            f"The model and {name} differ in {len(reshaped)} shapes, such as {reshaped[0]!r}: "
            f"{shapes}.",
            fix,
        )


def _is_state_dict(entries: Mapping[str, Any]) -> bool:
    return bool(entries) and all(isinstance(value, Tensor) for value in entries.values())


def _common_wrapper(state: Mapping[str, Tensor]) -> str | None:
    for wrapper in WRAPPERS:
        if all(name.startswith(wrapper) for name in state):
            return wrapper
    return None
