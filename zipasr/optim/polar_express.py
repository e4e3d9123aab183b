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

#: a, b and c of each step X <- (a I + b X X' + c (X X')^2) X. The composed polynomial maps singular
#: values from 1e-3 to 1 to within some per cent of 1, and smaller ones to at most 991 times theirs.
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


def orthogonalise(x: Tensor) -> Tensor:
    """Make all singular values of each matrix nearly 1.

    Computed in the type of ``x``, every operation rounded once; matrix products of bfloat16 are
    summed in float32.

    Args:
        x: (n, rows, cols), written over.
    """
    is_tall = x.size(1) > x.size(2)
    x = x.div_(torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True) * SAFETY + SMALLEST_NORM)
    for a, b, c in COEFFICIENTS:
        gram = torch.bmm(x.mT, x) if is_tall else torch.bmm(x, x.mT)
        square = torch.bmm(gram, gram)
        polynomial = gram.mul_(b).add_(square.mul_(c))
        product = torch.bmm(x, polynomial) if is_tall else torch.bmm(polynomial, x)
        x = x.mul_(a).add_(product)
    return x
