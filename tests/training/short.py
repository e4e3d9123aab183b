"""A short training in this process."""

from pathlib import Path
from typing import Any

import torch

from zipasr.base.distributed import World
from zipasr.checkpoint.files import load_checkpoint
from zipasr.cli.commands import TRAIN, read
from zipasr.cli.train import data_source, train_configs
from zipasr.training.worker import run

SHORT = """
--max-duration 25 --num-workers 0 --spec-aug-time-warp-factor 20 --log-interval 1
--ctc-only-batches 0 --warm-step 4 --num-epochs 1
"""


def train(exp_dir: Path, flags: str) -> dict[str, Any]:
    """Train in this process and return the last checkpoint."""
    parsed = read(TRAIN, f"--recipe ./tones --exp-dir {exp_dir} {SHORT} {flags}".split())
    configs = train_configs(parsed)
    run(World(0, 1, torch.device("cpu")), configs, data_source(parsed))
    return load_checkpoint(exp_dir / f"epoch-{configs.train.num_epochs}.pt")
