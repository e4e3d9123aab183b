"""The transducer losses against torchaudio, k2, fast_rnnt and our own plain PyTorch.

Run from the repository root, on an idle machine:

    peers="--k2-python .venv-k2/bin/python --fast-rnnt-python .venv-peers/bin/python"
    python -m benchmarks.transducer_loss $peers
    python -m benchmarks.transducer_loss --parts pruned,step --sizes A --threads 1 --repeats 20
    python -m benchmarks.transducer_loss --device cuda

The environments of the peers are made apart from the project, k2's by

    python3.9 -m venv .venv-k2
    .venv-k2/bin/pip install torch==1.13.1 'numpy<2' graphviz
    .venv-k2/bin/pip install --no-deps k2==1.23.4

and fast_rnnt's as ``benchmarks/build_fast_rnnt.py`` says. Every part is measured forward and
backward; the parts are

    recursion   the sum over all paths of given arc weights, with occupations
    smoothed    the smoothed simple loss (lm 0.25) of given logits, with occupations
    pruned      the pruned loss of given logits, range 5
    full        the loss of given logits of the full lattice
    step        all from the outputs of encoder and predictor, 512 wide: three linear layers to a
                vocabulary of 500, smoothed loss, ranges, pruning, tanh, pruned loss; for torchaudio
                tanh and one linear layer on the full lattice
    linear      the products of these linear layers alone; the difference to ``step`` is the row
                ``step-nolinear``, as torch of another version multiplies at another speed

Systems: ``torchaudio``; the peers ``k2`` and ``fast_rnnt``; ``torch`` and ``ours``, our losses with
the back ends "torch" and "auto". Every system runs in a process of its own for each part and
size, with the environment that train.py gives to its processes; the systems take turns, so that
all meet the same disturbances. At the end comes a table in Markdown: the best of all repeats, in
wall time or, with ``--clock cpu``, in seconds of the processor (on a machine with other work on
it; with one thread both mean the same, with two the second tells of work and not of waiting), and
the ratio to the stronger peer, the faster of k2 and fast_rnnt in that row. Memory is the peak
resident set above what the process had, inputs included, before its first run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import date
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from benchmarks import peer_server
from benchmarks.peer_server import BLANK, SIZES, Inputs, Run, Sides
from zipasr import losses
from zipasr.base.distributed import CHILD_ENVIRONMENT

PEERS = ("k2", "fast_rnnt")
SYSTEMS = ("torchaudio", *PEERS, "torch", "ours")
PARTS = ("recursion", "smoothed", "pruned", "full", "step", "linear")
WITHOUT_TORCHAUDIO = """\
torchaudio has the loss of the full lattice only, so it has no rows for recursion, smoothed and \
pruned."""
SIZE_A_ONLY = """\
The full lattice is left out above size A on a CPU: one tensor of logits takes 0.8 GB at size B \
and 3 GB at size C, and a step holds several of that size."""
WITHOUT_PEER = "{} is left out: give its interpreter with {} (CPU only)."
DESCRIBE_PEER = """\
import importlib, importlib.metadata, sys, torch
name = sys.argv[1]
peer = importlib.import_module(name)
number = getattr(peer, "__version__", None) or importlib.metadata.version(name)
print(name, number, "with torch", torch.__version__)"""


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
        peer_server.serve(make, SIZES[size], int(threads), args.device)
        return
    systems = [name for name in args.systems if name not in PEERS or name in args.pythons]
    for sentence in (*notes(args, systems), *described(args.pythons)):
        print(sentence)
    print("part       size threads  system       best ms  median ms   CPU ms  memory MiB  loss")
    measured: dict[Cell, dict[str, Result]] = {}
    for threads in args.threads:
        for size in args.sizes:
            for part in args.parts:
                cell = Cell(part, size, threads, args.device)
                measured[cell] = measure(cell, systems, args.repeats, args.pythons)
                print_rows(cell, measured[cell])
    print("\n" + table(measured, systems, args.clock))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)

    def add_list(flag: str, choices: Sequence[str]) -> None:
        every = ",".join(choices)
        parser.add_argument(flag, type=_names(choices), default=every, help=f"of {every}")

    add_list("--parts", PARTS)
    add_list("--sizes", tuple(SIZES))
    add_list("--systems", SYSTEMS)
    parser.add_argument("--threads", type=lambda x: x.split(","), default="1,2", help="comma list")
    parser.add_argument("--repeats", type=int, default=10, help="runs of each system")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="of the table at the end"
    )
    for name in PEERS:
        parser.add_argument(
            python_flag(name), metavar="PATH", help=f"a Python that can import {name}"
        )
    parser.add_argument(
        "--serve", nargs=4, metavar=("SYSTEM", "PART", "SIZE", "THREADS"), help=argparse.SUPPRESS
    )
    args = parser.parse_args(argv)
    given = {name: getattr(args, f"{name}_python") for name in PEERS}
    for name, path in given.items():
        if path and not Path(path).is_file():
            parser.error(f"{python_flag(name)} {path} is not a file; give the interpreter itself")
    # On a GPU the peers would need other builds.
    wanted = args.systems if args.device == "cpu" else ()
    args.pythons = {name: path for name, path in given.items() if path and name in wanted}
    return args


def _names(choices: Sequence[str]) -> Callable[[str], list[str]]:
    def split(text: str) -> list[str]:
        for name in text.split(","):
            if name not in choices:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(choices)}")
        return text.split(",")

    return split


def python_flag(peer: str) -> str:
    """Return the flag for the interpreter of a peer."""
    return f"--{peer.replace('_', '-')}-python"


def described(pythons: Mapping[str, str]) -> list[str]:
    """Return the date, the processor, our torch, and the versions of the peers."""
    lines = (line.split(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
    models = [line[1].strip() for line in lines if line[0].strip() == "model name"]
    result = [f"{date.today()}, {len(models)} x {models[0] if models else 'unknown processor'}"]
    result.append(f"ours with torch {torch.__version__}")
    for name, path in pythons.items():
        command = [path, "-c", DESCRIBE_PEER, name]
        found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if found.returncode:
            raise SystemExit(f"{path} cannot import {name}; its message is above.")
        result.append(found.stdout.strip())
    return result


def notes(args: argparse.Namespace, systems: Sequence[str]) -> list[str]:
    """Say what is left out, and why."""
    result = []
    for name in PEERS:
        if name in args.systems and name not in systems:
            result.append(WITHOUT_PEER.format(name, python_flag(name)))
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
    cell: Cell, systems: Sequence[str], repeats: int, pythons: Mapping[str, str]
) -> dict[str, Result]:
    """Let all systems take turns."""
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(_server(name, cell, pythons))
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


def _server(system: str, cell: Cell, pythons: Mapping[str, str]) -> subprocess.Popen[str]:
    if system in PEERS:
        file = Path(__file__).with_name("peer_server.py")
        command = [pythons[system], str(file), system, cell.part, cell.size, cell.threads]
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


def print_rows(cell: Cell, results: Mapping[str, Result]) -> None:
    """Print one line for each system."""
    for name, result in results.items():
        print(
            f"{cell.part:10} {cell.size:4} {cell.threads:>7}  {name:10}"
            f" {1000 * min(result.wall):9.2f} {1000 * statistics.median(result.wall):10.2f}"
            f" {1000 * min(result.cpu):8.2f} {result.memory:11.0f}  {result.loss:.8g}",
            flush=True,
        )


def table(measured: Mapping[Cell, Mapping[str, Result]], systems: Sequence[str], clock: str) -> str:
    """Return a table in Markdown: milliseconds, ratios to ours, memory.

    Args:
        measured: the results of each cell by system.
        systems: the columns, in this order.
        clock: "wall" or "cpu": which seconds the table is of.
    """
    peers = [name for name in systems if name in PEERS]
    head = ["part", "size", "threads", *(f"{name}, ms" for name in systems)]
    head += ["stronger peer / ours", "torch / ours", f"memory {_to([*peers, 'ours'])}, MiB"]
    lines = [head, ["---"] * len(head)]
    for cell, results in measured.items():
        times = {name: min(getattr(x, clock)) for name, x in results.items()}
        sizes = [f"{results[name].memory:.0f}" for name in (*peers, "ours") if name in results]
        memory = _to(sizes) if len(sizes) > len(peers) else ""
        if cell.part != "linear":
            lines.append(_line(cell, cell.part, times, systems, memory))
        products = measured.get(cell._replace(part="linear"))
        if cell.part == "step" and products:
            alone = {name: min(getattr(x, clock)) for name, x in products.items()}
            # "ours" has the products of "torch".
            alone |= {"ours": alone["torch"]} if "torch" in alone else {}
            rest = {name: times[name] - alone[name] for name in times if name in alone}
            lines.append(_line(cell, "step-nolinear", rest, systems, ""))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _to(parts: Sequence[str]) -> str:
    """Return "a, b → c"."""
    others = ", ".join(parts[:-1])
    return f"{others} → {parts[-1]}" if others else parts[-1]


def _line(
    cell: Cell, part: str, times: Mapping[str, float], systems: Sequence[str], memory: str
) -> list[str]:
    stronger = min((times[name] for name in PEERS if name in times), default=None)
    result = [part, cell.size, cell.threads]
    result += [_milliseconds(times[name]) if name in times else "" for name in systems]
    for other in (stronger, times.get("torch")):
        result.append(f"{other / times['ours']:.2f}" if other and "ours" in times else "")
    return [*result, memory]


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.{1 if seconds < 0.1 else 0}f}"


def make_run(system: str, part: str, inputs: Inputs) -> Run:
    """Return what is measured."""
    if system == "torchaudio":
        if part == "linear":
            return peer_server.make_linear(inputs, full=True)
        return peer_server.make_run(part, _torchaudio_losses(), inputs, full_step)
    if system == "torch":
        return peer_server.make_run(part, _our_losses("torch"), inputs)
    return peer_server.make_run(part, _our_losses("auto"), inputs, our_step)


def our_step(functions: Any, sides: Sides, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """The step of ``ours``, as ``AsrModel`` calls it: the joiner's input is made in one go."""
    am = peer_server.linear(sides.encoder, *sides.am)
    lm = peer_server.linear(sides.predictor, *sides.lm)
    simple, occupations = peer_server.smoothed_loss(functions, lm, am, inputs)
    band = losses.get_rnnt_prune_ranges(*occupations, inputs.boundary, peer_server.WIDTH)
    hidden = losses.tanh_of_pruned_sums(sides.encoder, sides.predictor, band)
    logits = peer_server.linear(hidden, *sides.joiner)
    del hidden
    overwriting = SimpleNamespace(
        rnnt_loss_pruned=partial(functions.rnnt_loss_pruned, overwrite_logits=True)
    )
    return simple, peer_server.pruned_loss(overwriting, logits, band, inputs)


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
