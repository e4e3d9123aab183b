"""The transducer losses against torchaudio, k2 and our own plain PyTorch.

Run from the repository root, on an idle machine:

    python -m benchmarks.transducer_loss --k2-python k2env/bin/python
    python -m benchmarks.transducer_loss --parts pruned,step --sizes A --threads 1 --repeats 20
    python -m benchmarks.transducer_loss --device cuda

``tests/golden/losses/make_k2.py`` says how to make the environment of k2. Every part is measured
forward and backward; the parts are

    recursion   the sum over all paths of given arc weights, with occupations
    smoothed    the smoothed simple loss (lm 0.25) of given logits, with occupations
    pruned      the pruned loss of given logits, range 5
    full        the loss of given logits of the full lattice
    step        all from the outputs of encoder and predictor, 512 wide: three linear layers to a
                vocabulary of 500, smoothed loss, ranges, pruning, tanh, pruned loss; for torchaudio
                tanh and one linear layer on the full lattice
    linear      the products of these linear layers alone; with it and ``step`` a second table
                gives the difference, as torch of another version multiplies at another speed

Systems: ``torchaudio``; ``torch`` and ``ours``, our losses with the back ends "torch" and "auto";
``k2``. Every system runs in a process of its own for each part and size, with the environment
that train.py gives to its processes; the systems take turns, so that all meet the same
disturbances. Wall time is the best of all repeats (and the median), CPU time the best; memory is
the peak resident set above what the process had, inputs included, before its first run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from benchmarks import k2_server
from benchmarks.k2_server import BLANK, SIZES, Inputs, Run, Sides
from zipasr import losses
from zipasr.base.distributed import CHILD_ENVIRONMENT

SYSTEMS = ("torchaudio", "torch", "ours", "k2")
PARTS = ("recursion", "smoothed", "pruned", "full", "step", "linear")
WITHOUT_TORCHAUDIO = """\
torchaudio has the loss of the full lattice only, so it has no rows for recursion, smoothed and \
pruned."""
SIZE_A_ONLY = """\
The full lattice is left out above size A on a CPU: one tensor of logits takes 0.8 GB at size B \
and 3 GB at size C, and a step holds several of that size."""
WITHOUT_K2 = "There are no rows of k2: give its interpreter with --k2-python (CPU only)."


class Result(NamedTuple):
    """One system in one part: seconds of every repeat, MiB, and the loss."""

    wall: list[float]
    cpu: list[float]
    memory: float
    loss: float


class Cell(NamedTuple):
    """What the systems are compared on."""

    part: str
    size: str
    threads: str
    device: str


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    args = _parse(argv)
    if args.serve:
        system, part, size, threads = args.serve
        make = partial(make_run, system, part)
        k2_server.serve(make, SIZES[size], int(threads), args.device)
        return
    systems = [name for name in args.systems if name != "k2" or args.k2_python]
    for sentence in notes(args, systems):
        print(sentence)
    print(
        "part       size threads  system       best ms  median ms   CPU ms  memory MiB"
        "  k2/this torch/this          loss"
    )
    times: dict[Cell, dict[str, float]] = {}
    for threads in args.threads:
        for size in args.sizes:
            for part in args.parts:
                cell = Cell(part, size, threads, args.device)
                results = measure(cell, systems, args.repeats, args.k2_python)
                print_rows(cell, results)
                times[cell] = {name: min(x.wall) for name, x in results.items()}
    print_without_linear(times)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)

    def names(choices: Sequence[str]) -> Callable[[str], list[str]]:
        def split(text: str) -> list[str]:
            for name in text.split(","):
                if name not in choices:
                    raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(choices)}")
            return text.split(",")

        return split

    def add_list(flag: str, choices: Sequence[str]) -> None:
        every = ",".join(choices)
        parser.add_argument(flag, type=names(choices), default=every, help=f"of {every}")

    add_list("--parts", PARTS)
    add_list("--sizes", tuple(SIZES))
    add_list("--systems", SYSTEMS)
    parser.add_argument("--threads", type=lambda x: x.split(","), default="1,2", help="comma list")
    parser.add_argument("--repeats", type=int, default=10, help="runs of each system")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where")
    parser.add_argument("--k2-python", metavar="PATH", help="a Python that can import k2")
    parser.add_argument(
        "--serve", nargs=4, metavar=("SYSTEM", "PART", "SIZE", "THREADS"), help=argparse.SUPPRESS
    )
    args = parser.parse_args(argv)
    if args.k2_python and not Path(args.k2_python).is_file():
        parser.error(f"--k2-python {args.k2_python} is not a file; give the interpreter itself")
    if args.device == "cuda":
        args.k2_python = None
    return args


def notes(args: argparse.Namespace, systems: Sequence[str]) -> list[str]:
    """Say what is left out, and why."""
    result = []
    if "k2" in args.systems and "k2" not in systems:
        result.append(WITHOUT_K2)
    if "torchaudio" in systems and {"recursion", "smoothed", "pruned"} & set(args.parts):
        result.append(WITHOUT_TORCHAUDIO)
    has_full = "full" in args.parts or "torchaudio" in systems
    if has_full and args.device == "cpu" and set(args.sizes) != {"A"}:
        result.append(SIZE_A_ONLY)
    return result


def takes_part(system: str, cell: Cell) -> bool:
    """Whether a system has this part and can hold it in memory."""
    if cell.part == "linear" and system == "ours":
        return False  # the same products in the same process as those of "torch"
    if system == "torchaudio" and cell.part not in ("full", "step", "linear"):
        return False
    is_full = cell.part == "full" or system == "torchaudio"
    return not is_full or cell.size == "A" or cell.device == "cuda"


def measure(
    cell: Cell, systems: Sequence[str], repeats: int, k2_python: str | None
) -> dict[str, Result]:
    """Let all systems take turns."""
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(_server(name, cell, k2_python))
            for name in systems
            if takes_part(name, cell)
        }
        rounds = [
            {name: _ask(name, server) for name, server in servers.items()}
            for _ in range(repeats + 1)
        ]
    # The first run of each makes tables and finds its memory.
    return {name: _collect([answers[name] for answers in rounds]) for name in servers}


def _collect(answers: Sequence[dict[str, float]]) -> Result:
    timed, last = answers[1:], answers[-1]
    wall, cpu = [x["wall"] for x in timed], [x["cpu"] for x in timed]
    return Result(wall, cpu, last["memory"], last["loss"])


def _server(system: str, cell: Cell, k2_python: str | None) -> subprocess.Popen[str]:
    if system == "k2":
        assert k2_python is not None
        file = Path(__file__).with_name("k2_server.py")
        command = [k2_python, str(file), cell.part, cell.size, cell.threads]
    else:
        command = [sys.executable, "-m", "benchmarks.transducer_loss", "--device", cell.device]
        command += ["--serve", system, cell.part, cell.size, cell.threads]
    counts = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), cell.threads)
    environment = {**os.environ, **CHILD_ENVIRONMENT, **counts}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)


def _ask(name: str, server: subprocess.Popen[str]) -> dict[str, float]:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write("run\n")
    server.stdin.flush()
    line = server.stdout.readline()
    if not line:
        raise SystemExit(f"The process of {name} ended; its message is above.")
    answer: dict[str, float] = json.loads(line)
    return answer


def print_rows(cell: Cell, results: dict[str, Result]) -> None:
    """Print one line for each system."""
    best = {name: min(result.wall) for name, result in results.items()}
    for name, result in results.items():
        print(
            f"{cell.part:10} {cell.size:4} {cell.threads:>7}  {name:10}"
            f" {1000 * best[name]:9.2f} {1000 * statistics.median(result.wall):10.2f}"
            f" {1000 * min(result.cpu):8.2f} {result.memory:11.0f}"
            f" {_ratio(best, 'k2', name)} {_ratio(best, 'torch', name):>10}"
            f" {result.loss:13.8g}",
            flush=True,
        )


def print_without_linear(times: dict[Cell, dict[str, float]]) -> None:
    """Print what a step takes besides the products of its linear layers."""
    pairs = [
        (cell, best, times[cell._replace(part="linear")])
        for cell, best in times.items()
        if cell.part == "step" and cell._replace(part="linear") in times
    ]
    if pairs:
        print("\npart          size threads  system       best ms  k2/this torch/this  step/linear")
    for cell, steps, products in pairs:
        of_linear = {name: products.get("torch" if name == "ours" else name) for name in steps}
        rest = {name: steps[name] - x for name, x in of_linear.items() if x is not None}
        for name, seconds in rest.items():
            print(
                f"step-nolinear {cell.size:4} {cell.threads:>7}  {name:10} {1000 * seconds:9.2f}"
                f" {_ratio(rest, 'k2', name)} {_ratio(rest, 'torch', name):>10}"
                f" {steps[name] / (steps[name] - seconds):12.2f}"
            )


def _ratio(seconds: dict[str, float], other: str, this: str) -> str:
    return f"{seconds[other] / seconds[this]:8.2f}" if other in seconds else f"{'-':>8}"


def make_run(system: str, part: str, inputs: Inputs) -> Run:
    """Return what is measured."""
    if system == "torchaudio":
        if part == "linear":
            return k2_server.make_linear(inputs, full=True)
        return k2_server.make_run(part, _torchaudio_losses(), inputs, full_step)
    if system == "torch":
        return k2_server.make_run(part, _our_losses("torch"), inputs)
    return k2_server.make_run(part, _our_losses("auto"), inputs, our_step)


def our_step(functions: Any, sides: Sides, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """The step of ``ours``, as ``AsrModel`` calls it: the joiner's input is made in one go."""
    am = k2_server.linear(sides.encoder, *sides.am)
    lm = k2_server.linear(sides.predictor, *sides.lm)
    simple, occupations = k2_server.smoothed_loss(functions, lm, am, inputs)
    band = losses.get_rnnt_prune_ranges(*occupations, inputs.boundary, k2_server.WIDTH)
    hidden = losses.tanh_of_pruned_sums(sides.encoder, sides.predictor, band)
    logits = k2_server.linear(hidden, *sides.joiner)
    del hidden
    overwriting = SimpleNamespace(
        rnnt_loss_pruned=partial(functions.rnnt_loss_pruned, overwrite_logits=True)
    )
    return simple, k2_server.pruned_loss(overwriting, logits, band, inputs)


