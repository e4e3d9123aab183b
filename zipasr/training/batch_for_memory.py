"""``--gpu-memory``: batches that fit into a GPU and make the updates of the published training."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace

import torch

from zipasr.base.constants import GIB
from zipasr.base.distributed import World
from zipasr.base.environment import peak_and_total
from zipasr.base.errors import ResourceError
from zipasr.text.tokenizer import Tokenizer
from zipasr.training.dry_run import published_batch
from zipasr.training.memory import TOKENS_PER_SECOND, row_cost, state_bytes
from zipasr.training.session import TrainConfigs
from zipasr.training.worker import build_session

# Of a GPU's memory, for model and batch: the rest is for the CUDA context, workspaces, fragments
# and what the backward pass needs. No GPU has measured it.
SHARE = 0.7
#: Seconds of the utterances that a batch is taken to consist of: as long as most recipes take.
LONGEST = 20.0
# Of the utterance that is counted: half as long takes half of the host's memory.
COUNTED = 10.0
#: Seconds of the smallest batch that is chosen.
SMALLEST = 100


def gpu_gib() -> list[int]:
    """Return the memory of each GPU of this machine, rounded to whole GiB.

    Rounded because drivers keep more or less of it for themselves: a run that is resumed after an
    update of the driver must cut the same batches.
    """
    if not torch.cuda.is_available():
        return []
    devices = (torch.device("cuda", index) for index in range(torch.cuda.device_count()))
    return [round(peak_and_total(device)[1] / GIB) for device in devices]


def seconds_that_fit(configs: TrainConfigs, gib: float, tokenizer: Tokenizer) -> float:
    """Return how much speech a batch may have on a GPU of ``gib`` GiB.

    Counted for this model on the CPU, in float32, which mixed precision does not exceed: so it
    depends on the configuration and on ``gib`` alone. The random numbers of the process are seeded
    as a training begins with them.
    """
    plain = replace(
        configs,
        train=replace(configs.train, use_fp16=False, use_bf16=False, memory_budget_gb=0.0),
        transducer=replace(configs.transducer, rnnt_backend="auto"),
    )
    session = build_session(World(0, 1, torch.device("cpu")), plain, tokenizer)
    cost = row_cost(session, COUNTED)(LONGEST, int(LONGEST * TOKENS_PER_SECOND))
    return max(0.0, SHARE * gib * GIB - state_bytes(session)) / cost * LONGEST


def sized_for(
    configs: TrainConfigs, gib: float, gpus: int, typed: Collection[str], tokenizer: Tokenizer
) -> tuple[TrainConfigs, str]:
    """Return the settings with batches for GPUs of some size, and a sentence that says so.

    The update stays as large as that of the published training of the model.

    Args:
        configs: of the run.
        gib: memory of each GPU.
        gpus: number of processes, each with a GPU.
        typed: fields that keep their value: of ``max_duration``, ``accumulate``, ``world_size``.
        tokenizer: of the run, or one of as many tokens.

    Raises:
        ResourceError: the GPU is too small for the model.
    """
    published = published_batch(configs)
    if published is None:
        return configs, "nothing changes: no training of a model of these sizes is published"
    update = math.prod(published)
    seconds, accumulate = float(configs.data.max_duration), configs.train.accumulate
    if "max_duration" not in typed:
        fits = math.floor(seconds_that_fit(configs, gib, tokenizer))
        if fits < SMALLEST:
            raise ResourceError(
                f"--gpu-memory: a batch of {SMALLEST} s of this model does not fit into {gib:g} "
                "GiB.",
                f"a smaller model, with a batch to try: --preset small --max-duration {SMALLEST}",
            )
        if "accumulate" not in typed:
            accumulate = math.ceil(update / (gpus * fits))
        seconds = float(min(fits, update // (gpus * accumulate)))
    elif "accumulate" not in typed:
        accumulate = max(1, round(update / (gpus * seconds)))
    world_size = configs.train.world_size if "world_size" in typed else gpus
    sized = replace(
        configs,
        train=replace(configs.train, accumulate=accumulate, world_size=world_size),
        data=replace(configs.data, max_duration=seconds),
    )
    return sized, (
        f"{gpus} x {gib:g} GiB: --max-duration {seconds:g} --accumulate {accumulate} "
        f"({gpus * seconds * accumulate:g} s an update; published "
        f"{published[0]} x {published[1]} s)"
    )
