"""Values, times and limits of all parts on a GPU: what to run first on a machine that has one.

    python -m benchmarks.gpu [--table exp/gpu.md] [--only step,decoding]
    python -m benchmarks.gpu --device cpu --tiny 1     # the program itself, without a GPU

Each part runs in a process of its own, with a limit in seconds; one that fails is told, and the
next one runs. The table has the largest difference from the CPU, the least time, and the time that
memory or multipliers need at least (``roofline``) for the bytes and operations that are counted on
a pretended device (``tests/pretended_cuda``). The exit status is 1 where a value is wrong or a part
did not end.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu_parts
from benchmarks.gpu_parts import Counted, Measured, Place, Works
from benchmarks.roofline import Peak, known_peak
from zipasr.base.files import atomic_path

#: Share of what the device can do below which a part is said to fall short.
ENOUGH = 0.5
COUNTING_SECONDS = 300
PRELOADED = (
    "benchmarks.gpu_parts",
    "zipasr.encoder.zipformer.construction",
    "zipasr.encoder.zapformer.construction",
    "zipasr.losses.numba_backend",
)


@dataclass(frozen=True, slots=True)
class Part:
    """Works that share a process.

    Attributes:
        name: to choose it with ``--only``.
        works: what it does.
        seconds: that it may take.
        on_cpu: whether a CPU can do it as well.
        counted: whether it can be counted on a pretended device.
    """

    name: str
    works: Works
    seconds: int
    on_cpu: bool = True
    counted: bool = True


PARTS = (
    Part("device", gpu_parts.device, 60, counted=False),
    Part("kernels", gpu_parts.kernels, 120, on_cpu=False, counted=False),
    Part("tests", gpu_parts.device_tests, 300, on_cpu=False, counted=False),
    Part("step-small", partial(gpu_parts.zipformer, "small"), 120),
    Part("step-medium", partial(gpu_parts.zipformer, "medium"), 120),
    Part("step-large", partial(gpu_parts.zipformer, "large"), 180),
    Part("step-zapformer", gpu_parts.zapformer, 180),
    Part("loss", gpu_parts.loss, 60),
    Part("optimizer", gpu_parts.optimizers, 60),
    Part("decoding", gpu_parts.searches, 300),
    Part("loading", gpu_parts.loading, 180, counted=False),
)


def results(
    parts: Sequence[Part], place: Place, patience: float
) -> tuple[list[Measured], dict[str, Counted]]:
    """Run the parts.

    Args:
        parts: one after another.
        place: where.
        patience: factor on their limits in seconds.

    Returns:
        What was measured, and what was counted by the name of the work.
    """
    measured: list[Measured] = []
    counted: dict[str, Counted] = {}
    for part in parts:
        seconds = patience * part.seconds
        tell(f"{part.name}, at most {seconds:g} s")
        for found in answers(gpu_parts.measure, part, place, seconds):
            measured.append(found)
        if part.counted:
            for found in answers(gpu_parts.count, part, place, patience * COUNTING_SECONDS):
                if isinstance(found, Counted):
                    counted[found.name] = found
                else:
                    tell(f"counting {part.name}: {found.error}")
    return measured, counted


def tell(text: str) -> None:
    """Say to the terminal what goes on."""
    print(f"== {text}", file=sys.stderr, flush=True)


def answers(
    work: Callable[[Works, Place, Connection], None], part: Part, place: Place, seconds: float
) -> Iterator[Any]:
    """Yield what a process sends; at last what became of it, if that is nothing good."""
    # The server has imported most of what is needed, and has not touched the device.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(part.works, place, there))
    process.start()
    there.close()
    end = time.monotonic() + seconds
    try:
        while here.poll(max(0.0, end - time.monotonic())):
            yield here.recv()
    except EOFError:  # it has nothing more to say
        process.join(60)
    if process.exitcode == 0:
        return
    if process.exitcode is None:
        process.kill()
        process.join()
        yield Measured(name=part.name, error=f"did not end within {seconds:g} s")
    else:
        yield Measured(name=part.name, error=f"ended with status {process.exitcode}")


def peak_of(device: str, measured: Sequence[Measured]) -> Peak | None:
    """Return what the device can do: as its maker says, or as measured for one not listed."""
    known = known_peak(device)
    if known is not None:
        return known
    rates = [
        [amount / (one.milliseconds / 1e3) for amount in one.cost]
        for one in measured
        if one.cost is not None and one.milliseconds
    ]
    if len(rates) < 2:
        return None
    return Peak(*(max(rate) for rate in zip(*rates, strict=True)))


def table(measured: Sequence[Measured], counted: Mapping[str, Counted], peak: Peak | None) -> str:
    """Return what was found in Markdown, a row for each work."""
    lines = [
        "| work | difference from the CPU | tolerated | ms | s of speech/s | launches "
        "| roofline ms | of the roofline | verdict |",
        "|---|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    needed = next((speed_of(one) for one in measured if one.name == "step, small"), 0.0)
    for one in measured:
        count = counted.get(one.name)
        cost = one.cost or (count.cost if count else None)
        least = peak.milliseconds(*cost) if peak and cost and one.milliseconds else 0.0
        share, launches = least / (one.milliseconds or 1.0), count.launches if count else 0
        cells = (
            one.name,
            "" if one.error else f"{one.difference:.1e}",
            "" if one.error else f"{one.tolerance:g}",
            f"{one.milliseconds:.3g}" if one.milliseconds else "",
            f"{speed_of(one):.0f}" if speed_of(one) else "",
            str(launches or ""),
            f"{least:.3g}" if least else "",
            f"{share:.0%}" if least else "",
            verdict(one, share if least else 1.0, launches, needed),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def is_wrong(one: Measured) -> bool:
    """Say whether a work has no value, or another than the CPU."""
    return bool(one.error) or not one.difference <= one.tolerance


def speed_of(one: Measured) -> float:
    """Return seconds of speech a second; 0 where a work has none."""
    return 1e3 * one.speech / one.milliseconds if one.milliseconds else 0.0


def verdict(one: Measured, share: float, launches: int, needed: float) -> str:
    """Return what is to be said of a work.

    Args:
        one: what was measured.
        share: of the limit that it reaches.
        launches: of kernels; 0 when unknown.
        needed: seconds of speech a second that the loading must give.
    """
    if one.error:
        return f"FAILED: {one.error}"
    if is_wrong(one):
        return "WRONG"
    if one.name.startswith("loading") and speed_of(one) < needed:
        return f"the brake: the small step takes {needed:.0f} s of speech/s"
    if share < ENOUGH:
        pace = f", {1e3 * one.milliseconds / launches:.1f} us a launch" if launches else ""
        return f"short of the limit{pace}"
    return "well"


def name_of(device: str) -> str | None:
    """Return what the device is called; asked in a process of its own, None if there is none."""
    if device == "cpu":
        return platform.processor() or platform.machine()
    code = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return found.stdout.strip() or None


def main(argv: Sequence[str] | None = None, parts: Sequence[Part] = PARTS) -> int:
    """Run the parts, print the table and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", type=int, default=0, help="1: small sizes, few repeats")
    parser.add_argument("--only", default="", help="beginnings of names of parts, with commas")
    parser.add_argument(
        "--table", type=Path, default=Path("exp/gpu.md"), help="where it is written"
    )
    parser.add_argument("--patience", type=float, default=1.0, help="factor on the limits of time")
    given = parser.parse_args(argv)
    device = name_of(given.device)
    if device is None:
        print("error: torch sees no GPU; --device cpu --tiny 1 tries the program.", file=sys.stderr)
        return 2
    place = Place(given.device, bool(given.tiny))
    chosen = [
        part
        for part in parts
        if part.name.startswith(tuple(given.only.split(",")))
        and (part.on_cpu or place.device != "cpu")
    ]
    measured, counted = results(chosen, place, given.patience)
    peak = peak_of(device, measured)
    limits = "unknown"
    if peak is not None:
        source = "as its maker says" if known_peak(device) else "as measured"
        limits = f"{peak.bandwidth / 1e12:.3g} TB/s, {peak.flops / 1e12:.3g} TFLOP/s, {source}"
    found = f"{device}, torch {torch.__version__}; limits: {limits}\n\n"
    found += f"{table(measured, counted, peak)}\n"
    given.table.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(given.table) as path:
        path.write_text(found, encoding="utf-8")
    print(found)
    return int(any(map(is_wrong, measured)))


if __name__ == "__main__":
    sys.exit(main())
