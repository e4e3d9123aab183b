"""A short training in this process, and its parts."""

from pathlib import Path
from typing import Any

import torch

from tests.tones import TONES
from zipasr.base.distributed import World
from zipasr.base.seed import generator_for
from zipasr.checkpoint.checkpoint_file import load_checkpoint
from zipasr.cli.command_flags import read
from zipasr.cli.train import data_source, train_configs
from zipasr.cli.training_commands import TRAIN
from zipasr.data.dataset import Batch
from zipasr.text.tokenizer import Tokenizer
from zipasr.training.session import Session
from zipasr.training.worker import build_session, run

ALONE = World(0, 1, torch.device("cpu"))

SHORT = """
--max-duration 25 --num-workers 0 --spec-aug-time-warp-factor 20 --log-interval 1
--ctc-only-batches 0 --warm-step 4 --num-epochs 1
"""


def train(exp_dir: Path, flags: str) -> dict[str, Any]:
    """Train in this process and return the last checkpoint."""
    parsed = read(TRAIN, f"--recipe ./tones --exp-dir {exp_dir} {SHORT} {flags}".split())
    configs = train_configs(parsed)
    run(ALONE, configs, data_source(parsed))
    return load_checkpoint(exp_dir / f"epoch-{len(configs.train.epochs)}.pt")


def new_session(flags: str = "", world: World = ALONE) -> Session:
    """Return the start of a training of the corpus ``tones``, in the working directory."""
    parsed = read(TRAIN, f"--recipe ./tones {SHORT} {flags}".split())
    tokenizer = Tokenizer.from_file(data_source(parsed).bpe_model)
    return build_session(world, train_configs(parsed), tokenizer)


def new_batch(*seconds: float, seed: int = 0) -> Batch:
    """Return utterances of noise of these lengths, longest first."""
    lens = torch.tensor([round(100 * length) for length in seconds])
    noise = torch.randn(len(lens), int(lens.max()), 80, generator=generator_for(seed))
    words = list(TONES)
    return Batch(
        features=noise,
        feature_lens=lens,
        texts=[" ".join(words[(n + i) % 4] for i in range(2)) for n in range(len(lens))],
        cut_ids=[f"noise-{seed}-{n}" for n in range(len(lens))],
        seconds=sum(seconds),
    )
