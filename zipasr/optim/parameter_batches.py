"""Optimizer state in stacks of equal shape, and the order in which parameters are worked on."""

from __future__ import annotations

import math
from collections.abc import Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from zipasr.base.errors import CheckpointError, UserError

# Number of elements that are taken through all operations of a step together. On a CPU the
# values, gradients, moments and temporaries of that many fit into the cache, so each is fetched
# from memory once per step instead of once per operation; on other devices fewer and larger
# launches are better.
CPU_CHUNK_ELEMENTS = 1 << 18

StateEntry = dict[str, Any]


def bucket_by_shape(params: Iterable[Tensor]) -> list[list[Tensor]]:
    """Collect tensors of equal shape, shapes in lexicographic order, 0-dimensional ones first.

    The order inside a bucket is that of ``params``; the first tensor of each bucket is the one
    under which an optimizer keeps the state of the whole bucket.
    """
    buckets: dict[tuple[int, ...], list[Tensor]] = {}
    for param in params:
        buckets.setdefault(tuple(param.shape), []).append(param)
    return [buckets[shape] for shape in sorted(buckets)]


def chunk_slices(params: Sequence[Tensor]) -> list[slice]:
    """Cut a list of tensors into runs that are worked on together.

    Returns:
        Slices that cover ``params`` in order. On a CPU a run has at most ``CPU_CHUNK_ELEMENTS``
        elements, or is a single larger tensor; elsewhere there is one run.
    """
    if not params or params[0].device.type != "cpu":
        return [slice(0, len(params))]
    cuts = [0]
    filled = 0
    for index, param in enumerate(params):
        if filled and filled + param.numel() > CPU_CHUNK_ELEMENTS:
            cuts.append(index)
            filled = 0
        filled += param.numel()
    return [slice(start, end) for start, end in pairwise([*cuts, len(params)])]


@dataclass(slots=True)
class ParameterBatches:
    """Parameters of one group, with views into the stacked state of their buckets.

    The lists run over all P parameters: first the M with more than one element, then the
    scalars. The vectors run over the first M and share memory with the state entries, so what
    is written here is what ``state_dict`` saves.
    """

    params: list[Tensor]
    """P parameters."""
    exp_avg_sq: list[Tensor]
    """P views of the shape of the parameter: second moment of the gradient."""
    delta: list[Tensor]
    """P views of the shape of the parameter: smoothed step."""
    num_tensors: int
    """M, the number of parameters that have a scale."""
    rms: Tensor
    """(M,), root mean square of each parameter when it was last looked at."""
    scale_grads: Tensor
    """(K, M), gradients with respect to the scale in the last K updates."""
    scale_exp_avg_sq: Tensor
    """(M,), second moment of the scale gradient."""
    entries: list[StateEntry]
    """State entry of each bucket; the first one also holds what belongs to the group."""
    chunks: list[slice]
    """Runs of parameters to work on together."""
    rms_values: list[float]
    """``rms`` on the host, so that reading it costs no synchronisation."""
    zeros: Tensor | None = None
    """Stands for missing gradients; made when first needed."""

    @property
    def step(self) -> int:
        """Number of updates done so far."""
        return int(self.entries[0]["step"])

    def advance(self) -> None:
        """Count one more update."""
        step = self.step + 1
        for entry in self.entries:
            entry["step"] = step

    def gradients(self) -> list[Tensor]:
        """Return the P gradients; a missing one is all zeros, to be read only.

        Raises:
            UserError: a gradient is sparse.
        """
        grads = []
        for param in self.params:
            grad = param.grad
            if grad is None:
                grad = self.zeros_like(param)
            elif grad.layout is not torch.strided:
                raise UserError(
                    f"ScaledAdam got a sparse gradient for a parameter of shape "
                    f"{tuple(param.shape)}.",
                    "use dense gradients (for an embedding: sparse=False).",
                )
            grads.append(grad)
        return grads

    def zeros_like(self, param: Tensor) -> Tensor:
        """Return zeros of the shape of ``param``; the memory is shared by all such results."""
        if self.zeros is None:
            self.zeros = param.new_zeros(max(p.numel() for p in self.params))
        return self.zeros[: param.numel()].view(param.shape)


