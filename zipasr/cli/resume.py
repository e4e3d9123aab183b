"""The command that goes on with a run that was stopped."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from zipasr.training.config import TrainConfig

# Flags that choose where a run begins; the newest checkpoint is where it goes on.
BEGINNINGS = ("--resume", "--start-epoch", "--start-batch")


def resume_command(
    words: Sequence[str], train: TrainConfig, environment: Mapping[str, str] = os.environ
) -> str:
    """Return the command line that continues a run, to be typed in the same folder.

    It is the one that began it, but for flags that say where to begin.

    Args:
        words: script and flags, as they were typed.
        train: the settings that they gave; a recipe may set where to begin, too.
        environment: tells whether ``torchrun`` started this process.
    """
    script, *flags = words
    command = [*_starter(script, environment), *_without(BEGINNINGS, flags)]
    if not train.resume:
        command += ["--resume", "1"]
    elif train.start_batch > 0 or train.start_epoch > 1:
        command += ["--start-epoch", "1", "--start-batch", "0"]
    return shlex.join(command)


def _starter(script: str, environment: Mapping[str, str]) -> list[str]:
    if "TORCHELASTIC_RUN_ID" in environment:
        nodes, each = (
            environment.get(name, "1") for name in ("GROUP_WORLD_SIZE", "LOCAL_WORLD_SIZE")
        )
        # Addresses and ports are known to torchrun alone.
        shared = [] if nodes == "1" else ["--nnodes", nodes, "..."]
        return ["torchrun", *shared, "--nproc-per-node", each, script]
    if "/" in script and os.access(script, os.X_OK) and Path(script).suffix == ".py":
        return [script]
    return ["python3", script]


def _without(names: Sequence[str], flags: Sequence[str]) -> list[str]:
    kept: list[str] = []
    dropping = False
    for word in flags:
        if word.startswith("--"):
            dropping = word.split("=")[0] in names
        if not dropping:
            kept.append(word)
    return kept
