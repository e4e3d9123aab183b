"""Train a model on a prepared corpus."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from zipasr.base.config import save
from zipasr.base.distributed import INTERRUPTED, World, check_world_size, launch, rank0_errors
from zipasr.base.errors import ResourceError
from zipasr.base.lock import check_unused, only_run_in
from zipasr.base.log import is_first
from zipasr.cli.commands import encoder_config
from zipasr.cli.dry_run import dry_run
from zipasr.cli.entry import guarded
from zipasr.cli.finetuning import read_training
from zipasr.cli.flags import Run
from zipasr.cli.provenance import Facts, begin, facts_of, note, with_end
from zipasr.cli.resume import resume_command
from zipasr.data.config import AugmentConfig, DataConfig
from zipasr.model.config import ModelConfig, TransducerConfig
from zipasr.optim.config import EdenConfig, OptimizerConfig
from zipasr.text.config import TokenizerConfig
from zipasr.text.tokenizer import Tokenizer
from zipasr.training.config import FinetuneConfig, LossConfig, TrainConfig
from zipasr.training.data_setup import DataSource
from zipasr.training.report import recognise_greedily
from zipasr.training.session import TrainConfigs
from zipasr.training.worker import run as run_training


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Train until ``--num-epochs``; started again, continue where the last run ended."""
    words = [sys.argv[0], *(sys.argv[1:] if argv is None else argv)]
    with rank0_errors():
        run, tokenizer = read_training(argv)
        configs = train_configs(run)
        source = data_source(run, tokenizer)
        if configs.train.dry_run:
            sys.stdout.write(dry_run(configs, source) + "\n")
            return 0
        facts = check_before_spending(run, words, source.tokenizer)
        make_folder(configs.train.exp_dir)
        if is_first():
            check_unused(configs.train.exp_dir)
            save(configs.train.exp_dir / "config.json", *run.values.values())
    try:
        with with_end(configs.train.exp_dir, facts) if is_first() else nullcontext():
            train = configs.train
            launch(train_process, train.world_size, train.master_port, configs, source, facts)
    except (SystemExit, KeyboardInterrupt) as end:
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:
            raise
        if is_first():
            sys.stderr.write(f"to go on: {resume_command(words, configs.train)}\n")
        return INTERRUPTED
    return 0


def train_process(world: World, configs: TrainConfigs, source: DataSource, facts: Facts) -> None:
    """Train in a folder that no other run writes to; see ``worker.run``.

    Raises:
        ResourceError: another run holds it.
    """
    with only_run_in(configs.train.exp_dir) if world.is_main else nullcontext():
        if world.is_main:
            begin(configs.train.exp_dir, facts)
        told = partial(note, configs.train.exp_dir, facts)
        run_training(world, configs, source, recognise_greedily, told)


def train_configs(run: Run) -> TrainConfigs:
    """Collect the settings of a run."""
    return TrainConfigs(
        train=run[TrainConfig],
        loss=run[LossConfig],
        transducer=run[TransducerConfig],
        eden=run[EdenConfig],
        zipformer=encoder_config(run),
        model=run[ModelConfig],
        data=run[DataConfig],
        augment=run[AugmentConfig],
        finetune=run[FinetuneConfig],
        optimizer=run[OptimizerConfig],
    )


def data_source(run: Run, tokenizer: Tokenizer | None = None) -> DataSource:
    """Say where the data of the recipe are; a tokenizer takes the place of --bpe-model."""
    return DataSource(
        corpus=run.recipe.corpus,
        train=tuple(run.recipe.splits["train"]),
        valid=tuple(run.recipe.splits["valid"]),
        bpe_model=run[TokenizerConfig].bpe_model,
        tokenizer_model=None if tokenizer is None else tokenizer.model_bytes,
    )


def check_before_spending(
    run: Run, words: Sequence[str], tokenizer: Callable[[], Tokenizer]
) -> Facts:
    """Find in the first seconds what would stop the run later.

    Returns:
        What the run is made from, for ``run.json``.

    Raises:
        UserError: devices, folder, tokenizer or manifests are not as they must be.
    """
    if "WORLD_SIZE" not in os.environ:
        check_world_size(run[TrainConfig].world_size)
    return facts_of(run, words, tokenizer())


def make_folder(path: Path) -> None:
    """Make the folder of a run.

    Raises:
        ResourceError: it cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise ResourceError(
            f"--exp-dir {path} cannot be made: {problem.strerror}.", "choose another --exp-dir."
        ) from problem
    if not os.access(path, os.W_OK):
        raise ResourceError(f"--exp-dir {path} is read-only.", "choose another --exp-dir.")