def batch_parameters(
    params: Sequence[Tensor], state: MutableMapping[Tensor, StateEntry], size_update_period: int
) -> ParameterBatches:
    """Arrange the parameters of one group and tie them to their state.

    State that is missing is made (zeros, and the rms of the parameters as they are); state that
    is there, for example after ``load_state_dict``, is continued.

    Args:
        params: the parameters of the group, of one floating-point type and on one device.
        state: state of the optimizer; entries lie under the first parameter of each bucket.
        size_update_period: K, number of updates between two looks at the size of a parameter.

    Raises:
        UserError: the parameters differ in type or device, or are not floating-point numbers.
        CheckpointError: the state belongs to other parameters.
    """
    check_uniform(params)
    buckets = bucket_by_shape(params)
    known = [bucket[0] in state and bool(state[bucket[0]]) for bucket in buckets]
    if any(known) and not all(known):
        raise CheckpointError(
            f"The optimizer state covers {sum(known)} of {len(known)} parameter shapes.",
            "resume with the same model and the same frozen modules, or start a new optimizer.",
        )
    for bucket, is_known in zip(buckets, known, strict=True):
        if is_known:
            check_entry(bucket, state[bucket[0]], size_update_period)
        else:
            state[bucket[0]] = new_entry(bucket, size_update_period)
    return tie(buckets, [state[bucket[0]] for bucket in buckets], size_update_period)


def check_uniform(params: Sequence[Tensor]) -> None:
    """Refuse a group whose parameters cannot be worked on together."""
    kinds = {(str(p.dtype), str(p.device)) for p in params}
    if len(kinds) > 1:
        raise UserError(
            f"The parameters of one group differ in type or device: {sorted(kinds)}.",
            "give each type and device a parameter group of its own.",
        )
    if not all(p.is_floating_point() and p.numel() for p in params):
        raise UserError("ScaledAdam needs non-empty floating-point parameters.")


def new_entry(bucket: Sequence[Tensor], size_update_period: int) -> StateEntry:
    """Make the state of ``n`` equal-shaped parameters; every tensor has an axis of size n."""
    first = bucket[0]
    shape = (len(bucket), *first.shape)
    entry: StateEntry = {
        "step": 0,
        "exp_avg_sq": first.new_zeros(shape),
        "delta": first.new_zeros(shape),
    }
    if first.numel() > 1:
        per_param = (len(bucket), *(1 for _ in first.shape))
        entry["param_rms"] = root_mean_squares(bucket).view(per_param)
        entry["scale_grads"] = first.new_zeros((size_update_period, *per_param))
        entry["scale_exp_avg_sq"] = first.new_zeros(per_param)
    return entry


def check_entry(bucket: Sequence[Tensor], entry: StateEntry, size_update_period: int) -> None:
    """Refuse state that was saved for other parameters than these."""
    expected = {"exp_avg_sq": (len(bucket), *bucket[0].shape)}
    expected["delta"] = expected["exp_avg_sq"]
    if bucket[0].numel() > 1:
        ones = (1,) * bucket[0].dim()
        expected["scale_grads"] = (size_update_period, len(bucket), *ones)
    for key, shape in expected.items():
        found = tuple(entry[key].shape) if key in entry else None
        if found != shape:
            raise CheckpointError(
                f"The optimizer state has {key} of shape {found} where the model needs {shape}.",
                "resume with the same model and the same frozen modules, or start a new optimizer.",
            )


def tie(
    buckets: Sequence[Sequence[Tensor]], entries: list[StateEntry], size_update_period: int
) -> ParameterBatches:
    """Build the lists and vectors over all parameters, and let the entries view the vectors."""
    pairs = list(zip(buckets, entries, strict=True))
    tensors = [pair for pair in pairs if pair[0][0].numel() > 1]
    ordered = tensors + [pair for pair in pairs if pair[0][0].numel() == 1]
    params = [param for bucket, _ in ordered for param in bucket]
    empty = params[0].new_zeros(0)
    rms = torch.cat([empty, *(e["param_rms"].flatten() for _, e in tensors)])
    second = torch.cat([empty, *(e["scale_exp_avg_sq"].flatten() for _, e in tensors)])
    grads = torch.cat(
        [
            empty.view(size_update_period, 0),
            *(e["scale_grads"].flatten(start_dim=1) for _, e in tensors),
        ],
        dim=1,
    )
    bounds = accumulate((len(bucket) for bucket, _ in tensors), initial=0)
    for (_, entry), (start, end) in zip(tensors, pairwise(bounds), strict=True):
        per_param = entry["param_rms"].shape
        entry["param_rms"] = rms[start:end].view(per_param)
        entry["scale_exp_avg_sq"] = second[start:end].view(per_param)
        entry["scale_grads"] = grads[:, start:end].view(size_update_period, *per_param)
    return ParameterBatches(
        params=params,
        exp_avg_sq=[view for _, entry in ordered for view in entry["exp_avg_sq"].unbind()],
        delta=[view for _, entry in ordered for view in entry["delta"].unbind()],
        num_tensors=rms.numel(),
        rms=rms,
        scale_grads=grads,
        scale_exp_avg_sq=second,
        entries=entries,
        chunks=chunk_slices(params),
        rms_values=rms.tolist(),
    )


def root_mean_squares(params: Sequence[Tensor]) -> Tensor:
    """Return (n,) values: the root of the mean of the squared elements of each tensor."""
    sizes = params[0].new_tensor([math.sqrt(p.numel()) for p in params])
    return torch.stack(torch._foreach_norm(list(params))) / sizes
