"""Transducer losses on CUDA: the functions of ``recursion`` as Triton kernels.

Importing this needs no triton; calling anything does. Nothing here waits for the device, except the
first comparison of the kernels with their definitions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zipasr.kernels.launch import LARGEST_ERROR, TYPES, CheckedKernels, differences, launch
from zipasr.losses import recursion
from zipasr.losses.recursion import LatticeSums
from zipasr.nn.cuda_graph import power_of_two

MAX_LANES = 4096  # labels that one program can hold
_MAX_COLUMNS = 4096  # of a softmax row that are read at a time
_WARP = 32  # no fewer lanes than threads


def full_recursion(px: Tensor, py: Tensor, s_lens: Tensor, t_lens: Tensor) -> LatticeSums:
    """Do as ``recursion.full_recursion``, for float32.

    Raises:
        ValueError: another type than float32.
    """
    num_symbols, num_columns = px.shape[1:]
    if num_symbols >= MAX_LANES:
        return recursion.full_recursion(px, py, s_lens, t_lens)
    num_frames = py.shape[2]
    return _launch_recursion(
        (px, py),
        (num_columns, 1, num_frames, 1),
        None,
        (s_lens, t_lens),
        num_symbols,
        num_columns > num_frames,
    )


def band_recursion(
    px: Tensor,
    py: Tensor,
    starts: Tensor,
    s_lens: Tensor,
    t_lens: Tensor,
    num_symbols: int,
    regular: bool,
) -> LatticeSums:
    """Do as ``recursion.band_recursion``, for float32.

    Raises:
        ValueError: another type than float32, or more than 4095 labels per frame.
    """
    width = py.shape[2]
    return _launch_recursion(
        (px, py), (1, width, 1, width), starts, (s_lens, t_lens), num_symbols, regular
    )


def softmax_arcs(logits: Tensor, targets: Tensor, blank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities of the target and of blank under a softmax, in one pass over the logits.

    Args:
        logits: (N, T, R, V), float32, bfloat16 or float16; the arithmetic is float32.
        targets: (N, T, R) int64 below V; negative where no path comes: both probabilities are 0.
        blank: id in 0 .. V - 1.

    Returns:
        lse, px and py, (N, T, R) float32: the log of the sum of the exponentials, and the
        log-probabilities of target and blank.

    Raises:
        ValueError: another type of logits.
    """
    _check_logits(logits)
    lse, px, py = (torch.empty(targets.shape, device=logits.device) for _ in range(3))
    tensors = (logits.contiguous(), targets.contiguous(), lse, px, py)
    vocab = logits.shape[-1]
    block, num_warps = _softmax_block(vocab)
    kernel = KERNELS.module.softmax_arcs_kernel
    launch(kernel, (lse.numel(),), num_warps, (*tensors, blank), vocab=vocab, block=block)
    return lse, px, py


def softmax_arcs_grad(
    logits: Tensor,
    lse: Tensor,
    targets: Tensor,
    blank: int,
    px_grad: Tensor,
    py_grad: Tensor,
    in_place: bool = False,
) -> Tensor:
    """Gradient with respect to the logits from those with respect to px and py.

    It is -(px_grad + py_grad) softmax, plus px_grad at the target and py_grad at blank. Where both
    are 0 it is 0, whatever the logits.

    Args:
        logits: (N, T, R, V) as given to ``softmax_arcs``.
        lse: (N, T, R) float32 from there.
        targets: (N, T, R) int64.
        blank: id in 0 .. V - 1.
        px_grad: (N, T, R) float32.
        py_grad: (N, T, R) float32.
        in_place: write over the logits, which must be contiguous.

    Returns:
        (N, T, R, V) in the type of the logits; the logits themselves with ``in_place``.

    Raises:
        ValueError: another type of logits, or not contiguous with ``in_place``.
    """
    _check_logits(logits)
    if in_place and not logits.is_contiguous():
        raise ValueError("logits are not contiguous; they cannot be overwritten by their gradient")
    tensors = [x.contiguous() for x in (logits, lse, targets, px_grad, py_grad)]
    grad = logits if in_place else torch.empty_like(tensors[0])
    vocab = logits.shape[-1]
    block, num_warps = _softmax_block(vocab)
    kernel = KERNELS.module.softmax_arcs_grad_kernel
    launch(kernel, (lse.numel(),), num_warps, (*tensors, grad, blank), vocab=vocab, block=block)
    return grad


