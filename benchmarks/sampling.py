"""Time the order of an epoch: the plan against lhotse's DynamicBucketingSampler.

Run from the repository root:

    OMP_NUM_THREADS=1 python -m benchmarks.sampling
    OMP_NUM_THREADS=1 python -m benchmarks.sampling --manifest-cuts 843723

The durations are drawn to look like LibriSpeech's 960 hours at three speeds. Planning gives all
batches of an epoch; lhotse makes them one by one, so it is asked for some, and its time for the
whole epoch follows from them. To go on in the middle of an epoch lhotse makes the batches up to
there again; the plan is made and indexed. Both only choose cuts: nothing is parsed or read.

At the end, what it costs that the features are in shards of 200 utterances (``--storage shar``).

With ``--manifest-cuts`` so many cuts are written to a manifest instead, as stage 2 does, and the
first start of a training from it is timed, which makes the index (filter and tokens included),
then a later one, and lhotse's sampler, which reads as it goes, up to its first batch.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import lhotse
import numpy as np
from lhotse.cut import MonoCut
from lhotse.dataset import DynamicBucketingSampler

from benchmarks.first_index import time_of_starts
from zipasr.data.dataset import PlannedBatches
from zipasr.data.epoch_plan import BatchingConfig, BatchLimits, CutLengths, Plan, make_plan
from zipasr.data.shard_plan import plan_for_readers

NUM_CUTS = 843_723  # of LibriSpeech, 960 hours at speeds 0.9, 1 and 1.1
BUFFER_PER_BUCKET = 5_000  # as icefall asks lhotse for
CUTS_PER_SHARD = 200


def durations(num_cuts: int) -> np.ndarray:
    """Draw lengths in seconds: most between 11 and 17, a tail of short ones, at three speeds."""
    rng = np.random.default_rng(0)
    long = rng.normal(14.7, 1.3, num_cuts)
    short = rng.uniform(1.5, 14.0, num_cuts)
    drawn = np.where(rng.random(num_cuts) < 0.6, long, short) / rng.choice(
        [0.9, 1.0, 1.1], num_cuts
    )
    return np.clip(drawn, 1.0, 20.0).round(3)


class Cuts:
    """Cuts made when they are asked for, as from a lazy manifest, but without parsing."""

    def __init__(self, seconds: np.ndarray) -> None:
        self._seconds = seconds.tolist()

    def __iter__(self) -> Iterator[MonoCut]:
        for number, length in enumerate(self._seconds):
            yield MonoCut(id=str(number), start=0.0, duration=length, channel=0)


def time_of_plan(lengths: CutLengths, layout: BatchingConfig, rounds: int) -> tuple[float, Plan]:
    """Return the median seconds of planning an epoch, and a plan."""
    seconds = []
    for epoch in range(1, rounds + 1):
        # The order by length is kept over the epochs; here each round finds it again.
        fresh = CutLengths(lengths.seconds, lengths.tokens)
        begun = time.perf_counter()
        plan = make_plan(fresh, layout, seed=42, epoch=epoch)
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds), plan


def time_of_seek(lengths: CutLengths, plan: Plan) -> float:
    """Return the median seconds to the first batch at places all over a plan that is made."""
    seconds = []
    for step in np.linspace(0, len(plan) - 1, 100).astype(int):
        begun = time.perf_counter()
        next(iter(PlannedBatches(plan, lengths, 0, start=int(step))))
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def sampler_of_lhotse(cuts: Any, args: argparse.Namespace) -> DynamicBucketingSampler:
    """Return lhotse's sampler with settings like those of the plan."""
    return DynamicBucketingSampler(
        cuts,
        max_duration=args.max_duration,
        shuffle=True,
        num_buckets=args.num_buckets,
        buffer_size=BUFFER_PER_BUCKET * args.num_buckets,
        drop_last=True,
        rank=0,
        world_size=args.world_size,
    )


def time_of_first_batch(cuts: Any, args: argparse.Namespace) -> float:
    """Return lhotse's seconds to the first batch, its estimate of the buckets included."""
    begun = time.perf_counter()
    next(iter(sampler_of_lhotse(cuts, args)))
    return time.perf_counter() - begun


