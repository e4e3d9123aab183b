"""BatchedRubik for one tensor in numpy and float64, one formula after another: an oracle.

Written from the equations; nothing of the library is used, and matrices are viewed by a search of
its own.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
DEFAULTS = {
    "beta1": 0.99,
    "beta2": 0.98,
    "eps": 1e-8,
    "scale_limits": (0.03, 0.15),
    "scalar_scale": 0.05,
    "adam_beta1": 0.98,
    "adam_beta2": 0.98,
    "scale_momentum": 0.95,
}
POLYNOMIALS = [
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
]


def polar(x: Array) -> Array:
    """The polynomial, by the singular values alone."""
    u, s, vt = np.linalg.svd(x / (1.01 * np.sqrt((x * x).sum()) + 1e-6), full_matrices=False)
    for a, b, c in POLYNOMIALS:
        s = a * s + b * s**3 + c * s**5
    return (u * s) @ vt


def cut(shape: tuple[int, ...]) -> tuple[int, int]:
    n = int(np.prod(shape))
    best = (n, 1)
    for axes in range(len(shape), 0, -1):
        rows = int(np.prod(shape[:axes]))
        if abs(rows - n // rows) <= abs(best[0] - best[1]):
            best = (rows, n // rows)
    return best


class PlainRubik:
    """One tensor and its state."""

    def __init__(self, p: Array, **options: Any) -> None:
        self.p, self.k, self.o = p.copy(), 0, DEFAULTS | options
        self.is_matrix = p.size > max(p.shape, default=1)
        if self.is_matrix:
            self.shape = cut(p.shape)
            self.axis = 1 if self.shape[0] > self.shape[1] else 0
            self.m = np.zeros(self.shape)
            self.v = np.ones((self.shape[0], 1) if self.axis else (1, self.shape[1]))
        else:
            self.a, self.v = np.zeros(p.shape), np.zeros(p.shape)
        low, high = self.o["scale_limits"]
        self.s = min(max(np.sqrt((p * p).mean()), low), high)
        self.u = 0.0

    def step(self, g: Array | None, lr: float) -> None:
        g = np.zeros(self.p.shape) if g is None else g
        delta = (self.of_matrix if self.is_matrix else self.of_vector)(g, lr)
        self.k += 1
        if self.p.size == 1:
            self.p = self.p + self.o["scalar_scale"] * delta
            return
        q, before = (g * self.p).sum(), self.s
        self.u = self.o["scale_momentum"] * self.u + q
        sign = np.sign(self.o["scale_momentum"] * self.u + q)
        low, high = self.o["scale_limits"]
        self.s = min(max(before * (1 - lr * self.o["scalar_scale"] * sign), low), high)
        self.p = self.p * self.s / before * (1 - lr * lr / 2) + self.s * delta

    def of_matrix(self, g: Array, lr: float) -> Array:
        b1 = min(self.o["beta1"], 1 - 1 / (10 + 0.2 * self.k))
        b2 = min(self.o["beta2"], self.k / (self.k + 1))
        g = g.reshape(self.shape)
        self.m = b1 * self.m + (1 - b1) * g
        x = polar(((1 - b1) * g + b1 * self.m) / (np.sqrt(self.v) + self.o["eps"]))
        self.v = b2 * self.v + (1 - b2) * (x * x).mean(axis=self.axis, keepdims=True)
        x = x / (np.sqrt(self.v) + self.o["eps"])
        result: Array = -lr * (1 - b1) / np.sqrt(1 - b1 * b1) * x.reshape(self.p.shape)
        return result

    def of_vector(self, g: Array, lr: float) -> Array:
        b1, b2 = self.o["adam_beta1"], min(self.o["adam_beta2"], self.k / (self.k + 1))
        self.a = b1 * self.a + (1 - b1) * g
        self.v = b2 * self.v + (1 - b2) * g * g
        result: Array = -lr * (b1 * self.a + (1 - b1) * g) / (np.sqrt(self.v) + self.o["eps"])
        return result
