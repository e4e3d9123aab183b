"""Seeding of all random generators from the coordinates of a draw.

Nothing in the project continues a random stream across batches: each batch seeds its draws from
(seed, epoch, rank, batch). So a run that was killed goes on exactly as if it had not been, without
any generator state in the checkpoint.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive_seed(*keys: int) -> int:
    """Return a seed in 0 .. 2**63 - 1 that depends on all ``keys`` and on their order."""
    digest = hashlib.blake2b(",".join(map(str, keys)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def fix_seeds(*keys: int) -> None:
    """Seed python, numpy and torch (all devices) from ``keys``."""
    seed = derive_seed(*keys)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def generator_for(*keys: int) -> torch.Generator:
    """Return a generator of its own, seeded from ``keys``, that disturbs no other."""
    return torch.Generator().manual_seed(derive_seed(*keys))


@contextmanager
def seeded(*keys: int) -> Iterator[None]:
    """Seed the CPU generators inside the block; put their previous state back afterwards."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    fix_seeds(*keys)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
