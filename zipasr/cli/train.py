"""Train a model on a prepared corpus, from the beginning or from a model in a file."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

from zipasr.base.config import flag_name
from zipasr.base.distributed import INTERRUPTED, World, check_world_size, launch, rank0_errors
from zipasr.base.errors import CheckpointError, Interrupted, ResourceError, UserError
from zipasr.base.lock import check_unused, only_run_in
from zipasr.base.log import is_first
from zipasr.checkpoint.averaging import LoadedWeights, read_chosen
from zipasr.checkpoint.config import ChooseCheckpoint
from zipasr.checkpoint.model_file import stored_model
from zipasr.cli.command_flags import encoder_config, read
from zipasr.cli.config import CorporaConfig
from zipasr.cli.entry import guarded
from zipasr.cli.flags import Run
from zipasr.cli.recognition_commands import token_source
from zipasr.cli.run_log import Facts, begin, facts_of, note, with_end
from zipasr.cli.training_commands import LATTICE, TRAIN
from zipasr.cli.training_plan import dry_run, for_gpus
from zipasr.cli.verbs import is_zipasr, program_words
from zipasr.data.config import AugmentConfig, DataConfig
from zipasr.encoder.registry import DEFAULT_ENCODER, ENCODER_TYPES
from zipasr.model.config import ModelConfig, TransducerConfig
from zipasr.optim.config import EdenConfig, OptimizerConfig
from zipasr.recognition.token_sources import check_vocab_size, tokenizer_of
from zipasr.text.config import TokenizerConfig
from zipasr.text.tokenizer import Tokenizer
from zipasr.training.config import FinetuneConfig, LossConfig, TrainConfig, check_heads
from zipasr.training.data_setup import DataSource
from zipasr.training.epoch_report import copy_reference, recognise_greedily
from zipasr.training.session import TrainConfigs
from zipasr.training.worker import run as run_training


def train(
    argv: Sequence[str] | None = None,
    script: str | None = None,
    resumed_by: Callable[[TrainConfig], str] | None = None,
) -> Path:
    """Train until ``--num-epochs``; started again, continue where the last run ended.

    Args:
        argv: flags; by default those of the process.
        script: what messages name; by default the script of the process.
        resumed_by: words what goes on with a stopped run; by default ``resume_command``.

    Returns:
        The folder of the run.

    Raises:
        UserError: flags, data, checkpoints or the machine are not as they must be.
        Interrupted: it was stopped from outside, after it was saved.
    """
    words = [script or sys.argv[0], *(sys.argv[1:] if argv is None else argv)]
    with rank0_errors():
        run, tokenizer = read_training(words[1:])
        source = data_source(run, tokenizer)
        configs, machine = for_gpus(run, train_configs(run), source)
        run = run.having(configs.train, configs.data)
        if configs.train.dry_run:
            sys.stdout.write(dry_run(configs, source, run.recipe, machine) + "\n")
            return configs.train.exp_dir
        if machine and is_first():
            sys.stderr.write(f"--gpu-memory {configs.train.gpu_memory}: {machine}\n")
        facts = check_before_spending(run, words, source.tokenizer)
        make_folder(configs.train.exp_dir)
        if is_first():
            check_unused(configs.train.exp_dir)
            if is_of_recipe(run):
                causal = configs.encoder.causal
                copy_reference(run.recipe.folder, configs.train.exp_dir, causal=causal)
    try:
        with with_end(configs.train.exp_dir, facts) if is_first() else nullcontext():
            train = configs.train
            launch(train_process, train.world_size, train.master_port, configs, source, facts)
    except (SystemExit, KeyboardInterrupt) as end:
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:
            raise
        resume = resumed_by or partial(resume_command, words)
        raise Interrupted(resume(configs.train)) from end
    return configs.train.exp_dir


main = guarded(train)


def train_process(world: World, configs: TrainConfigs, source: DataSource, facts: Facts) -> None:
    """Train in a folder that no other run writes to; see ``worker.run``.

    Raises:
        ResourceError: another run holds it.
    """
    with only_run_in(configs.train.exp_dir, levels=2) if world.is_main else nullcontext():
        if world.is_main:
            begin(configs.train.exp_dir, facts)
        told = partial(note, configs.train.exp_dir, facts)
        run_training(world, configs, source, recognise_greedily, told)


def is_of_recipe(run: Run) -> bool:
    """Say whether a run can be compared with the reference run of its recipe."""
    is_usual = isinstance(encoder_config(run), DEFAULT_ENCODER)
    return is_usual and run.recipe.chosen is None and not run[FinetuneConfig].do_finetune


def train_configs(run: Run) -> TrainConfigs:
    """Collect the settings of a run."""
    return TrainConfigs(
        train=run[TrainConfig],
        loss=run[LossConfig],
        transducer=run[TransducerConfig],
        eden=run[EdenConfig],
        encoder=encoder_config(run),
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
        check_world_size(run[TrainConfig].world_size, run[TrainConfig].accumulate)
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


def read_training(argv: Sequence[str]) -> tuple[Run, Tokenizer | None]:
    """Read the flags of train.py and, for a fine-tuning, the settings of the model to begin with.

    Returns:
        The run, and the tokenizer to fine-tune with; None for a training from the beginning.

    Raises:
        UserError: flags are wrong, alone or together.
        CheckpointError: the file is missing or damaged, or flags contradict it.
        DataError: there is no tokenizer.
    """
    run = read(TRAIN, argv)
    if run[FinetuneConfig].finetune_ckpt is None:
        return _checked(run), None
    if not run.is_typed("finetune_ckpt"):
        raise UserError("--finetune-ckpt is typed on the command line, not set in a recipe.")
    run = _checked(run)
    file = ChooseCheckpoint(checkpoint=run[FinetuneConfig].finetune_ckpt)
    chosen = read_chosen(run[TrainConfig].exp_dir, file)
    free = chain(*(cls.free_on_resume for cls in ENCODER_TYPES.values()))
    stored = stored_model(chosen, run.typed, (*free, *ModelConfig.free_on_resume))
    if run[FinetuneConfig].finetune_tokenizer == "new":
        tokenizer = Tokenizer.from_file(run[TokenizerConfig].bpe_model)
    else:
        tokenizer = _kept_tokenizer(chosen, run)
        check_vocab_size(stored.path, stored.vocab_size, tokenizer, token_source(run))
    check_heads(stored.model, run[LossConfig], run[AugmentConfig])
    transducer = _with_lattice(run, chosen)
    return run.having(stored.encoder, stored.model, transducer), tokenizer


def _with_lattice(run: Run, chosen: LoadedWeights) -> TransducerConfig:
    """Return the settings of the loss with the lattice of the file, unless one is typed."""
    stored = chosen.checkpoint.get("configs", {}).get("TransducerConfig", {}).get(LATTICE)
    config = run[TransducerConfig]
    return config if run.is_typed(LATTICE) or stored is None else replace(config, rnnt_type=stored)


def _checked(run: Run) -> Run:
    """Refuse flags that do not go together.

    Raises:
        UserError: so it is.
    """
    config, train = run[FinetuneConfig], run[TrainConfig]
    if config.use_mux and not run[DataConfig].extras:
        raise UserError(
            "--use-mux 1 mixes nothing in: there is no other corpus.",
            "add one, for example --extra-manifest original=data/fbank/cuts.jsonl.gz:0.5",
        )
    if run[CorporaConfig].use_multidataset and not run[DataConfig].extras:
        raise UserError(
            "--use-multidataset 1 trains on no other corpus: none is named.",
            "name them, for example --extra-manifest gigaspeech=PATH:0.5,commonvoice=PATH:0.2",
        )
    goes_on = train.start_epoch > 1 or train.start_batch > 0
    if config.do_finetune and train.start_epoch > 1:
        raise UserError(
            f"--do-finetune 1 begins anew, --start-epoch {train.start_epoch} goes on.",
            "leave --start-epoch out: the same command goes on where it was; or type "
            "--do-finetune 0.",
        )
    if config.finetune_ckpt is not None and not (config.do_finetune or goes_on):
        raise UserError(
            f"--finetune-ckpt {config.finetune_ckpt} is not used without --do-finetune 1.",
            "add --do-finetune 1.",
        )
    return run


def _kept_tokenizer(chosen: LoadedWeights, run: Run) -> Tokenizer:
    """Return the tokenizer of the file; one that is typed and is another one is refused."""
    try:
        return tokenizer_of(chosen, token_source(run))
    except CheckpointError as problem:
        raise CheckpointError(
            problem.what, f"{problem.fix.rstrip('.')}; or add --finetune-tokenizer new."
        ) from problem


# Flags that choose where a run begins; the newest checkpoint is where it goes on.
BEGINNINGS = ("resume", "start_epoch", "start_batch")


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
    command = [
        *_starter(script, environment),
        *_without([flag_name(name) for name in BEGINNINGS], flags),
    ]
    for name, value in beginning_to_resume(train).items():
        command += [flag_name(name), str(int(value))]
    return shlex.join(command)


def beginning_to_resume(train: TrainConfig) -> dict[str, int]:
    """Return what must be said of where to begin, by field, so that a run goes on."""
    if not train.resume:
        return {"resume": True}
    if train.start_batch > 0 or train.start_epoch > 1:
        return {"start_epoch": 1, "start_batch": 0}
    return {}


def _starter(script: str, environment: Mapping[str, str]) -> list[str]:
    if "TORCHELASTIC_RUN_ID" in environment:
        nodes, each = (
            environment.get(name, "1") for name in ("GROUP_WORLD_SIZE", "LOCAL_WORLD_SIZE")
        )
        # Addresses and ports are known to torchrun alone.
        shared = [] if nodes == "1" else ["--nnodes", nodes, "..."]
        program = ["-m", *program_words(script)] if is_zipasr(script) else [script]
        return ["torchrun", *shared, "--nproc-per-node", each, *program]
    if is_zipasr(script):
        return program_words(script)
    if "/" in script and os.access(script, os.X_OK) and Path(script).suffix == ".py":
        return [script]
    return [_python(), script]


def _python() -> str:
    """Return how the interpreter of this process is typed: the one on the path may be another."""
    here, found = Path(sys.executable), shutil.which("python3")
    if found is not None and Path(found).parent == here.parent:
        return "python3"
    return str(here.relative_to(Path.cwd())) if here.is_relative_to(Path.cwd()) else str(here)


def _without(names: Sequence[str], flags: Sequence[str]) -> list[str]:
    kept: list[str] = []
    dropping = False
    for word in flags:
        if word.startswith("--"):
            dropping = word.split("=")[0] in names
        if not dropping:
            kept.append(word)
    return kept
