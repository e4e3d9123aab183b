"""Update rules of Rubik: Polar Express for matrices, rules for vectors and scalars.

Source: Amsel et al., "The Polar Express: optimal matrix sign methods and their application to the
Muon algorithm", arXiv:2505.16932.

A stack is all parameters of one shape in a group; every tensor here has them on its first axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from operator import mul
from typing import NamedTuple

import torch
from torch import Tensor

from zipasr.optim.named_state import Group, StateEntry, StateLayout, check_entry_shapes

#: a, b and c of each step X <- (a I + b X X' + c (X X')^2) X. Together they map singular values
#: between 0.001 and 0.99 to values between 0.86 and 1.14, and smaller ones to at most 989 times
#: theirs.
COEFFICIENTS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
# The norm that is divided by, relative to the Frobenius norm: rounding must not lead beyond 1.
SAFETY = 1.01
SMALLEST_NORM = 1e-6


def matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    """Return the rows and columns of a tensor whose shape is cut once, as square as can be."""
    size = math.prod(shape)
    rows = min(accumulate(shape, mul), key=lambda count: abs(count - size // count))
    return rows, size // rows


class Workspace:
    """Memory of intermediate results, used again and again on a CPU.

    There, the system clears memory that is new, which takes longer than to work on it.
    """

    def __init__(self) -> None:
        self._flat: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, name: str, shape: Sequence[int], like: Tensor) -> Tensor:
        """Return memory of this shape, and of the type and device of ``like``, with any content.

        Args:
            name: what is taken under the same name is the same memory.
            shape: of the result.
            like: not looked into.
        """
        if like.device.type != "cpu":
            return like.new_empty(shape)
        size, key = math.prod(shape), (name, like.dtype)
        if key not in self._flat or self._flat[key].numel() < size:
            self._flat[key] = like.new_empty(size)
        return self._flat[key][:size].view(*shape)


def orthogonalise(x: Tensor, workspace: Workspace | None = None) -> Tensor:
    """Make all singular values of each matrix nearly 1, in the type of ``x``.

    bfloat16 is rounded as in the published trainings: after every operation, products of matrices
    after they are summed in float32. In other types, sums are added to products as they are made.

    Args:
        x: (n, rows, cols), written over.
        workspace: holds the result until it is used again; by default it is new.
    """
    memory = workspace or Workspace()
    step = _rounded_step if x.dtype == torch.bfloat16 else _step
    is_tall, short = x.size(1) > x.size(2), min(x.shape[1:])
    x.div_(torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True).mul_(SAFETY).add_(SMALLEST_NORM))
    other = memory.take("other", x.shape, x)
    gram, square = (memory.take(name, (x.size(0), short, short), x) for name in ("gram", "square"))
    for a, b, c in COEFFICIENTS:
        left, right = (x.mT, x) if is_tall else (x, x.mT)
        torch.bmm(left, right, out=gram)
        x, other = step(x, (gram, square, other), (a, b, c), is_tall=is_tall)
    return x


def _step(
    x: Tensor,
    memory: tuple[Tensor, Tensor, Tensor],
    coefficients: tuple[float, float, float],
    *,
    is_tall: bool,
) -> tuple[Tensor, Tensor]:
    """Apply the polynomial once.

    Args:
        x: (n, rows, cols).
        memory: X X' or, of tall matrices, X'X; and memory for its square and for the result.
        coefficients: a, b, c.
        is_tall: whether there are more rows than columns.

    Returns:
        The result, and memory of its shape to write to.
    """
    gram, polynomial, result = memory
    a, b, c = coefficients
    torch.baddbmm(gram, gram, gram, beta=b, alpha=c, out=polynomial)
    left, right = (x, polynomial) if is_tall else (polynomial, x)
    return torch.baddbmm(x, left, right, beta=a, out=result), x


def _rounded_step(
    x: Tensor,
    memory: tuple[Tensor, Tensor, Tensor],
    coefficients: tuple[float, float, float],
    *,
    is_tall: bool,
) -> tuple[Tensor, Tensor]:
    """Do as ``_step``, and round after every operation."""
    gram, square, product = memory
    a, b, c = coefficients
    torch.bmm(gram, gram, out=square)
    polynomial = gram.mul_(b).add_(square.mul_(c))
    left, right = (x, polynomial) if is_tall else (polynomial, x)
    torch.bmm(left, right, out=product)
    return x.mul_(a).add_(product), product


# A stack of more bytes, at four for each element, is cut into several.
MAX_STACK_BYTES = 1 << 30


def rubik_buckets(params: Sequence[Tensor]) -> list[list[Tensor]]:
    """Collect tensors of equal shape, in order of first appearance."""
    of_shape: dict[tuple[int, ...], list[Tensor]] = {}
    for param in params:
        of_shape.setdefault(tuple(param.shape), []).append(param)
    return [piece for same in of_shape.values() for piece in _pieces(same)]


def new_entry(bucket: Sequence[Tensor], group: Group) -> StateEntry:
    """Make the state of a bucket."""
    first, count = bucket[0], len(bucket)
    entry: StateEntry = {"step": 0}
    for key, shape in _shapes(bucket).items():
        entry[key] = first.new_zeros(shape)
    if "second_momentum_buffer" in entry:
        entry["second_momentum_buffer"].fill_(1.0)
    if "scale" in entry:
        norms = torch.stack(torch._foreach_norm(list(bucket)))
        low, high = group["scale_limits"]
        rms = (norms / math.sqrt(first.numel())).clamp(low, high)
        entry["scale"] = rms.view(count, *(1 for _ in first.shape))
    return entry


RUBIK_LAYOUT = StateLayout(
    optimizer="BatchedRubik",
    option="scale_limits",
    shared=("step",),
    buckets=rubik_buckets,
    new_entry=new_entry,
    check_entry=lambda bucket, entry, _: check_entry_shapes(entry, _shapes(bucket)),
)


def _pieces(same: list[Tensor]) -> list[list[Tensor]]:
    size = 4 * sum(param.numel() for param in same)
    count = min(len(same), -(-size // MAX_STACK_BYTES))
    each = -(-len(same) // max(count, 1))
    return [same[start : start + each] for start in range(0, len(same), each)]


def is_scalar(shape: Sequence[int]) -> bool:
    """Say whether a tensor has one element."""
    return math.prod(shape) == 1


def is_matrix(shape: Sequence[int]) -> bool:
    """Say whether a tensor has more than one axis along which its elements differ."""
    return math.prod(shape) > max(shape, default=1)


def _shapes(bucket: Sequence[Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors in the state of a bucket."""
    shape, count = tuple(bucket[0].shape), len(bucket)
    ones = (count, *(1 for _ in shape))
    found: dict[str, tuple[int, ...]] = {}
    if is_matrix(shape):
        rows, cols = matrix_shape(shape)
        long = (count, rows, 1) if rows > cols else (count, 1, cols)
        found |= {"momentum_buffer": (count, rows, cols), "second_momentum_buffer": long}
    else:
        found |= {"exp_avg": (count, *shape), "exp_avg_sq": (count, *shape)}
    if not is_scalar(shape):
        found |= {"scale": ones, "scale_grad_buffer": ones}
    return found


