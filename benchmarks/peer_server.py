"""What all processes of ``benchmarks.transducer_loss`` share, and the process that runs a peer.

A peer, k2 or fast_rnnt, lives in an environment of its own (k2 needs Python 3.9 and torch 1.13),
so this file must run there: it imports nothing of the project.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

VOCAB, CHANNELS, WIDTH = 500, 512, 5
BLANK = 0
LM_SCALE, SIMPLE_SCALE = 0.25, 0.5

#: A run makes one forward and one backward pass and returns the loss.
Run = Callable[[], Tensor]


class Size(NamedTuple):
    """N utterances, T frames and S symbols of the longest."""

    batch: int
    frames: int
    symbols: int


SIZES = {"A": Size(8, 250, 50), "B": Size(8, 500, 100), "C": Size(30, 500, 100)}
#: Run before memory is read, for what the libraries load or compile on first use.
SMALL = Size(4, 60, 12)


class Layer(NamedTuple):
    """Weight and bias of a linear layer."""

    weight: Tensor
    bias: Tensor


class Inputs:
    """The inputs of all parts, equal in every process; made when asked for.

    Attributes:
        symbols: (N, S) int64.
        boundary: (N, 4) int64; lengths from 70 to 100 %, the longest texts not with the longest
            sounds.
    """

    def __init__(self, size: Size, device: str) -> None:
        self.size, self.device = size, device
        draw = np.random.RandomState(0)
        self.symbols = self._place(draw.randint(1, VOCAB, (size.batch, size.symbols)))
        share = np.linspace(0.7, 1.0, size.batch)
        boundary = np.zeros((size.batch, 4), np.int64)
        boundary[:, 2] = np.ceil(size.symbols * np.roll(share, 1))
        boundary[:, 3] = np.ceil(size.frames * share)
        self.host_boundary = boundary
        self.boundary = self._place(boundary)

    def _place(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.device)

    def normal(self, name: str, *shape: int, scale: float = 1.0, mean: float = 0.0) -> Tensor:
        """Return float32 numbers drawn for this name, with no second copy on the way."""
        values = np.empty(shape, np.float32)
        np.random.default_rng(zlib.crc32(name.encode())).standard_normal(
            dtype=np.float32, out=values
        )
        values *= scale
        values += mean
        return self._place(values)

    def leaf(self, name: str, *shape: int, **kwargs: float) -> Tensor:
        """Return the same as ``normal``, wanting a gradient."""
        return self.normal(name, *shape, **kwargs).requires_grad_()

    def layer(self, name: str) -> Layer:
        """Return a linear layer from C to V."""
        weight = self.leaf(name, VOCAB, CHANNELS, scale=CHANNELS**-0.5)
        return Layer(weight, self.leaf(name + ".bias", VOCAB, scale=0.1))

    def arcs(self) -> tuple[Tensor, Tensor]:
        """Return log-weights px (N, S, T + 1) and py (N, S + 1, T) of a regular lattice."""
        n, t, s = self.size
        px = self.normal("px", n, s, t + 1, mean=-4.0)
        columns = torch.arange(t + 1, device=self.device)
        px.masked_fill_(columns >= self.boundary[:, 3, None, None], float("-inf"))
        return px.requires_grad_(), self.leaf("py", n, s + 1, t, mean=-2.0)

    def band(self) -> Tensor:
        """Return ranges (N, T, R) that rise evenly from the first label to the last."""
        frames = np.arange(self.size.frames)
        s_len, t_len = self.host_boundary[:, 2:3], self.host_boundary[:, 3:4]
        last = s_len - WIDTH + 1
        starts = np.minimum(frames * last // (t_len - 1), last)
        return self._place(starts[:, :, None] + np.arange(WIDTH))


def make_recursion(losses: Any, inputs: Inputs) -> Run:
    """The sum over all paths with its occupations, and the gradient to the arc weights."""
    px, py = inputs.arcs()

    def run() -> Tensor:
        scores, _ = losses.mutual_information_recursion(px, py, inputs.boundary, return_grad=True)
        return backward(scores.sum(), px, py)

    return run


def make_smoothed(losses: Any, inputs: Inputs) -> Run:
    """The smoothed loss with its occupations, and the gradient to the logits of both sides."""
    n, t, s = inputs.size
    am, lm = inputs.leaf("am", n, t, VOCAB), inputs.leaf("lm", n, s + 1, VOCAB)
    return lambda: backward(smoothed_loss(losses, lm, am, inputs)[0], am, lm)


def make_pruned(losses: Any, inputs: Inputs) -> Run:
    """The pruned loss of given logits on a given band, and the gradient to the logits."""
    n, t, _ = inputs.size
    band, logits = inputs.band(), inputs.leaf("band logits", n, t, WIDTH, VOCAB)
    return lambda: backward(pruned_loss(losses, logits, band, inputs), logits)


def make_full(losses: Any, inputs: Inputs) -> Run:
    """The loss of given logits of the full lattice, and the gradient to the logits."""
    n, t, s = inputs.size
    logits = inputs.leaf("logits", n, t, s + 1, VOCAB)

    def run() -> Tensor:
        loss = losses.rnnt_loss(
            logits, inputs.symbols, BLANK, boundary=inputs.boundary, reduction="sum"
        )
        return backward(loss, logits)

    return run


class Sides(NamedTuple):
    """Encoder output (N, T, C), predictor output (N, S + 1, C), and the layers on them."""

    encoder: Tensor
    predictor: Tensor
    am: Layer
    lm: Layer
    joiner: Layer


#: A whole step: simple loss (None where there is none) and real loss.
Step = Callable[[Any, Sides, Inputs], "tuple[Tensor | None, Tensor]"]


def make_step(losses: Any, inputs: Inputs, step: Step) -> Run:
    """All from the outputs of encoder and predictor, with gradients to them and to weights."""
    n, t, s = inputs.size
    sides = Sides(
        inputs.leaf("encoder", n, t, CHANNELS),
        inputs.leaf("predictor", n, s + 1, CHANNELS),
        *(inputs.layer(name) for name in ("am layer", "lm layer", "joiner layer")),
    )

    def run() -> Tensor:
        simple, loss = step(losses, sides, inputs)
        total, layers = loss, [sides.joiner]
        if simple is not None:
            total, layers = SIMPLE_SCALE * simple + loss, list(sides[2:])
        weights = [x for layer in layers for x in layer]
        backward(total, sides.encoder, sides.predictor, *weights)
        return loss.detach()

    return run


def pruned_step(losses: Any, sides: Sides, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """The two losses of the recipe, as its training step calls them."""
    am, lm = linear(sides.encoder, *sides.am), linear(sides.predictor, *sides.lm)
    simple, occupations = smoothed_loss(losses, lm, am, inputs)
    band = losses.get_rnnt_prune_ranges(*occupations, inputs.boundary, WIDTH)
    am, lm = losses.do_rnnt_pruning(sides.encoder, sides.predictor, band)
    logits = linear(torch.tanh(am + lm), *sides.joiner)
    return simple, pruned_loss(losses, logits, band, inputs)


def make_linear(inputs: Inputs, full: bool) -> Run:
    """Only the products of the linear layers of a step, forward and backward."""
    n, t, s = inputs.size
    shapes = [(n, t, s + 1)] if full else [(n, t), (n, s + 1), (n, t, WIDTH)]
    names = [f"linear {i}" for i in range(len(shapes))]
    leaves, gradients, layers = [], [], []
    for i in range(len(shapes)):
        leaves.append(inputs.leaf(names[i], *shapes[i], CHANNELS))
        gradients.append(inputs.normal(names[i] + " gradient", *shapes[i], VOCAB))
        layers.append(inputs.layer(names[i]))
    wanted = leaves + [x for layer in layers for x in layer]

    def run() -> Tensor:
        outputs = [linear(leaves[i], *layers[i]) for i in range(len(shapes))]
        torch.autograd.grad(outputs, wanted, gradients)
        return outputs[0].detach().flatten()[0]

    return run


def smoothed_loss(
    losses: Any, lm: Tensor, am: Tensor, inputs: Inputs
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Call the smoothed loss as the recipe does."""
    result: tuple[Tensor, tuple[Tensor, Tensor]] = losses.rnnt_loss_smoothed(
        lm=lm,
        am=am,
        symbols=inputs.symbols,
        termination_symbol=BLANK,
        lm_only_scale=LM_SCALE,
        am_only_scale=0.0,
        boundary=inputs.boundary,
        reduction="sum",
        return_grad=True,
    )
    return result


