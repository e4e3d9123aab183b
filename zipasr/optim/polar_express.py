"""Nearly orthogonal matrices from any, by five steps of the Polar Express polynomial.

Source: Amsel et al., "The Polar Express: optimal matrix sign methods and their application to the
Muon algorithm", arXiv:2505.16932.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from operator import mul

import torch
from torch import Tensor

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
