"""What a training will be and take, before it starts: ``--gpu-memory`` and ``--dry-run``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch

from zipasr.base.distributed import World, check_world_size
from zipasr.base.errors import DataError, ResourceError, UserError
from zipasr.base.recipe import Recipe
from zipasr.cli.flags import Run
from zipasr.data.loaders import load_cuts, load_extra
from zipasr.text.tokenizer import Tokenizer
from zipasr.training.batch_for_memory import gpu_gib, sized_for
from zipasr.training.data_setup import DataSource, check_transcripts, load_sets
from zipasr.training.dry_run import (
    estimate,
    expected_data,
    going_on,
    has_statistics,
    preparation_lines,
    stand_in,
)
from zipasr.training.session import TrainConfigs
from zipasr.training.worker import build_session


def for_gpus(run: Run, configs: TrainConfigs, source: DataSource) -> tuple[TrainConfigs, str]:
    """Follow ``--gpu-memory``.

    Returns:
        The settings, and a sentence about them; without the flag, the same and nothing.

    Raises:
        ResourceError: the GPU is too small for the model.
    """
    wanted = configs.train.gpu_memory
    if wanted is None:
        return configs, ""
    gpus = gpu_gib()
    if wanted == "auto" and not gpus:
        return configs, "nothing changes: there is no GPU here"
    typed = {name for name in ("max_duration", "accumulate", "world_size") if run.is_typed(name)}
    processes = configs.train.world_size if "world_size" in typed or not gpus else len(gpus)
    if (launched := os.environ.get("WORLD_SIZE", "")).isdecimal():  # torchrun's number wins
        processes = int(launched)
    gib = min(gpus) if wanted == "auto" else float(wanted)
    return sized_for(configs, gib, max(1, processes), typed, _tokenizer(source, run.recipe))


def _tokenizer(source: DataSource, recipe: Recipe) -> Tokenizer:
    """Return the tokenizer; where it is not trained yet, one of as many tokens."""
    try:
        return source.tokenizer()
    except DataError:
        return stand_in(recipe)


def dry_run(configs: TrainConfigs, source: DataSource, recipe: Recipe, machine: str = "") -> str:
    """Return the lines that are printed; nothing is written.

    Where nothing is prepared yet, the statistics in the recipe take the place of the data.

    A run that is meant for another machine, with more or other devices, is measured on this one;
    a note says so.

    Args:
        configs: of the run.
        source: where its data are.
        recipe: that it works for.
        machine: what ``for_gpus`` says; empty without.

    Raises:
        DataError: names all of tokenizer and manifests that are missing or damaged.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    too_many = _too_many(configs)
    notes = [*_notes(configs, device, too_many)]
    if device.type == "cpu":
        configs = replace(configs, train=replace(configs.train, use_fp16=False))
    run, world = "", World(0, 1, device)
    if not configs.data.manifest_dir.exists() and has_statistics(recipe):
        tokenizer, data = stand_in(recipe), expected_data(recipe, configs)
        session = build_session(world, configs, tokenizer)
        notes += ["Nothing is prepared yet: hours and steps are by published sizes. It takes"]
        notes += preparation_lines(recipe)
    else:
        check_data(configs, source)
        tokenizer = source.tokenizer()
        data = load_sets(source, configs, tokenizer, verbose=False, writes=False)
        check_transcripts(data.train, tokenizer, configs.finetune, verbose=False)
        session = build_session(world, configs, tokenizer, data.train.identity())
        try:
            run = going_on(session)
        except UserError as refusal:
            run = f"would not start. {refusal}"
            session = build_session(world, configs, tokenizer)  # what was taken over is let go
    processes = 1 if too_many else configs.train.world_size
    return "\n".join([estimate(session, data, processes).text(configs, machine, run), *notes])


def check_data(configs: TrainConfigs, source: DataSource) -> None:
    """Look for all that a run reads.

    Raises:
        DataError: names everything that is missing or damaged, not only what is found first.
    """
    folder, allowed = configs.data.manifest_dir, configs.data.allow_commands
    checks: list[Callable[[], object]] = [
        source.tokenizer,
        *(
            partial(load_cuts, folder, source.corpus, [split], allow_commands=allowed)
            for split in (*source.train, *source.valid)
        ),
        *(partial(load_extra, extra) for extra in configs.data.extras),
    ]
    problems = []
    for check in checks:
        try:
            check()
        except DataError as problem:
            problems.append(problem)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        sentences = " ".join(problem.what for problem in problems)
        raise DataError(
            f"{len(problems)} things are missing. {sentences}",
            "./prepare.sh makes what is missing; --manifest-dir and --bpe-model say where it is.",
        )


def _too_many(configs: TrainConfigs) -> str:
    """Say which devices are missing; empty where they are there."""
    try:
        check_world_size(configs.train.world_size)
    except ResourceError as problem:
        return problem.what
    return ""


def _notes(configs: TrainConfigs, device: torch.device, too_many: str) -> Iterator[str]:
    if too_many:
        yield f"Note: {too_many} Time and memory are those of one process here."
    if configs.train.use_fp16 and device.type == "cpu":
        yield "Note: --use-fp16 1 needs a GPU; there is none, so this is float32 on the CPU."