def pruned_loss(losses: Any, logits: Tensor, band: Tensor, inputs: Inputs) -> Tensor:
    """Call the pruned loss as the recipe does."""
    loss: Tensor = losses.rnnt_loss_pruned(
        logits=logits,
        symbols=inputs.symbols,
        ranges=band,
        termination_symbol=BLANK,
        boundary=inputs.boundary,
        reduction="sum",
    )
    return loss


def backward(loss: Tensor, *leaves: Tensor) -> Tensor:
    """Compute the gradients, let them go, and return the loss."""
    torch.autograd.grad(loss, leaves)
    return loss.detach()


def make_run(part: str, losses: Any, inputs: Inputs, step: Step = pruned_step) -> Run:
    """Return what is measured, for a system with the functions of k2."""
    if part == "step":
        return make_step(losses, inputs, step)
    if part == "linear":
        return make_linear(inputs, full=False)
    makers = {
        "recursion": make_recursion,
        "smoothed": make_smoothed,
        "pruned": make_pruned,
        "full": make_full,
    }
    return makers[part](losses, inputs)


def serve(make: Callable[[Inputs], Run], size: Size, threads: int, device: str) -> None:
    """Run once for each line of standard input; print what the run took, as JSON."""
    torch.set_num_threads(threads)
    make(Inputs(SMALL, device))()
    run = make(Inputs(size, device))
    before = _peak_mib(device)
    for _ in sys.stdin:
        _finish(device)
        wall, cpu = time.perf_counter(), time.process_time()
        loss = run()
        _finish(device)
        result = {
            "wall": time.perf_counter() - wall,
            "cpu": time.process_time() - cpu,
            "memory": _peak_mib(device) - before,
            "loss": loss.item(),
        }
        print(json.dumps(result), flush=True)


def _finish(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _peak_mib(device: str) -> float:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    # Not from getrusage: that peak is at least the size of the process that started this one.
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return float(peak.split()[1]) / 1024


def main() -> None:
    """Serve a peer; the arguments are its module, part, size and number of threads."""
    module, part, size, threads = sys.argv[1:]
    peer = importlib.import_module(module)
    serve(lambda inputs: make_run(part, peer, inputs), SIZES[size], int(threads), "cpu")


if __name__ == "__main__":
    main()