class MatrixConstants(NamedTuple):
    """Numbers of a step of matrices that are the same for a whole stack."""

    beta1: float
    rest1: float
    """1 - beta1."""
    rest2: float
    eps: float
    rate: float
    """Factor of the last result."""


def matrix_constants(group: Group, step: int, dtype: torch.dtype) -> MatrixConstants:
    """Return the constants of the step after ``step`` others, rounded to the type of the work.

    The momentum begins short, 0.9, and grows to its ceiling; the last factor is the inverse of the
    rms that it would have of independent gradients.
    """

    def rounded(value: float) -> float:
        return torch.tensor(value, dtype=torch.float64).to(dtype).item()

    beta1 = rounded(min(group["beta1"], 1.0 - 1.0 / (10.0 + 0.2 * step)))
    beta2 = rounded(min(group["beta2"], step / (step + 1.0)))
    rest1 = rounded(1.0 - beta1)
    root = rounded(math.sqrt(rounded(1.0 - rounded(beta1 * beta1))))
    rate = rounded(-rounded(group["lr"]) * rounded(rest1 * rounded(1.0 / root)))
    return MatrixConstants(beta1, rest1, 1.0 - beta2, rounded(group["eps"]), rate)


def nesterov(grad: Tensor, momentum: Tensor, second: Tensor, constants: MatrixConstants) -> Tensor:
    """Return what is to be made orthogonal: momentum as after a step more, over root mean squares.

    Args:
        grad: (n, rows, cols) in the type of the work, written over with the result.
        momentum: M, of the same shape and type, with this gradient in it.
        second: V, (n, rows, 1) where the matrices are tall, else (n, 1, cols): running mean of the
            squares of what the polynomial gives.
        constants: of this step.
    """
    return grad.lerp_(momentum, constants.beta1).div_(_root(second, constants.eps, grad.dtype))


def matrix_delta(
    x: Tensor, second: Tensor, constants: MatrixConstants, workspace: Workspace
) -> tuple[Tensor, float]:
    """Update the mean squares of matrices, and return their step before it is scaled.

    Args:
        x: (n, rows, cols), what ``orthogonalise`` made of the momentum, written over.
        second: V; see ``nesterov``.
        constants: of this step.
        workspace: holds the result.

    Returns:
        (n, rows, cols), and a factor that is still to be applied.
    """
    axis = 2 if x.size(1) > x.size(2) else 1
    norms = torch.linalg.vector_norm(x, dim=axis, keepdim=True, dtype=second.dtype)
    second.lerp_(norms.square_().div_(x.size(axis)), constants.rest2)
    x.div_(_root(second, constants.eps, x.dtype))
    if x.dtype == second.dtype:
        return x, constants.rate
    return workspace.take("delta", x.shape, second).copy_(x.mul_(constants.rate)), 1.0


def _root(second: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    return second.sqrt().add_(eps).to(dtype)


def vector_delta(grad: Tensor, entry: StateEntry, group: Group) -> tuple[Tensor, float]:
    """Update the state of vectors or scalars, and return their step before it is scaled.

    It is Adam with Nesterov's momentum and without correction of the first moment.

    Args:
        grad: (n, ...), written over.
        entry: state, with the number of steps before this one.
        group: options.

    Returns:
        (n, ...), and a factor that is still to be applied.
    """
    beta1, step = group["adam_beta1"], entry["step"]
    beta2 = min(group["adam_beta2"], step / (step + 1.0))
    mean, second = entry["exp_avg"], entry["exp_avg_sq"]
    mean.mul_(beta1).add_(grad, alpha=1.0 - beta1)
    second.mul_(beta2).addcmul_(grad, grad, value=1.0 - beta2)
    ahead = grad.mul_(1.0 - beta1).add_(mean, alpha=beta1)
    return ahead.div_(second.sqrt().add_(group["eps"])), -group["lr"]
