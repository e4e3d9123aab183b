"""Transducer losses on a CPU: ``recursion`` as numba loops, and a fused simple loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from zipasr.base.environment import in_threads
from zipasr.kernels.numba import lattices as compiled
from zipasr.kernels.numba import logits as compiled_logits
from zipasr.losses.recursion import LatticeSums

ROWS_PER_ITEM = 2048  # of logits, for one thread at a time


def full_recursion(px: Tensor, py: Tensor, s_lens: Tensor, t_lens: Tensor) -> LatticeSums:
    """As ``recursion.full_recursion``, for float32."""
    px, py = px.contiguous(), py.contiguous()
    sums = LatticeSums(px.new_empty(len(px)), torch.empty_like(px), torch.empty_like(py))
    score, px_grad, py_grad = map(_array, sums)
    x, y, s_ends, t_ends = _array(px), _array(py), s_lens.tolist(), t_lens.tolist()

    def one(n: int) -> None:
        score[n] = compiled.full_lattice(x[n], y[n], s_ends[n], t_ends[n], px_grad[n], py_grad[n])

    in_threads(one, len(px))
    return sums


def band_recursion(
    px: Tensor,
    py: Tensor,
    starts: Tensor,
    s_lens: Tensor,
    t_lens: Tensor,
    num_symbols: int,  # noqa: ARG001 - of use to other back ends
    regular: bool,
) -> LatticeSums:
    """As ``recursion.band_recursion``, for float32."""
    px, py = px.contiguous(), py.contiguous()
    sums = LatticeSums(px.new_empty(len(px)), torch.empty_like(px), torch.empty_like(py))
    score, px_grad, py_grad = map(_array, sums)
    x, y, first = _array(px), _array(py), _array(starts.contiguous())
    s_ends, t_ends = s_lens.tolist(), t_lens.tolist()

    def one(n: int) -> None:
        score[n] = compiled.band_lattice(
            x[n], y[n], first[n], s_ends[n], t_ends[n], regular, px_grad[n], py_grad[n]
        )

    in_threads(one, len(px))
    return sums


def softmax_arcs(logits: Tensor, targets: Tensor, blank: int) -> tuple[Tensor, Tensor, Tensor]:
    """As ``recursion.softmax_arcs``, for float32 and bfloat16 logits."""
    lse, px, py = (torch.empty_like(targets, dtype=torch.float32) for _ in range(3))
    rows, outputs = _rows(logits), [_array(x.view(-1)) for x in (lse, px, py)]
    ids = _array(targets.contiguous().view(-1))

    def some(item: int) -> None:
        n = slice(item * ROWS_PER_ITEM, (item + 1) * ROWS_PER_ITEM)
        compiled_logits.softmax_arcs(rows[n], ids[n], blank, *(x[n] for x in outputs))

    in_threads(some, -(-len(ids) // ROWS_PER_ITEM))
    return lse, px, py


def softmax_arcs_grad(
    logits: Tensor,
    lse: Tensor,
    targets: Tensor,
    blank: int,
    px_grad: Tensor,
    py_grad: Tensor,
    in_place: bool,
) -> Tensor:
    """As ``recursion.softmax_arcs_grad``, for float32 and bfloat16 logits."""
    logits = logits.contiguous()
    grad = logits if in_place else torch.empty_like(logits)
    rows, out, ids = _rows(logits), _rows(grad), _array(targets.contiguous().view(-1))
    gx, gy, norm = (_array(x.contiguous().view(-1)) for x in (px_grad, py_grad, lse))

    def some(item: int) -> None:
        n = slice(item * ROWS_PER_ITEM, (item + 1) * ROWS_PER_ITEM)
        compiled_logits.softmax_arcs_grad(rows[n], norm[n], ids[n], blank, gx[n], gy[n], out[n])

    in_threads(some, -(-len(ids) // ROWS_PER_ITEM))
    return grad


class SmoothedScore(torch.autograd.Function):
    """Score of the simple joiner on the regular lattice, from logits to scores in one node.

    With the sum of products ``joint(t, s) = sum_v exp(am - max) exp(lm - max)`` known, both
    directions are three matrix products, and a visit to each cell of the lattice and to each
    logit.
    """

    @staticmethod
    def forward(
        ctx: Any,
        lm: Tensor,
        am: Tensor,
        labels: Tensor,
        boundary: Tensor,
        blank: int,
        lm_scale: float,
        delay_penalty: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores (N,) and occupations (N, S, T + 1) and (N, S + 1, T).

        ``labels`` (N, S + 1) are valid ids; ``boundary`` begins at (0, 0).
        """
        lm, am = lm.contiguous(), am.contiguous()
        (batch, num_frames), num_labels = am.shape[:2], lm.shape[1]
        lm_exp, lm_top, lm_total = _exp_rows(lm)
        am_exp, am_top, _ = _exp_rows(am)
        joint = torch.bmm(am_exp, lm_exp.transpose(1, 2))
        picked = lm.gather(2, torch.stack([labels, torch.full_like(labels, blank)], 2))
        scale = 1.0 - lm_scale
        # scale (lm - top) + lm_scale (lm - top - log total)
        terms = picked - lm_top[:, :, None] - lm_scale * lm_total.log()[:, :, None]
        score = am.new_empty(batch)
        px_grad = am.new_empty(batch, num_frames + 1, num_labels - 1)
        py_grad = am.new_empty(batch, num_frames, num_labels)
        arrays = [_array(x) for x in (am, am_top, joint, labels, terms.movedim(2, 0).contiguous())]
        logits, tops, joints, ids, (symbol_terms, blank_terms) = arrays
        scores, gx, gy = _array(score), _array(px_grad), _array(py_grad)
        ends = boundary[:, 2:].tolist()

        def one(n: int) -> None:
            s_end, t_end = ends[n]
            scores[n] = compiled.simple_lattice(
                logits[n], tops[n], joints[n], ids[n, :s_end], symbol_terms[n], blank_terms[n],
                t_end, blank, np.float32(scale), np.float32(delay_penalty), gx[n], gy[n],
            )  # fmt: skip

        in_threads(one, batch)
        ctx.save_for_backward(lm_exp, lm_total, am_exp, joint, labels, px_grad, py_grad)
        ctx.ends, ctx.blank, ctx.lm_scale = ends, blank, lm_scale
        occupations = px_grad.transpose(1, 2), py_grad.transpose(1, 2)
        ctx.mark_non_differentiable(*occupations)
        return score, *occupations

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, score_grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of ``lm`` and ``am``."""
        lm_exp, lm_total, am_exp, joint, labels, px_grad, py_grad = ctx.saved_tensors
        scale, blank = 1.0 - ctx.lm_scale, ctx.blank
        weights = _array(score_grad.float().contiguous())
        over_joint = torch.empty_like(joint)
        gx, gy, ids = _array(px_grad), _array(py_grad), _array(labels)
        joints, cells = _array(joint), _array(over_joint)

        def cells_of(n: int) -> None:
            t_end, weight = ctx.ends[n][1], np.float32(scale * weights[n])
            compiled_logits.joint_grad(gx[n], gy[n], joints[n], t_end, weight, cells[n])

        in_threads(cells_of, len(joint))
        am_grad = torch.bmm(over_joint, lm_exp)
        lm_grad = torch.bmm(over_joint.transpose(1, 2), am_exp)
        am_rows, lm_rows, am_exps, lm_exps = map(_array, (am_grad, lm_grad, am_exp, lm_exp))
        symbol_mass, blank_mass = _array(px_grad.sum(1)), _array(py_grad.sum(1))
        totals = _array(lm_total)

        def logits_of(n: int) -> None:
            own, weight = ids[n, : ctx.ends[n][0]], weights[n]
            compiled_logits.finish_am_grad(
                am_rows[n], am_exps[n], gx[n], gy[n], own, blank, np.float32(scale * weight)
            )
            compiled_logits.finish_lm_grad(
                lm_rows[n], lm_exps[n], totals[n], symbol_mass[n], blank_mass[n], own, blank,
                np.float32(ctx.lm_scale * weight), weight,
            )  # fmt: skip

        in_threads(logits_of, len(joint))
        return lm_grad, am_grad, None, None, None, None, None


class TanhOfSums(torch.autograd.Function):
    """tanh(am + lm) on the band, without the two tensors of its size that are added."""

    @staticmethod
    def forward(ctx: Any, am: Tensor, lm: Tensor, ranges: Tensor) -> Tensor:
        """Return (N, T, R, C) from (N, T, C), (N, S + 1, C) and (N, T, R)."""
        out = am.new_empty(*ranges.shape, am.shape[2])
        arrays = [_array(x.contiguous()) for x in (am, lm, ranges)]
        outputs = _array(out)

        def one(n: int) -> None:
            compiled_logits.tanh_of_sums(arrays[0][n], arrays[1][n], arrays[2][n], outputs[n])

        in_threads(one, len(am))
        ctx.save_for_backward(out, ranges)
        ctx.num_labels = lm.shape[1]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return the gradients of ``am`` and ``lm``."""
        out, ranges = ctx.saved_tensors
        batch, num_frames, _, channels = out.shape
        am_grad = torch.empty(batch, num_frames, channels)
        lm_grad = torch.empty(batch, ctx.num_labels, channels)
        arrays = [_array(x.contiguous()) for x in (out, grad, ranges, am_grad, lm_grad)]

        def one(n: int) -> None:
            compiled_logits.tanh_of_sums_grad(*(x[n] for x in arrays))

        in_threads(one, batch)
        return am_grad.to(grad.dtype), lm_grad.to(grad.dtype), None


def _exp_rows(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return exp(x - max) (N, M, V), and maxima and sums (N, M) of a contiguous ``x``."""
    x_exp, top, total = torch.empty_like(x), x.new_empty(x.shape[:2]), x.new_empty(x.shape[:2])
    arrays = [_array(y) for y in (x, x_exp, top, total)]
    in_threads(lambda n: compiled_logits.exp_rows(*(y[n] for y in arrays)), len(x))
    return x_exp, top, total


def _rows(x: Tensor) -> Any:
    """View (..., V) as (rows, V)."""
    return _array(x.contiguous().view(-1, x.shape[-1]))


def _array(x: Tensor) -> Any:
    """View a tensor as an array; bfloat16 as its bits."""
    x = x.detach()
    if x.dtype == torch.bfloat16:
        return x.view(torch.int16).numpy().view(np.uint16)
    return x.numpy()
