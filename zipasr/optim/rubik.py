"""BatchedRubik: orthogonal steps for matrices, with a learned scale for each tensor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from zipasr.base.distributed import World
from zipasr.base.errors import CheckpointError, UserError
from zipasr.nn.numerics import has_bfloat16
from zipasr.optim.named_optimizer import NamedOptimizer, ParametersInput
from zipasr.optim.named_state import Group, StateEntry, StateLayout
from zipasr.optim.parameter_batches import all_zero, check_uniform, dense_gradients, tied_vector
from zipasr.optim.rubik_rules import (
    RUBIK_LAYOUT,
    MatrixConstants,
    Workspace,
    is_matrix,
    is_scalar,
    matrix_constants,
    matrix_delta,
    nesterov,
    orthogonalise,
    vector_delta,
)
from zipasr.optim.shared_matrices import SharedMatrices, dealt, multiplications
from zipasr.optim.update_kernels import Elements, Gradients, TorchSweeps
from zipasr.optim.update_math import to_host

# On a CPU, so much of a stack is worked on together, in the type of the work: what is computed from
# it stays near, and a batched product is still large.
CPU_PIECE_BYTES = 1 << 21


@dataclass(slots=True)
class Stack:
    """Parameters of one shape, with their state."""

    params: list[Tensor]
    entry: StateEntry
    first: int
    """Index of the first of them among the parameters of the group."""

    def pieces(self, dtype: torch.dtype) -> Iterator[slice]:
        """Cut the stack into what is worked on together, in numbers of this type."""
        count, size = len(self.params), self.params[0].numel() * dtype.itemsize
        on_cpu = self.params[0].device.type == "cpu"
        each = max(1, CPU_PIECE_BYTES // size) if on_cpu else count
        for start in range(0, count, each):
            yield slice(start, min(start + each, count))


@dataclass(slots=True)
class Stacks:
    """All parameters of a group: matrices and vectors in M of them, then scalars.

    What is one number per parameter lies on the host, in vectors that share memory with the state.
    """

    stacks: list[Stack]
    sweeps: TorchSweeps
    scale: Tensor
    """(M,), s: the size that each tensor is to have, times the learning rate its step."""
    scale_grad: Tensor
    """(M,), u: sum of the gradients of the scale, ever less of the old ones."""
    seen: Tensor
    """(P,) bool, parameters that have had a gradient."""
    workspace: Workspace

    @property
    def params(self) -> list[Tensor]:
        """The P parameters, in the order of the vectors."""
        return self.sweeps.elements.params


class Piece(NamedTuple):
    """Parameters of one shape that are worked on together.

    Attributes:
        stack: that they are of.
        inside: their places in it.
        among_all: their places among the parameters of the group.
        constants: of this step; None: they are no matrices.
    """

    stack: Stack
    inside: slice
    among_all: slice
    constants: MatrixConstants | None

    @property
    def params(self) -> list[Tensor]:
        """The parameters."""
        return self.stack.params[self.inside]

    @property
    def momentum(self) -> Tensor:
        """(n, rows, cols), of matrices."""
        momentum: Tensor = self.stack.entry["momentum_buffer"][self.inside]
        return momentum

    @property
    def second(self) -> Tensor:
        """Running mean squares, of matrices."""
        second: Tensor = self.stack.entry["second_momentum_buffer"][self.inside]
        return second

    def advance(self, grads: Gradients, workspace: Workspace) -> Tensor:
        """Update the momentum of matrices; return their gradients, as it has its shape and type."""
        assert self.constants is not None, "matrices"
        momentum = self.momentum
        grad = _stacked(self, grads, workspace).view(momentum.shape)
        momentum.lerp_(grad, self.constants.rest1)
        return grad

    def orthogonal(self, grad: Tensor, workspace: Workspace) -> Tensor:
        """Return the orthogonal matrices of what ``advance`` returned, which is written over."""
        assert self.constants is not None, "matrices"
        ahead = nesterov(grad, self.momentum, self.second, self.constants)
        return orthogonalise(ahead, workspace)


class Measured(NamedTuple):
    """Gradients of a group, and what was measured of them.

    Attributes:
        group: options.
        stacks: its parameters with their state.
        grads: in the order of ``stacks.params``.
        sums: see ``TorchSweeps.measure``; on the host.
    """

    group: Group
    stacks: Stacks
    grads: Gradients
    sums: Tensor


class BatchedRubik(NamedOptimizer):
    """Muon with a variance normalisation on both sides, and a learned scale for each tensor.

    The momentum of every matrix, or convolution kernel viewed as one, is made nearly orthogonal by
    five steps of the Polar Express polynomial, divided by the root of running mean squares along
    its longer axis before and after that, and multiplied by the learning rate and by a scale that
    is learned between two limits. Vectors take the steps of an Adam without bias correction, times
    such a scale; tensors of one element ("scalars") the same with a small fixed factor. Weight
    decay, of lr^2 / 2, fits the step: sizes settle at the scales.

    Tensors of equal shape are worked on together, which changes nothing but the speed. A missing
    gradient counts as zero: momentum goes on at full size. There is no clipping: the size of a
    step does not depend on that of the gradient.

    Args:
        params: tensors, ``(name, tensor)`` pairs, or groups with ``params`` or
            ``named_params``. Names serve to find saved state again.
        lr: learning rate, relative to the scales.
        beta1: ceiling of the momentum of matrices, which begins at 0.9.
        beta2: ceiling of the decay of the mean squares of matrices, which begins at 0.
        eps: added to roots.
        scale_limits: range of the scales.
        scalar_scale: factor of the steps of scalars; also, of the steps of the scales.
        adam_beta1: decay of the momentum of vectors and scalars.
        adam_beta2: ceiling of the decay of their mean squares.
        scale_momentum: decay of the gradients of the scales.
        work_dtype: of momentum and matrix products. None: bfloat16 on a GPU that has it, else the
            type of the parameters.
        skip_not_finite: leave out an update whose gradients are not all finite, and count it in
            ``num_skipped``. False: as the reference, which spoils these tensors for good.
        decay_unused: tensors that have never had a gradient shrink too, as in the reference.
        world: processes that make the same updates. On a CPU each of them computes the products of
            some matrices and sends the others the results: a step then takes about as much less
            time as there are processes, and all have the same weights to the last bit.

    Raises:
        ValueError: there are no parameters, or an option is out of its range.

    Source: icefall pull request 2082, ``batched_rubik.py``.
    """

    layout: ClassVar[StateLayout] = RUBIK_LAYOUT

    def __init__(  # noqa: PLR0913 - the option names are those of published training programs
        self,
        params: ParametersInput,
        lr: float = 0.012,
        beta1: float = 0.99,
        beta2: float = 0.98,
        eps: float = 1e-8,
        scale_limits: tuple[float, float] = (0.03, 0.15),
        scalar_scale: float = 0.05,
        adam_beta1: float = 0.98,
        adam_beta2: float = 0.98,
        scale_momentum: float = 0.95,
        *,
        work_dtype: torch.dtype | None = None,
        skip_not_finite: bool = True,
        decay_unused: bool = True,
        world: World | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "beta1": beta1,
            "beta2": beta2,
            "eps": eps,
            "scale_limits": scale_limits,
            "scalar_scale": scalar_scale,
            "adam_beta1": adam_beta1,
            "adam_beta2": adam_beta2,
            "scale_momentum": scale_momentum,
        }
        self._work_dtype = work_dtype
        self._skip_not_finite = skip_not_finite
        self._decay_unused = decay_unused
        self._world = world
        self._stacks: dict[int, Stacks] = {}
        super().__init__(params, defaults)

    def __getstate__(self) -> dict[str, Any]:
        """Return all that a copy needs."""
        own = ("_work_dtype", "_skip_not_finite", "_decay_unused", "_world")
        return {**super().__getstate__(), **{name: getattr(self, name) for name in own}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over state from ``load_state_dict`` or a copy; it is arranged at the next step."""
        super().__setstate__(state)
        self._stacks = {}

    def _check_options(self, group: Group) -> None:
        for name in ("beta1", "beta2", "adam_beta1", "adam_beta2", "scale_momentum"):
            if not 0.0 <= group[name] < 1.0:
                raise ValueError(f"{name} must be in [0, 1), not {group[name]}")
        for name in ("lr", "scalar_scale"):
            if not group[name] >= 0.0:
                raise ValueError(f"{name} must not be negative, not {group[name]}")
        low, high = group["scale_limits"]
        if not 0.0 < low <= high:
            raise ValueError(f"scale_limits must be positive and in order, not {low}, {high}")
        if not group["eps"] > 0:
            raise ValueError(f"eps must be positive, not {group['eps']}")

    def _measure(self) -> list[Measured]:
        stacks = [self._tied(index) for index in range(len(self.param_groups))]
        grads = [dense_gradients(each.params, "BatchedRubik") for each in stacks]
        sums = to_host(
            [
                each.sweeps.measure(of_group, with_sizes=False)
                for each, of_group in zip(stacks, grads, strict=True)
            ]
        )
        self.grad_norm = _norm(self.param_groups, stacks, sums)
        of_groups = zip(self.param_groups, stacks, grads, sums, strict=True)
        return [Measured(*values) for values in of_groups]

    def _bad_norm(self, measured: Sequence[Measured]) -> float | None:  # noqa: ARG002 - one for all
        is_bad = self._skip_not_finite and not math.isfinite(self.grad_norm)
        return self.grad_norm if is_bad else None

    def _tied(self, index: int) -> Stacks:
        """Return the parameters of a group with their state, arranged anew if that changed."""
        params = self.param_groups[index]["params"]
        stacks = self._stacks.get(index)
        if stacks is None or len(stacks.params) != len(params):
            stacks = self._tie(self.param_groups[index])
            self._stacks[index] = stacks
        return stacks

    def _tie(self, group: Group) -> Stacks:
        """Arrange the parameters of a group; state that is missing is made."""
        _check_uniform(group["params"])
        dtype = self._work_type(group["params"][0])
        buckets = self.layout.buckets(group["params"])
        buckets.sort(key=lambda bucket: is_scalar(bucket[0].shape))
        entries = [self._entry(bucket, group, dtype) for bucket in buckets]
        params = [param for bucket in buckets for param in bucket]
        counts = [len(b) for b in buckets if not is_scalar(b[0].shape)]
        scale, scale_grad = (
            tied_vector(entries[: len(counts)], key, counts, params[0].dtype)
            for key in ("scale", "scale_grad_buffer")
        )
        stacks, first = [], 0
        for bucket, entry in zip(buckets, entries, strict=True):
            stacks.append(Stack(bucket, entry, first))
            first += len(bucket)
        momenta = [
            view
            for entry in entries
            for view in entry["momentum_buffer" if "momentum_buffer" in entry else "exp_avg"]
        ]
        sweeps = TorchSweeps(Elements(params, [], []))
        return Stacks(stacks, sweeps, scale, scale_grad, ~all_zero(momenta), Workspace())

    def _entry(self, bucket: list[Tensor], group: Group, dtype: torch.dtype) -> StateEntry:
        """Return the state of a bucket, the momentum of matrices in the type of the work."""
        entry: StateEntry = self.state[bucket[0]]
        if not entry and any(self.state.get(param) for param in bucket):
            raise CheckpointError(
                "The optimizer state is stacked for other parameters than those of the model.",
                "resume with the same model and the same frozen modules, or start a new optimizer.",
            )
        if entry:
            self.layout.check_entry(bucket, entry, group)
        else:
            entry.update(self.layout.new_entry(bucket, group))
        if "momentum_buffer" in entry:
            entry["momentum_buffer"] = entry["momentum_buffer"].to(dtype)
        return entry

    def _work_type(self, param: Tensor) -> torch.dtype:
        if self._work_dtype is not None:
            return self._work_dtype
        is_fast = param.device.type == "cuda" and has_bfloat16(param.device)
        return torch.bfloat16 if is_fast and param.dtype == torch.float32 else param.dtype

    def _update(self, measured: Measured) -> None:
        group, stacks, grads, sums = measured
        growths = _scale_steps(group, stacks, sums[1, : len(stacks.scale)])
        stacks.seen |= sums[0] > 0
        if not self._decay_unused:
            growths.masked_fill_(~stacks.seen[: len(growths)], 0.0)
        scales, growths_of = stacks.scale.tolist(), growths.add_(1.0).tolist()
        pieces = list(_pieces_of(group, stacks))
        orthogonal = self._computed_by_all(stacks, pieces, grads)
        for number, piece in enumerate(pieces):
            params, inside = piece.params, piece.among_all
            if piece.constants is None:
                grad = _stacked(piece, grads, stacks.workspace)
                entry = {
                    k: v if k == "step" else v[piece.inside] for k, v in piece.stack.entry.items()
                }
                delta, factor = vector_delta(grad, entry, group)
            else:
                x = orthogonal.get(number)
                if x is None:
                    x = piece.orthogonal(piece.advance(grads, stacks.workspace), stacks.workspace)
                delta, factor = matrix_delta(x, piece.second, piece.constants, stacks.workspace)
            moves = list(delta.view(len(params), *params[0].shape).unbind())
            if is_scalar(params[0].shape):
                torch._foreach_mul_(moves, factor * group["scalar_scale"])
            else:
                torch._foreach_mul_(moves, [factor * scale for scale in scales[inside]])
                torch._foreach_mul_(params, growths_of[inside])
            torch._foreach_add_(params, moves)
        for stack in stacks.stacks:
            stack.entry["step"] += 1

    def _computed_by_all(
        self, stacks: Stacks, pieces: Sequence[Piece], grads: Gradients
    ) -> dict[int, Tensor]:
        """Advance the momentum of all matrices; return what is made of it, by number of the piece.

        Nothing is done where a process has no others to share the products with.
        """
        numbers = [number for number, piece in enumerate(pieces) if piece.constants is not None]
        if not numbers or self._world is None or self._world.size == 1:
            return {}
        if (like := pieces[numbers[0]].momentum).device.type != "cpu":
            return {}
        params = [pieces[number].params for number in numbers]
        owners = dealt([multiplications(p[0].shape, len(p)) for p in params], self._world.size)
        sizes = [pieces[number].momentum.shape for number in numbers]
        shared = SharedMatrices(sizes, owners, self._world, like, stacks.workspace)
        for place, (number, owner) in enumerate(zip(numbers, owners, strict=True)):
            grad = pieces[number].advance(grads, stacks.workspace)
            if owner == self._world.rank:
                shared[place].copy_(pieces[number].orthogonal(grad, stacks.workspace))
        shared.exchange()
        return {number: shared[place] for place, number in enumerate(numbers)}


