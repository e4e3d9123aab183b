"""Processes that share the matrix products of an update."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.optim.test_rubik import MIXED, random_gradient, random_parameters
from zipasr.base.distributed import World, launch
from zipasr.optim import rubik
from zipasr.optim.rubik import BatchedRubik
from zipasr.optim.rubik_rules import orthogonalise
from zipasr.optim.shared_matrices import dealt, multiplications

STEPS = 4


def updated(world: World, dtype: torch.dtype, folder: Path) -> None:
    """Make some updates; write weights, state, and the number of matrices made orthogonal here."""
    made = 0

    def counted(x: torch.Tensor, *memory: object) -> torch.Tensor:
        nonlocal made
        made += len(x)
        return orthogonalise(x, *memory)  # type: ignore[arg-type]

    real, rubik.orthogonalise = rubik.orthogonalise, counted
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as each of two has: sums are in another order with more
    try:
        params = random_parameters([*MIXED, (12, 3), (2, 4, 4)], torch.float32)
        groups = [{"params": params[:7], "lr": 0.02}, {"params": params[7:], "lr": 0.01}]
        optimizer = BatchedRubik(groups, work_dtype=dtype, world=world)
        for step in range(STEPS):
            for index, param in enumerate(params):
                # A parameter that is unused once.
                is_used = (index, step) != (3, 1)
                param.grad = random_gradient(param, index, step) if is_used else None
            optimizer.step()
    finally:
        rubik.orthogonalise = real
        torch.set_num_threads(threads)
    found = (params, optimizer.state_dict()["state"], made)
    torch.save(found, folder / f"{world.rank}-{world.size}.pt")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shared_updates_are_those_of_one_process_bit_for_bit(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    updated(World(0, 1, torch.device("cpu")), dtype, tmp_path)
    params, state, made = torch.load(tmp_path / "0-1.pt", weights_only=False)
    launch(updated, 2, 12371, dtype, tmp_path)
    shares = []
    for rank in range(2):
        others, their_state, share = torch.load(tmp_path / f"{rank}-2.pt", weights_only=False)
        for one, other in zip(params, others, strict=True):
            assert torch.equal(one, other)
        for one, other in zip(state.values(), their_state.values(), strict=True):
            assert one.keys() == other.keys()
            assert all(torch.equal(torch.as_tensor(one[k]), torch.as_tensor(other[k])) for k in one)
        shares.append(share)
    assert sum(shares) == made
    assert max(shares) < made


@given(st.lists(st.integers(1, 1000), max_size=30), st.integers(1, 5))
def test_no_process_has_more_to_do_than_another_by_more_than_a_piece(
    costs: list[int], size: int
) -> None:
    owners = dealt(costs, size)
    loads = [sum(c for c, o in zip(costs, owners, strict=True) if o == p) for p in range(size)]
    assert sum(loads) == sum(costs)
    assert max(loads) - min(loads) <= max(costs, default=0)


def test_multiplications_of_the_polynomial() -> None:
    # X X' of (4, 6), its square, and the product with X, five times, for three matrices.
    assert multiplications((4, 2, 3), 3) == 3 * 5 * (4 * 6 * 4 + 4**3 + 4 * 4 * 6)
