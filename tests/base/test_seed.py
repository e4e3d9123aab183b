import random

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from zipasr.base.seed import derive_seed, fix_seeds, generator_for, seeded


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


@given(st.lists(st.integers(), min_size=1, max_size=4))
def test_a_seed_is_a_function_of_its_keys(keys: list[int]) -> None:
    assert derive_seed(*keys) == derive_seed(*keys)
    assert 0 <= derive_seed(*keys) < 2**63


def test_keys_are_not_interchangeable() -> None:
    assert len({derive_seed(*k) for k in [(1, 2), (2, 1), (12,), (1, 2, 0), (3,)]}) == 5


def test_the_same_keys_give_the_same_draws() -> None:
    fix_seeds(1, 2, 3)
    first = draws()
    fix_seeds(1, 2, 3)
    assert draws() == first
    fix_seeds(1, 2, 4)
    assert draws() != first


def test_a_seeded_block_does_not_disturb_what_follows() -> None:
    fix_seeds(5)
    expected = draws()
    fix_seeds(5)
    with seeded(1):
        inside = draws()
    assert draws() == expected
    fix_seeds(1)
    assert draws() == inside


def test_a_generator_of_its_own() -> None:
    before = torch.get_rng_state()
    value = torch.rand(3, generator=generator_for(7, 1))
    assert torch.equal(value, torch.rand(3, generator=generator_for(7, 1)))
    assert torch.equal(torch.get_rng_state(), before)