def _pieces_of(group: Group, stacks: Stacks) -> Iterator[Piece]:
    """Yield all parameters of a group in the pieces that are worked on together."""
    known: dict[int, MatrixConstants] = {}
    for stack in stacks.stacks:
        dtype, constants = stack.params[0].dtype, None
        if is_matrix(stack.params[0].shape):
            dtype, step = stack.entry["momentum_buffer"].dtype, stack.entry["step"]
            constants = known.get(step) or matrix_constants(group, step, dtype)
            known[step] = constants
        for inside in stack.pieces(dtype):
            among_all = slice(stack.first + inside.start, stack.first + inside.stop)
            yield Piece(stack, inside, among_all, constants)


def _stacked(piece: Piece, grads: Gradients, workspace: Workspace) -> Tensor:
    """Copy gradients of one shape into one tensor; a missing one is zero."""
    params = piece.params
    dtype = params[0].dtype if piece.constants is None else piece.momentum.dtype
    like = params[0].new_empty((), dtype=dtype)
    stacked = workspace.take("grad", (len(params), *params[0].shape), like)
    own = grads[piece.among_all]
    given = [(slot, g) for slot, g in zip(stacked.unbind(), own, strict=True) if g is not None]
    for slot, grad in zip(stacked.unbind(), own, strict=True):
        if grad is None:
            slot.zero_()
    if given:
        torch._foreach_copy_([slot for slot, _ in given], [grad for _, grad in given])
    return stacked


