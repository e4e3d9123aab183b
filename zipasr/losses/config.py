"""Names of transducer lattices and of implementations of the loss."""

from __future__ import annotations

from typing import Literal

RnntType = Literal["regular", "modified", "constrained"]


RnntBackend = Literal["auto", "torch", "numba", "triton", "k2"]
