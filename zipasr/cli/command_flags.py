"""Commands: all of them, the flags of one read from a command line, and its help."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

from zipasr.base.config import flag_name, unknown_value
from zipasr.base.errors import UserError
from zipasr.base.log import is_first
from zipasr.base.recipe import NO_RECIPE, Recipe
from zipasr.cli.config import CorporaConfig
from zipasr.cli.flags import Command, Run, read_words, resolve, settings_of, settled
from zipasr.cli.help import config_text, long_help, meanings_text, short_help
from zipasr.cli.model_commands import AVERAGE, DOCTOR, EXPORT, INFO, REPORT
from zipasr.cli.preparation_commands import BPE, CORPUS, DOWNLOAD, FBANK, LM_TEXT, VALIDATE
from zipasr.cli.recipes import GIGA_FLAG, RECIPE_FLAGS, load_chosen, recipe_flags_in
from zipasr.cli.recognition_commands import CTC_DECODE, DECODE, STREAMING_DECODE, TRANSCRIBE
from zipasr.cli.training_commands import TRAIN, TRAIN_LM
from zipasr.cli.verbs import as_typed
from zipasr.data.config import GIGA, GIGASPEECH, AugmentConfig, DataConfig
from zipasr.encoder.protocol import EncoderConfig
from zipasr.encoder.registry import ENCODER_TYPES
from zipasr.model.config import ModelConfig
from zipasr.training.config import LossConfig, TrainConfig, check_heads, check_pauses, check_sound

COMMANDS = (
    *(TRAIN, TRAIN_LM, DECODE, CTC_DECODE, STREAMING_DECODE, AVERAGE, REPORT, DOCTOR, INFO),
    *(TRANSCRIBE, EXPORT, DOWNLOAD, CORPUS, FBANK, BPE, VALIDATE, LM_TEXT),
)

PUBLISHED_GIGA_PROB = 0.5  # of pruned_transducer_stateless8, where nothing else is typed


def encoder_config(run: Run) -> EncoderConfig:
    """Return the settings of the encoder that ``--encoder-type`` chose."""
    config: EncoderConfig = next(run[cls] for cls in ENCODER_TYPES.values() if cls in run.values)
    return config


def read(command: Command, argv: Sequence[str] | None, *, tells: bool = True) -> Run:
    """Read the command line of ``command``; see ``flags.resolve``.

    Args:
        command: whose flags are read.
        argv: the words after the command's name; None reads the process's own.
        tells: say on the error stream, once per machine, which typed flags have no effect.

    Raises:
        UserError: flags are wrong, alone or together.
        SystemExit: help or settings were asked for, and are printed.
    """
    typed = read_typed(command, list(sys.argv[1:] if argv is None else argv))
    is_made = command.recipe == "made"
    recipe = NO_RECIPE if is_made else load_chosen(typed, is_needed=command.recipe == "needed")
    run = resolve(command, typed, recipe, COMMANDS)
    if TrainConfig in run.values:
        run = with_subset(run, run[CorporaConfig].subset)
    if TrainConfig in run.values and ModelConfig in run.values:
        run = with_heads_of_corpora(run)
        check_heads(run[ModelConfig], run[LossConfig], run[AugmentConfig])
        check_sound(run[AugmentConfig], run[DataConfig])
        check_pauses(run[TrainConfig], run[AugmentConfig])
    if "print_config" in typed:
        _print_and_end(config_text(run))
    if command.operands and not run.operands:
        raise UserError(f"{command.name}: the following arguments are required: FILE.")
    if tells and is_first():
        sys.stderr.write("".join(f"{line}\n" for line in run.notes))
    return run


def with_heads_of_corpora(run: Run) -> Run:
    """Let ``--giga-prob`` and ``--own-heads`` agree.

    The first gives GigaSpeech a transducer of its own; ``--own-heads giga`` alone takes the
    published share of the batches.

    Raises:
        UserError: ``--own-heads`` names no corpus that is trained on.
    """
    data, model = run[DataConfig], run[ModelConfig]
    names = {extra.name for extra in data.extras}
    if model.own_heads == GIGA and GIGA not in names and data.giga_prob is None:
        data = replace(data, giga_prob=PUBLISHED_GIGA_PROB)
    if data.giga_prob is not None:
        names.add(GIGA)
        if model.use_transducer and not model.own_heads:
            model = replace(model, own_heads=GIGA)
    if model.own_heads and model.own_heads not in names:
        raise UserError(
            f"--own-heads {model.own_heads}: no corpus of that name is trained on.",
            f"add it: --extra-manifest {model.own_heads}=PATH:WEIGHT.",
        )
    return run.having(data, model)


def with_subset(run: Run, subset: str | None) -> Run:
    """Let ``--subset`` say which part of GigaSpeech the recipe trains on.

    Raises:
        UserError: the recipe is of another corpus.
    """
    if subset is None:
        return run
    recipe: Recipe = run.recipe
    if recipe.corpus != GIGASPEECH:
        raise UserError(
            f"{GIGA_FLAG} {subset} is a part of GigaSpeech, and the recipe {recipe.name} is of "
            "another corpus.",
            f"leave {GIGA_FLAG} out, or give --recipe gigaspeech; a share of GigaSpeech beside "
            "another corpus is --giga-prob with --giga-subset.",
        )
    return replace(run, recipe=replace(recipe, splits=recipe.splits | {"train": [subset]}))


def read_typed(command: Command, words: Sequence[str]) -> dict[str, Any]:
    """Return the values of the flags that are typed, by field; see ``flags.read_words``.

    Raises:
        UserError: a flag is unknown, or a value is none that it takes.
        SystemExit: help was asked for, and is printed.
    """
    if HELP & {*words}:
        _print_and_end(_help(command, words))
    typed = read_words(command, words)
    for one in command.flags:
        if one.meanings and one.field in typed and typed[one.field] not in one.meanings:
            if typed[one.field] == "help":
                _print_and_end(meanings_text(one))
            more = f"./decode.py {one.name} help"
            raise unknown_value(one.name, typed[one.field], one.meanings, more)
    return typed


HELP = {"-h", "--help", "--help-all"}


def _help(command: Command, words: Sequence[str]) -> str:
    """Return the help for the encoder and the recipe that are typed, right or wrong."""
    try:
        typed = read_words(command, [word for word in words if word not in HELP])
    except UserError:
        typed = recipe_flags_in(words)
    chosen, recipe = None, NO_RECIPE
    try:
        is_named = bool({flag_name(name) for name in typed} & RECIPE_FLAGS)
        recipe = load_chosen(typed, is_needed=is_named or command.recipe == "needed")
        chosen = recipe.name or None
        settings = settings_of(settled(command, typed, recipe), {}, recipe, COMMANDS)
    except UserError:
        chosen, recipe = None, NO_RECIPE
        settings = settings_of(settled(command, typed, recipe), {}, recipe, COMMANDS)
    text = long_help if "--help-all" in words else short_help
    return text(settled(command, typed, recipe), settings, chosen)


def _print_and_end(text: str) -> NoReturn:
    sys.stdout.write(as_typed(text))
    raise SystemExit(0)