def _scale_steps(group: Group, stacks: Stacks, products: Tensor) -> Tensor:
    """Learn the scales, and return (M,), the relative change of each tensor.

    The gradient of the scale of a tensor is the sum of its elements times their gradients.

    Args:
        group: options.
        stacks: of which the scales change.
        products: (M,) these sums.
    """
    lr, momentum = group["lr"], group["scale_momentum"]
    gradient = products.to(stacks.scale.dtype)
    stacks.scale_grad.mul_(momentum).add_(gradient)
    direction = stacks.scale_grad.mul(momentum).add_(gradient).sign_()
    before = stacks.scale.clone()
    stacks.scale.mul_(1.0 - lr * group["scalar_scale"] * direction).clamp_(*group["scale_limits"])
    return (stacks.scale / before).mul_(1.0 - 0.5 * lr * lr).sub_(1.0)


def _norm(groups: Sequence[Group], tied: Sequence[Stacks], sums: Sequence[Tensor]) -> float:
    """Return the norm of all gradients, each weighted with the scale of its parameter."""
    total = 0.0
    for group, stacks, of_group in zip(groups, tied, sums, strict=True):
        count = len(stacks.scale)
        total += float(stacks.scale.double().square() @ of_group[0, :count])
        total += float(group["scalar_scale"] ** 2 * of_group[0, count:].sum())
    return math.sqrt(total) if total >= 0 else math.nan


def _check_uniform(params: Sequence[Tensor]) -> None:
    check_uniform(params)
    is_precise = params[0].dtype in (torch.float32, torch.float64)
    if not is_precise or not all(param.numel() for param in params):
        raise UserError("BatchedRubik needs non-empty parameters of float32 or float64.")