def _launch_recursion(
    arcs: tuple[Tensor, Tensor],
    strides: tuple[int, int, int, int],
    starts: Tensor | None,
    lens: tuple[Tensor, Tensor],
    num_symbols: int,
    regular: bool,
) -> LatticeSums:
    """Run the kernel on ``arcs`` with ``strides``: label and frame of px, label and frame of py."""
    px, py = (x.contiguous() for x in arcs)
    if px.dtype != torch.float32 or py.dtype != torch.float32:
        raise ValueError(f"arc weights are {px.dtype} and {py.dtype}; the kernels take float32")
    batch, num_frames, width = py.shape
    if starts is None:
        num_frames, width = py.shape[2], num_symbols
    lanes, num_warps = program_size(width + 1)
    if lanes > MAX_LANES:
        raise ValueError(f"the lattice needs {lanes} lanes; the kernels have {MAX_LANES}")
    num_steps = num_frames + num_symbols if regular else num_frames
    s_lens, t_lens = (x.to(torch.int64).contiguous() for x in lens)
    bottoms = s_lens if starts is None else starts.to(torch.int64).contiguous()
    score = torch.empty_like(s_lens, dtype=torch.float32)
    px_grad, py_grad = torch.zeros_like(px), torch.zeros_like(py)
    leads, rows = px.new_empty(batch, num_steps, lanes), px.new_empty(batch, 4, lanes)
    tensors = (px, py, bottoms, s_lens, t_lens, score, px_grad, py_grad, leads, rows)
    sizes = (num_steps, num_frames, width)
    px_strides, py_strides = (px.stride(0), *strides[:2]), (py.stride(0), *strides[2:])
    launch(
        KERNELS.module.recursion_kernel,
        (batch,),
        num_warps,
        (*tensors, *sizes, *px_strides, *py_strides),
        band=starts is not None,
        regular=regular,
        lanes=lanes,
    )
    return LatticeSums(score, px_grad, py_grad)


def program_size(num: int) -> tuple[int, int]:
    """Lanes of a program that has one for each of ``num`` labels, and its warps."""
    lanes = max(_WARP, power_of_two(num))
    return lanes, min(8, max(1, lanes // 128))  # few: warps wait for each other at every step


def _softmax_block(vocab: int) -> tuple[int, int]:
    """Columns per block and warps per program; at least four columns for each thread."""
    block = min(_MAX_COLUMNS, max(4 * _WARP, power_of_two(vocab)))
    return block, min(8, max(1, block // (8 * _WARP)))


def _check_logits(logits: Tensor) -> None:
    if logits.dtype not in TYPES:
        raise ValueError(f"logits are {logits.dtype}; the kernels take {TYPES}")


def _all_errors(device: torch.device) -> list[float]:
    return _lattice_errors(device) + _softmax_errors(device)


def _lattice_errors(device: torch.device) -> list[float]:
    """Differences of the recursions from torch's.

    The labels exceed a warp: the lanes of a band are handed on, those of a full lattice need two.
    """
    errors = []
    for regular, num_frames, num_symbols in ((True, 8, 130), (False, 12, 9)):
        px, py, lens = _random_lattice(num_frames + regular, num_frames, num_symbols, device)
        full = full_recursion(px, py, *lens), recursion.full_recursion(px, py, *lens)
        errors += differences(*full)
        px, py, lens = _random_lattice(40, 40, 36, device)
        lanes = px[:, :4].transpose(1, 2), py[:, :4].transpose(1, 2)
        starts = (torch.arange(40, device=device) * 36 // 40).clamp(max=33).expand(2, 40)
        band = (*lanes, starts, *lens, 36, regular)
        errors += differences(band_recursion(*band), recursion.band_recursion(*band))
    return errors


def _random_lattice(
    num_columns: int, num_frames: int, num_symbols: int, device: torch.device
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Arc weights and lengths of two utterances, the second of an eighth of the size."""
    g = torch.Generator().manual_seed(0)
    px = torch.randn(2, num_symbols, num_columns, generator=g)
    py = torch.randn(2, num_symbols + 1, num_frames, generator=g)
    s_lens, t_lens = (torch.tensor([x, x // 8], device=device) for x in (num_symbols, num_frames))
    return px.to(device), py.to(device), (s_lens, t_lens)


def _softmax_errors(device: torch.device) -> list[float]:
    """Differences of the softmax kernels from torch's; those of a rounded one relative to that."""
    errors = []
    g = torch.Generator().manual_seed(0)
    for dtype in (torch.float32, torch.bfloat16):
        logits = torch.randn(2, 3, 2, 300, generator=g).to(device, dtype)
        targets = torch.randint(300, (2, 3, 2), generator=g).to(device)
        gx, gy = torch.randn(2, 2, 3, 2, generator=g).to(device)
        log_probs = logits.float().log_softmax(3)
        arcs = log_probs.gather(3, targets[..., None])[..., 0], log_probs[..., 1]
        grad = log_probs.exp() * -(gx + gy)[..., None]
        grad.scatter_add_(3, targets[..., None], gx[..., None])[..., 1] += gy
        lse, px, py = softmax_arcs(logits, targets, 1)
        result = softmax_arcs_grad(logits, lse, targets, 1, gx, gy)
        errors += differences((px, py), arcs)
        tolerance = max(1.0, 2 * torch.finfo(dtype).eps / LARGEST_ERROR)  # of a rounded gradient
        errors += [error / tolerance for error in differences([result], [grad])]
    return errors


KERNELS = CheckedKernels(
    "lattices", _all_errors, "PyTorch computes transducer losses, in thousands of launches more."
)