def full_step(functions: Any, sides: Sides, inputs: Inputs) -> tuple[None, Tensor]:
    """The step without pruning: the joiner and its loss on the full lattice."""
    hidden = torch.tanh(sides.encoder[:, :, None] + sides.predictor[:, None])
    logits = linear(hidden, *sides.joiner)
    del hidden
    loss = functions.rnnt_loss(logits, inputs.symbols, BLANK, inputs.boundary, reduction="sum")
    return None, loss


def _our_losses(backend: str) -> SimpleNamespace:
    chosen = ("mutual_information_recursion", "rnnt_loss", "rnnt_loss_pruned", "rnnt_loss_smoothed")
    functions = {name: partial(getattr(losses, name), backend=backend) for name in chosen}
    return SimpleNamespace(
        get_rnnt_prune_ranges=losses.get_rnnt_prune_ranges,
        do_rnnt_pruning=losses.do_rnnt_pruning,
        **functions,
    )


def _torchaudio_losses() -> SimpleNamespace:
    import torchaudio

    def rnnt_loss(
        logits: Tensor, symbols: Tensor, blank: int, boundary: Tensor, reduction: str
    ) -> Tensor:
        lens = boundary.int()
        loss: Tensor = torchaudio.functional.rnnt_loss(
            logits,
            symbols.int(),
            lens[:, 3].contiguous(),
            lens[:, 2].contiguous(),
            blank=blank,
            reduction=reduction,
        )
        return loss

    return SimpleNamespace(rnnt_loss=rnnt_loss)


if __name__ == "__main__":
    main()
