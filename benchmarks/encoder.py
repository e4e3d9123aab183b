"""Front end and encoder against the same modules written the plain way.

Run from the repository root, on an idle machine:

    python -m benchmarks.encoder
    python -m benchmarks.encoder --modes eval --threads 1 --repeats 20
    python -m benchmarks.encoder --encoder zapformer
    python -m benchmarks.encoder --profile train        # where the time of ours goes

The small model (the Zapformer is ``base-16``) reads 4 utterances of up to 10 s. Training means
train mode at batch count 50000, forward, mean square of the output, backward; no heads, no
optimizer. Every variant runs in a process of its own with the environment that train.py gives to
its processes; the variants take turns, so that all meet the same disturbances. Times are the best
of all repeats (and the median); memory is the peak resident set above what the process had, with
torch and numba loaded, before its first forward.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.plain_zapformer import PlainZapformer
from benchmarks.plain_zipformer import Plain
from zipasr.base.distributed import CHILD_ENVIRONMENT
from zipasr.encoder.zapformer.config import PRESETS as ZAPFORMERS
from zipasr.encoder.zipformer.config import PRESETS as ZIPFORMERS
from zipasr.model.build import build_model
from zipasr.model.config import ModelConfig
from zipasr.model.transducer import AsrModel
from zipasr.nn.activations import compiled_loops
from zipasr.nn.numerics import has_bfloat16
from zipasr.nn.schedule import set_batch_count

LENS = (1000, 960, 900, 800)
BATCH_COUNT = 50000.0
# The plain Zipformer knows no autocast.
VARIANTS = {
    "zipformer": ("plain", "ours", "ours-bf16"),
    "zapformer": ("plain", "plain-bf16", "ours", "ours-bf16"),
}
CONFIGS = {"zipformer": ZIPFORMERS["small"], "zapformer": ZAPFORMERS["base-16"]}


class Result(NamedTuple):
    """One variant in one mode: seconds of every repeat, and MiB."""

    wall: list[float]
    memory: float


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--encoder", choices=tuple(CONFIGS), default="zipformer")
    parser.add_argument("--modes", default="eval,train", help="comma list of eval and train")
    parser.add_argument("--threads", default="1,2", help="comma list of numbers of threads")
    parser.add_argument("--repeats", type=int, default=10, help="runs of each variant")
    parser.add_argument("--profile", choices=("eval", "train"), help="print a profile instead")
    parser.add_argument("--serve", nargs=3, metavar=("VARIANT", "MODE", "THREADS"))
    args = parser.parse_args(argv)
    if args.serve:
        serve(args.encoder, args.serve[0], args.serve[1], int(args.serve[2]))
    elif args.profile:
        profile(args.encoder, args.profile)
    else:
        print("mode   threads  variant      best s  median s  times plain  memory MiB  share")
        for mode in args.modes.split(","):
            for threads in args.threads.split(","):
                found = measure(args.encoder, mode, int(threads), args.repeats)
                print_rows(mode, int(threads), found)


def measure(encoder: str, mode: str, threads: int, repeats: int) -> dict[str, Result]:
    """Let all variants take turns."""
    names = [v for v in VARIANTS[encoder] if "bf16" not in v or has_bfloat16(torch.device("cpu"))]
    walls: dict[str, list[float]] = {name: [] for name in names}
    memory = dict.fromkeys(names, 0.0)
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(_server(encoder, name, mode, threads)) for name in names
        }
        for _ in range(repeats + 1):
            for name, server in servers.items():
                seconds, memory[name] = _ask(server)
                walls[name].append(seconds)
    # The first run of each makes tables and finds its memory.
    return {name: Result(walls[name][1:], memory[name]) for name in names}


def print_rows(mode: str, threads: int, results: dict[str, Result]) -> None:
    """Print one line for each variant."""
    plain = results["plain"]
    for name, result in results.items():
        best = min(result.wall)
        print(
            f"{mode:6} {threads:7}  {name:10} {best:8.3f} {statistics.median(result.wall):9.3f}"
            f" {min(plain.wall) / best:12.2f} {result.memory:11.0f}"
            f" {result.memory / plain.memory:6.0%}",
            flush=True,
        )


def _server(encoder: str, variant: str, mode: str, threads: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.encoder", "--encoder", encoder]
    command += ["--serve", variant, mode, str(threads)]
    pipe = subprocess.PIPE
    environment = {**os.environ, **CHILD_ENVIRONMENT, "OMP_NUM_THREADS": str(threads)}
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)


def _ask(server: subprocess.Popen[str]) -> tuple[float, float]:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write("run\n")
    server.stdin.flush()
    seconds, memory = server.stdout.readline().split()
    return float(seconds), float(memory)


def serve(encoder: str, variant: str, mode: str, threads: int) -> None:
    """Run once for each line of standard input; print seconds and memory."""
    torch.set_num_threads(threads)
    run = make_run(encoder, variant, mode)
    compiled_loops()  # what numba takes is the framework's own, like torch itself
    before = _peak_mib()
    for _ in sys.stdin:
        begun = time.perf_counter()
        run()
        print(time.perf_counter() - begun, _peak_mib() - before, flush=True)


def make_run(encoder: str, variant: str, mode: str) -> Callable[[], None]:
    """Return what is measured."""
    torch.manual_seed(0)
    model = build_model(CONFIGS[encoder], ModelConfig(), 500)
    model.train(mode == "train")
    set_batch_count(model, BATCH_COUNT)
    features, lens = torch.randn(len(LENS), max(LENS), 80), torch.tensor(LENS)
    is_plain = variant.startswith("plain")
    encode = _plain_encoder(encoder, model, mode) if is_plain else _our_encoder(model)

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=variant.endswith("bf16")):
            if mode == "eval":
                with torch.inference_mode():
                    encode(features, lens)
                return
            frames = encode(features, lens)
        frames.float().square().mean().backward()  # type: ignore[no-untyped-call]
        model.zero_grad(set_to_none=True)

    return run


def _plain_encoder(encoder: str, model: AsrModel, mode: str) -> Callable[[Tensor, Tensor], Tensor]:
    parameters, is_training = dict(model.named_parameters()), mode == "train"
    if encoder == "zapformer":
        return PlainZapformer(parameters, ZAPFORMERS["base-16"], is_training, BATCH_COUNT).encode
    return Plain(parameters, ZIPFORMERS["small"], is_training, BATCH_COUNT).encode


def _our_encoder(model: AsrModel) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda features, lens: model.encode(features, lens).frames


def profile(encoder: str, mode: str) -> None:
    """Print the operations that take most of the time of one thread."""
    torch.set_num_threads(1)
    run = make_run(encoder, "ours", mode)
    for _ in range(3):
        run()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as recorded:
        run()
    print(recorded.key_averages().table(sort_by="self_cpu_time_total", row_limit=25))


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
