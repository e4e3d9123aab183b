"""Parameters of equal shape, stacked, and what computes their steps: PyTorch, numba, Triton.

All compute the same numbers up to rounding. Plain PyTorch is the meaning and runs everywhere, for
every type and layout.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from zipasr.base.errors import CheckpointError, UserError
from zipasr.optim.compiled_update import CompiledSweeps, TritonSweeps
from zipasr.optim.named_state import StateEntry, StateLayout, check_entry_shapes
from zipasr.optim.update_kernels import Elements, Sweeps, TorchSweeps

logger = logging.getLogger(__name__)

OptimizerBackend = Literal["auto", "torch", "numba", "triton"]

_KINDS: dict[str, type[CompiledSweeps | TritonSweeps]] = {
    "numba": CompiledSweeps,
    "triton": TritonSweeps,
}
_FASTEST = {"cpu": "numba", "cuda": "triton"}


def sweeps_for(elements: Elements, backend: OptimizerBackend = "auto") -> Sweeps:
    """Choose for the device, type and layout of the parameters of a group.

    ``auto`` takes what is fastest and works, and says once why that is plain PyTorch.

    Raises:
        UserError: the back end that is asked for does not work here.
        ValueError: there is no such back end.
    """
    if backend not in get_args(OptimizerBackend):
        raise ValueError(f"backend is {backend!r}; it must be one of {get_args(OptimizerBackend)}")
    device = elements.params[0].device.type
    wanted = _FASTEST.get(device, "torch") if backend == "auto" else backend
    if wanted == "torch":
        return TorchSweeps(elements)
    problem = _KINDS[wanted].problem(elements)
    if problem is None:
        return _KINDS[wanted](elements)
    if backend == wanted:
        raise UserError(
            f"The steps of the optimizer cannot be made by {backend}: {problem.rstrip('.')}.",
            "use the back end auto.",
        )
    _tell(problem)
    return TorchSweeps(elements)


@functools.cache
def _tell(problem: str) -> None:
    """Warn; once per process for each reason."""
    logger.warning("the steps of the optimizer are made by PyTorch: %s", problem)


def bucket_by_shape(params: Iterable[Tensor]) -> list[list[Tensor]]:
    """Collect tensors of equal shape, shapes in lexicographic order, 0-dimensional ones first.

    The order inside a bucket is that of ``params``; the first tensor of each bucket is the one
    under which an optimizer keeps the state of the whole bucket.
    """
    buckets: dict[tuple[int, ...], list[Tensor]] = {}
    for param in params:
        buckets.setdefault(tuple(param.shape), []).append(param)
    return [buckets[shape] for shape in sorted(buckets)]


@dataclass(slots=True)
class ParameterBatches:
    """Parameters of one group, with views into the stacked state of their buckets.

    The lists run over all P parameters: first the M with more than one element, then the
    scalars. What is one number per parameter lies on the host, in vectors that share memory with
    the state entries: what is written here is what ``state_dict`` saves.
    """

    elements: Elements
    """Parameters and the parts of the state that have their shape."""
    sweeps: Sweeps
    """The way to work on them."""
    numels: Tensor
    """(P,) float64, number of elements of each parameter."""
    rms: Tensor
    """(M,), root mean square of each parameter when it was last looked at."""
    scale_grads: Tensor
    """(K, M), gradients with respect to the scale in the last K updates."""
    scale_exp_avg_sq: Tensor
    """(M,), second moment of the scale gradient."""
    asleep: Tensor
    """(P,) bool, parameters whose moments are zero and that had no gradient so far."""
    entries: list[StateEntry]
    """State entry of each bucket; the first one also holds what belongs to the group."""
    addresses: list[int]
    """Where the elements of each parameter were when this was made."""

    @property
    def params(self) -> list[Tensor]:
        """The P parameters."""
        return self.elements.params

    @property
    def num_tensors(self) -> int:
        """M, the number of parameters with more than one element."""
        return self.rms.numel()

    @property
    def step(self) -> int:
        """Number of updates done so far."""
        return int(self.entries[0]["step"])

    def advance(self) -> None:
        """Count one more update."""
        step = self.step + 1
        for entry in self.entries:
            entry["step"] = step

    def is_current(self) -> bool:
        """Say whether the parameters are still where they were."""
        return [param.data_ptr() for param in self.params] == self.addresses

    def gradients(self) -> list[Tensor | None]:
        """Return the P gradients, and note which parameters have their first one.

        Raises:
            UserError: a gradient is sparse.
        """
        grads = dense_gradients(self.params, "ScaledAdam")
        self.asleep &= torch.tensor([grad is None for grad in grads])
        return grads

    def weights(self, scalar_weight: float) -> Tensor:
        """Return (P,), the factors of the gradients in the norm of the group."""
        return torch.cat(
            [self.rms, self.rms.new_full((len(self.params) - len(self.rms),), scalar_weight)]
        )


def batch_parameters(
    params: Sequence[Tensor],
    state: MutableMapping[Tensor, StateEntry],
    size_update_period: int,
    backend: OptimizerBackend = "auto",
) -> ParameterBatches:
    """Arrange the parameters of one group and tie them to their state.

    State that is missing is made (zeros, and the rms of the parameters as they are); state that
    is there, for example after ``load_state_dict``, is continued.

    Args:
        params: the parameters of the group, of one floating-point type and on one device.
        state: state of the optimizer; entries lie under the first parameter of each bucket.
        size_update_period: K, number of updates between two looks at the size of a parameter.
        backend: what makes the steps.

    Raises:
        UserError: the back end does not work here; the parameters differ in type or device, or
            are not floating-point numbers.
        CheckpointError: the state belongs to other parameters.
    """
    check_uniform(params)
    if not all(p.is_floating_point() and p.numel() for p in params):
        raise UserError("ScaledAdam needs non-empty floating-point parameters.")
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
    return tie(buckets, [state[bucket[0]] for bucket in buckets], backend)


def dense_gradients(params: Sequence[Tensor], optimizer: str) -> list[Tensor | None]:
    """Return the gradients.

    Args:
        params: whose they are.
        optimizer: its name, for the message.

    Raises:
        UserError: one is sparse.
    """
    grads = [param.grad for param in params]
    for param, grad in zip(params, grads, strict=True):
        if grad is not None and grad.layout is not torch.strided:
            raise UserError(
                f"{optimizer} got a sparse gradient for a parameter of shape {tuple(param.shape)}.",
                "use dense gradients (for an embedding: sparse=False).",
            )
    return grads


def check_uniform(params: Sequence[Tensor]) -> None:
    """Refuse a group whose parameters differ in type or device."""
    kinds = {(str(p.dtype), str(p.device)) for p in params}
    if len(kinds) > 1:
        raise UserError(
            f"The parameters of one group differ in type or device: {sorted(kinds)}.",
            "give each type and device a parameter group of its own.",
        )


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
    check_entry_shapes(entry, expected)


SCALED_ADAM_LAYOUT = StateLayout(
    optimizer="ScaledAdam",
    option="scalar_max",
    shared=("step", "model_norms", "model_norm_threshold", "num_clipped"),
    second_axis=("scale_grads",),
    counts_groups=True,
    buckets=bucket_by_shape,
    new_entry=lambda bucket, group: new_entry(bucket, group["size_update_period"]),
    check_entry=lambda bucket, entry, group: check_entry(
        bucket, entry, group.get("size_update_period", 0)
    ),
)


def tie(
    buckets: Sequence[Sequence[Tensor]], entries: list[StateEntry], backend: OptimizerBackend
) -> ParameterBatches:
    """Build the lists and vectors over all parameters, and let the entries view the vectors."""
    pairs = list(zip(buckets, entries, strict=True))
    tensors = [pair for pair in pairs if pair[0][0].numel() > 1]
    ordered = tensors + [pair for pair in pairs if pair[0][0].numel() == 1]
    elements = Elements(
        params=[param for bucket, _ in ordered for param in bucket],
        exp_avg_sq=[view for _, entry in ordered for view in entry["exp_avg_sq"].unbind()],
        delta=[view for _, entry in ordered for view in entry["delta"].unbind()],
    )
    counts = [len(bucket) for bucket, _ in tensors]
    rms, second, grads = (
        tied_vector([entry for _, entry in tensors], key, counts, elements.params[0].dtype)
        for key in ("param_rms", "scale_exp_avg_sq", "scale_grads")
    )
    if "model_norms" in entries[0]:
        entries[0]["model_norms"] = entries[0]["model_norms"].cpu()
    return ParameterBatches(
        elements=elements,
        sweeps=sweeps_for(elements, backend),
        numels=torch.tensor([param.numel() for param in elements.params], dtype=torch.float64),
        rms=rms,
        scale_grads=grads,
        scale_exp_avg_sq=second,
        asleep=all_zero(elements.exp_avg_sq) & all_zero(elements.delta),
        entries=entries,
        addresses=[param.data_ptr() for param in elements.params],
    )


def tied_vector(
    entries: Sequence[StateEntry], key: str, counts: Sequence[int], dtype: torch.dtype
) -> Tensor:
    """Join what the entries hold under ``key`` on the host, and let them view their parts.

    Args:
        entries: of the buckets of tensors.
        key: ``scale_grads`` has an axis more, in front.
        counts: number of parameters of each bucket.
        dtype: of the parameters.

    Returns:
        (..., sum of ``counts``).
    """
    axis = int(key == "scale_grads")
    parts = [entry[key].cpu().flatten(start_dim=axis) for entry in entries]
    vector = torch.cat(parts, dim=axis) if parts else torch.zeros((1,) * axis + (0,), dtype=dtype)
    for entry, part in zip(entries, torch.split(vector, list(counts), dim=axis), strict=True):
        entry[key] = part.view(entry[key].shape)
    return vector


def all_zero(tensors: Sequence[Tensor]) -> Tensor:
    """Return (n,) bool: which tensors hold nothing but zeros."""
    return torch.stack(torch._foreach_norm(list(tensors), math.inf)).cpu() == 0


def root_mean_squares(params: Sequence[Tensor]) -> Tensor:
    """Return (n,) values: the root of the mean of the squared elements of each tensor."""
    sizes = params[0].new_tensor([math.sqrt(p.numel()) for p in params])
    return torch.stack(torch._foreach_norm(list(params))) / sizes