def time_of_lhotse(seconds: np.ndarray, args: argparse.Namespace) -> tuple[float, float]:
    """Return the seconds to the first batch, and those of each further one."""
    sampler = sampler_of_lhotse(Cuts(seconds), args)
    begun = time.perf_counter()
    batches = iter(sampler)
    next(batches)
    first = time.perf_counter() - begun
    begun = time.perf_counter()
    made = sum(1 for _ in islice(batches, args.lhotse_steps))
    return first, (time.perf_counter() - begun) / made


def cost_of_shards(lengths: CutLengths, layout: BatchingConfig, steps: int) -> str:
    """Return what a plan over shards costs, compared with a plan of so many steps without."""
    shards = np.arange(len(lengths)) // CUTS_PER_SHARD
    begun = time.perf_counter()
    plan = plan_for_readers(replace(lengths, shards=shards), layout, seed=42, epoch=1)
    planning = time.perf_counter() - begun
    padded = sum(plan.step_seconds(step, lengths.seconds) for step in range(len(plan)))
    read: set[tuple[int, int, int]] = set()
    for step in range(len(plan)):
        for rank in range(layout.world_size):
            own = np.unique(shards[plan.batch(step, rank)]).tolist()
            read.update((rank, step % layout.num_readers, shard) for shard in own)
    return (
        f"in shards, {layout.num_readers} readers a rank: planned in {planning:.2g} s, "
        f"{len(plan) / steps:.3f} times the steps, "
        f"{100 * (padded / lengths.seconds.sum() - 1):.1f} % padding, "
        f"each shard read {len(read) / (shards.max() + 1):.3f} times"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Compare the plan of an epoch with lhotse.")
    parser.add_argument("--num-cuts", type=int, default=NUM_CUTS)
    parser.add_argument("--max-duration", type=float, default=1000.0, help="seconds of a batch")
    parser.add_argument("--num-buckets", type=int, default=30)
    parser.add_argument("--world-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5, help="plans to time")
    parser.add_argument("--lhotse-steps", type=int, default=100, help="batches to ask lhotse for")
    parser.add_argument("--manifest-cuts", type=int, help="time starts from a manifest instead")
    parser.add_argument("--folder", type=Path, help="of the manifest (default: the system's)")
    args = parser.parse_args()
    if args.manifest_cuts:
        time_of_starts(
            durations(args.manifest_cuts), partial(time_of_first_batch, args=args), args.folder
        )
        return
    seconds = durations(args.num_cuts)
    lengths = CutLengths(seconds, np.zeros(len(seconds), np.int64))
    layout = BatchingConfig(
        budget=BatchLimits(max_duration=args.max_duration),
        world_size=args.world_size,
        num_buckets=args.num_buckets,
        drop_last=True,
        shuffle=True,
    )
    planning, plan = time_of_plan(lengths, layout, args.rounds)
    seeking = time_of_seek(lengths, plan)
    first, each = time_of_lhotse(seconds, args)
    steps = len(plan)
    padded = sum(plan.step_seconds(step, seconds) for step in range(steps))
    used = np.concatenate([plan.trained(steps)])
    whole, half = first + each * steps, first + each * steps / 2
    resume = planning + seeking
    print(
        f"{len(seconds)} cuts, {seconds.sum() / 3600:.0f} h, {steps} steps of "
        f"{args.world_size} x {args.max_duration:g} s; lhotse {lhotse.__version__}\n"
        f"plan: {100 * (padded / seconds[used].sum() - 1):.1f} % padding, "
        f"{len(seconds) - len(used)} cuts left out\n\n"
        f"{'seconds':34} {'plan':>10} {'lhotse':>10} {'ratio':>8}"
    )
    for name, ours, theirs in (
        ("to the first batch of an epoch", planning, first),
        ("all batches of an epoch", planning, whole),
        ("to go on in the middle of an epoch", resume, half),
        ("the same, with the plan at hand", seeking, half),
    ):
        print(f"{name:34} {ours:10.2g} {theirs:10.2g} {theirs / ours:8.3g}")
    print()
    for readers in (1, 8):
        print(cost_of_shards(lengths, replace(layout, num_readers=readers), steps))


if __name__ == "__main__":
    main()
