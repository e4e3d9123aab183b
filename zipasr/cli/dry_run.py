"""train.py --dry-run: what a run would take, or what it lacks; writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch

from zipasr.base.distributed import World, check_world_size
from zipasr.base.errors import DataError, ResourceError
from zipasr.data.loaders import load_cuts, load_extra
from zipasr.training.data_setup import DataSource, load_sets
from zipasr.training.dry_run import estimate
from zipasr.training.session import TrainConfigs
from zipasr.training.worker import build_session


def dry_run(configs: TrainConfigs, source: DataSource) -> str:
    """Return the lines that are printed.

    A run that is meant for another machine, with more or other devices, is measured on this one;
    a note says so.

    Raises:
        DataError: names all of tokenizer and manifests that are missing or damaged.
    """
    check_data(configs, source)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    notes = [*_notes(configs, device)]
    if device.type == "cpu":
        configs = replace(configs, train=replace(configs.train, use_fp16=False))
    tokenizer = source.tokenizer()
    data = load_sets(source, configs, tokenizer, verbose=False, writes=False)
    session = build_session(World(0, 1, device), configs, tokenizer)
    return "\n".join([estimate(session, data).text(configs), *notes])


def check_data(configs: TrainConfigs, source: DataSource) -> None:
    """Look for all that a run reads.

    Raises:
        DataError: names everything that is missing or damaged, not only what is found first.
    """
    folder = configs.data.manifest_dir
    checks: list[Callable[[], object]] = [
        source.tokenizer,
        *(
            partial(load_cuts, folder, source.corpus, [split])
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


def _notes(configs: TrainConfigs, device: torch.device) -> Iterator[str]:
    try:
        check_world_size(configs.train.world_size)
    except ResourceError as problem:
        yield f"Note: {problem.what} Time and memory are those of one process here."
    if configs.train.use_fp16 and device.type == "cpu":
        yield "Note: --use-fp16 1 needs a GPU; there is none, so this is float32 on the CPU."
