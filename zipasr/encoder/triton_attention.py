"""Attention weights on a CUDA device: one Triton kernel from scores to weights, one back.

Importing this needs no triton. The kernels are compared with their definitions in
``attention_scores`` once per process and device before they are used.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from zipasr.encoder import attention_scores
from zipasr.encoder.attention_scores import MASKED_SCORE, Inputs, Penalty
from zipasr.kernels import launch
from zipasr.nn.cuda_graph import power_of_two

_MAX_LANES = 4096  # distances that a program can hold
_MOST_ELEMENTS = 2048  # of a program with several rows


def weights(inputs: Inputs) -> Tensor:
    """Return the weights (N, H, T, S) in the type of the queries."""
    scores = inputs.query @ inputs.key.transpose(2, 3)
    mask = scores if inputs.mask is None else inputs.mask.view(torch.uint8)
    broadcast = zip(mask.shape, mask.stride(), strict=True)
    _launch(
        KERNELS.module.attention_weights_kernel,
        inputs,
        scores.size(3),
        (scores, scores if inputs.pos_query is None else by_distance(inputs), mask),
        tuple(stride if size > 1 else 0 for size, stride in broadcast),
        masked_score=MASKED_SCORE,
        positions=inputs.pos_query is not None,
        masked=inputs.mask is not None,
    )
    return scores


def scores_gradients(
    inputs: Inputs, grad: Tensor, matrix: Tensor, penalty: Penalty
) -> tuple[Tensor, Tensor | None]:
    """Do as ``attention_scores.scores_gradients``; ``grad`` is overwritten by the result."""
    num_columns = grad.size(3)
    scores = distance = distance_grad = grad  # where there are none, they are not touched
    if penalty.kind:
        scores = inputs.query @ inputs.key.transpose(2, 3)
    if inputs.pos_query is not None and inputs.pos_key is not None:
        num_columns = inputs.pos_key.size(1)
        num_utterances, num_heads, num_targets, _ = grad.shape
        distance_grad = grad.new_empty(num_heads, num_targets, num_utterances, num_columns)
        distance = by_distance(inputs) if penalty.kind else distance_grad
    silent = grad if penalty.silent is None else penalty.silent.view(torch.uint8)
    _launch(
        KERNELS.module.attention_grad_kernel,
        inputs,
        num_columns,
        (grad, matrix, scores, distance, distance_grad, silent),
        (silent.stride(0), penalty.limit, penalty.weight),
        positions=inputs.pos_query is not None,
        penalized=penalty.kind,
        has_silent=penalty.silent is not None,
    )
    return grad, None if inputs.pos_query is None else distance_grad


def by_distance(inputs: Inputs) -> Tensor:
    """Return the scores of positions, (H, T, N, K): so the time-first queries are not copied."""
    assert inputs.pos_query is not None
    assert inputs.pos_key is not None
    query = inputs.pos_query.permute(1, 2, 0, 3)
    product = query.flatten(1, 2) @ inputs.pos_key.transpose(1, 2)
    return product.view(*query.shape[:3], -1)


def suits(query: Tensor, num_distances: int) -> bool:
    """Say whether the kernels can compute the weights of these queries, where they are."""
    fits = query.dtype in launch.TYPES and num_distances <= _MAX_LANES
    return fits and KERNELS.work_on(query.device)


def _errors(device: torch.device) -> Iterator[float]:
    g = torch.Generator().manual_seed(0)
    for num_targets, num_sources, positions, masked in (
        *((3, 5, True, True), (1, 1, True, False), (20, 20, False, True)),
        (70, 75, True, False),
    ):
        content = (num_targets, 4), (num_sources, 4)
        query, key = (5 * torch.randn(2, 3, *shape, generator=g) for shape in content)
        pos_query = torch.randn(2, 3, num_targets, 2, generator=g) if positions else None
        num_distances = num_targets - 1 + num_sources
        pos_key = torch.randn(3, num_distances, 2, generator=g) if positions else None
        mask = torch.rand(2, 1, 1, num_sources, generator=g) < 0.3 if masked else None
        outer = torch.randn(2, 3, num_targets, num_sources, generator=g)
        here = Inputs(query, key, pos_query, pos_key, mask)
        there = here.map(lambda x: x.to(device))
        here = here.map(lambda x: x if x.dtype == torch.bool else x.double())
        matrix = attention_scores.weights_of_block(here)
        yield from launch.differences([weights(there)], [matrix])
        silent = torch.rand(2, num_targets, generator=g) < 0.3
        for penalty in (Penalty(), Penalty(1, 5.0, 0.3), Penalty(2, 5.0, 0.3, silent.to(device))):
            plain = penalty._replace(silent=silent)
            wanted = attention_scores.scores_gradients(here, outer.double(), matrix, plain)
            some = outer.to(device, copy=True), matrix.float().to(device)
            found = scores_gradients(there, *some, penalty)
            yield from launch.differences(
                *([x for x in those if x is not None] for those in (found, wanted))
            )


def _launch(
    kernel: object,
    inputs: Inputs,
    num_columns: int,
    tensors: tuple[Tensor, ...],
    numbers: tuple[float, ...],
    **constants: float,
) -> None:
    """Run a kernel on all rows, of ``num_columns`` lanes."""
    num_utterances, num_heads, num_targets, num_sources = inputs.shape
    distances = num_sources if inputs.pos_key is None else inputs.pos_key.size(1)
    lanes = power_of_two(num_columns)
    rows = min(power_of_two(num_targets), max(1, _MOST_ELEMENTS // lanes))
    launch.launch(
        kernel,
        (num_utterances * num_heads, -(-num_targets // rows)),
        min(32, max(1, rows * lanes // 256)),
        (*tensors, num_heads, num_targets, num_sources, distances, num_utterances, *numbers),
        **constants,
        rows=rows,
        lanes=lanes,
    )


KERNELS = launch.CheckedKernels("attention", _errors, "Attention moves half as many bytes again.")
