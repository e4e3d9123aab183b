"""Which dataclasses make up which command, and how a command line becomes their values."""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from zipasr.base.config import add_flags, flag, flag_name, from_args, set_defaults
from zipasr.base.distributed import is_first
from zipasr.base.errors import ResourceError, UserError, nearest
from zipasr.base.recipe import NO_RECIPE, RECIPES, Recipe, is_recipe, load_recipe
from zipasr.cli.run_recipe import words_of_run
from zipasr.encoder.protocol import EncoderConfig

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound="DataclassInstance")
Main = Callable[[Sequence[str] | None], int]

# Faults of the place where files are written, not of the program.
MACHINE_FAULTS = (
    errno.EACCES,
    errno.EDQUOT,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
)
# They stand in nearly every published command, and say which recipe is meant.
LIBRI_FLAGS = {"--full-libri", "--mini-libri"}
# In the others these do.
GIGA_FLAG = "--subset"
RECIPES_OF_FLAGS = {
    **dict.fromkeys(LIBRI_FLAGS, "librispeech"),
    "--use-multidataset": "librispeech",
    GIGA_FLAG: "gigaspeech",
}
RECIPE_FLAGS = {"--recipe", *RECIPES_OF_FLAGS}
SUBSET_FLAGS = {"mini-libri": ("--mini-libri", "1"), "clean-100": ("--full-libri", "0")}
INTERRUPTED = "interrupted; no file is half written, give the same command again\n"

# Two names of one choice: where one is typed, it takes the place of the other in a recipe.
ALTERNATIVES = (("use_fp16", "use_bf16"), ("use_bf16", "use_fp16"))


def not_yet(instead: str) -> str:
    """Return the reason of a flag in ``Command.refused``, with what to use instead."""
    return f"{{flag}} is not built yet; leave it at its default ({{default}}): {instead}."


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeConfig:
    """Which recipe a command works for."""

    recipe: str = flag(
        "espeak",
        "name of a folder in egs, or the path of a recipe folder; without this flag, with "
        "--full-libri or --mini-libri: librispeech, with the --exp-dir of a training: its recipe",
    )
    full_libri: bool = flag(True, "LibriSpeech: all 960 hours; 0 takes the 100 clean ones")
    mini_libri: bool = flag(False, "LibriSpeech: the five hours of mini LibriSpeech instead")

    @property
    def subset(self) -> str | None:
        """The part of the recipe that was asked for; None is the whole."""
        if self.mini_libri:
            return "mini-libri"
        return None if self.full_libri else "clean-100"


@dataclass(frozen=True, slots=True)
class Command:
    """One command line.

    Attributes:
        name: as the user types it.
        about: one sentence for ``--help``.
        configs: dataclasses whose fields are its flags.
        stored: of these, the ones whose values come from the checkpoint; a flag of theirs that is
            typed must agree with it.
        refused: flags that icefall has and we do not yet: name -> (default, reason).
        without_effect: flags that are read for the sake of published commands and change nothing:
            name -> why; it is said when one is typed.
        own: flags whose names mean something else in other commands: a recipe does not set them.
        defaults: field -> default of this command, where it is not that of the dataclass.
        presets: of ``--preset``, if the command has that flag: name -> values of fields.
        encoders: of ``--encoder-type``, if the command has that flag: name -> dataclass; the
            first is among ``configs`` and gives way to the one that is chosen. Where they are
            ``stored``, the one that is typed must be that of the checkpoint.
        operands: name and meaning of the words that are no flags; none if empty.
        spellings: other names of flags: name -> flag.
        needs_recipe: whether there is nothing to do without a recipe.
    """

    name: str
    about: str
    configs: tuple[type[DataclassInstance], ...]
    stored: tuple[type[DataclassInstance], ...] = ()
    refused: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    without_effect: Mapping[str, str] = field(default_factory=dict)
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    own: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    encoders: Mapping[str, type[EncoderConfig]] = field(default_factory=dict)
    operands: tuple[str, str] | tuple[()] = ()
    spellings: Mapping[str, str] = field(default_factory=dict)
    needs_recipe: bool = True

    @property
    def stored_names(self) -> set[str]:
        """Names of the fields whose values come from the checkpoint."""
        names = {f.name for cls in self.stored for f in fields(cls)}
        return names | ({"encoder_type"} if self.stored and self.encoders else set())


@dataclass(frozen=True, slots=True)
class Run:
    """A parsed command line.

    Attributes:
        recipe: that the command works for.
        values: of each dataclass.
        typed: stored flags that were typed: field -> value.
        operands: the words that are no flags.
        notes: a sentence for each typed flag that has no effect.
    """

    recipe: Recipe
    values: dict[type[Any], Any]
    typed: dict[str, Any]
    operands: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __getitem__(self, cls: type[C]) -> C:
        value: C = self.values[cls]
        return value

    def having(self, *values: DataclassInstance) -> Run:
        """Return the same with other values, each in place of the one of its class."""
        return replace(self, values=self.values | {type(value): value for value in values})


class Parser(argparse.ArgumentParser):
    """A parser that says one line and raises instead of printing its whole usage."""

    def error(self, message: str) -> NoReturn:
        """Turn argparse's complaint into a ``UserError`` with the nearest flag."""
        hint = f"{self.prog} --help lists the flags."
        if message.startswith("unrecognized arguments:"):
            flags = [name for action in self._actions for name in action.option_strings]
            hint = nearest(message.split()[2].split("=")[0], flags) or hint
        raise UserError(f"{self.prog}: {message}.", hint)


def parse(command: Command, argv: Sequence[str] | None, commands: Sequence[Command]) -> Run:
    """Read a command line: dataclass defaults < recipe < typed --preset < other flags.

    Args:
        command: whose flags are read.
        argv: the words after the command's name; None reads the process's own.
        commands: all commands; their flags may stand in a recipe too.

    Raises:
        UserError: unknown or refused flags, values out of range, unknown recipe.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if {"-h", "--help"} & {*words}:
        # Ends here, whether or not there is a recipe.
        build_parser(_with_encoder(command, {}, words)).parse_args(["--help"])
    chosen = _chosen_recipe(command.name, words)
    recipe = _recipe_for(command, chosen)
    command = _with_encoder(command, recipe.flags, words)
    parser = build_parser(command)
    elsewhere = {flag_name(name)[2:] for other in commands for name in _field_names(other)}
    # A recipe speaks to all commands: here it sets neither what the checkpoint knows, nor what
    # another command calls by the same name as something that this one does not have yet.
    stored = {flag_name(name)[2:] for name in command.stored_names}
    fixed = stored | {name[2:] for name in command.refused if name[2:] in elsewhere}
    fixed |= {*command.own}
    settable = {key: value for key, value in recipe.flags.items() if key not in fixed}
    later = {name[2:] for other in commands for name in other.refused}
    later |= {"preset" for other in commands if other.presets}
    later |= {"encoder-type" for other in commands if other.encoders}
    parser.set_defaults(**command.presets.get(str(recipe.flags.get("preset")), {}))
    set_defaults(parser, settable, elsewhere | later)
    parser.set_defaults(**command.presets.get(_typed_preset(command, words), {}))
    args = parser.parse_args(words)
    _refuse(command, args)
    _let_typed_win(args, words)
    typed = {name for name in command.stored_names if hasattr(args, name)}
    values: dict[type[Any], Any] = {cls: from_args(cls, args) for cls in command.configs}
    operands = tuple(getattr(args, "operands", ()))
    return Run(
        recipe,
        values,
        {name: getattr(args, name) for name in typed},
        operands,
        notes=_notes(command, words),
    )


def tell_notes(run: Run) -> None:
    """Say on the error stream, once per machine, which typed flags have no effect."""
    if is_first():
        sys.stderr.write("".join(f"{line}\n" for line in run.notes))


def _notes(command: Command, words: Sequence[str]) -> tuple[str, ...]:
    typed = _typed_flags(words)
    return tuple(
        f"{name} has no effect: {why}."
        for name, why in command.without_effect.items()
        if name in typed
    )


def _let_typed_win(args: argparse.Namespace, words: Sequence[str]) -> None:
    """Take back what a recipe says where the command line chooses its alternative."""
    typed = _typed_flags(words)
    for name, other in ALTERNATIVES:
        chosen = flag_name(name) in typed and getattr(args, name, False)
        if chosen and flag_name(other) not in typed and hasattr(args, other):
            setattr(args, other, False)


def build_parser(command: Command) -> Parser:
    """Make the parser of ``command``; flags are spelt out, abbreviations are refused."""
    parser = Parser(prog=command.name, description=command.about, allow_abbrev=False)
    add_flags(parser, RecipeConfig)
    for cls in command.configs:
        add_flags(parser, cls, defaults=command.defaults)
    for cls in command.stored:
        # Two encoders share some flags: a value that is typed is compared with the stored one.
        add_flags(parser, cls, but=[action.dest for action in parser._actions])
        # Absent unless typed: the value in the checkpoint counts, not a default.
        names = [f.name for f in fields(cls)]
        for action in parser._actions:
            if action.dest in names:
                action.default = argparse.SUPPRESS
    for name, (default, _) in command.refused.items():
        parser.add_argument(name, default=default, help=argparse.SUPPRESS)
    _add_choices(parser, command)
    return parser


def _add_choices(parser: argparse.ArgumentParser, command: Command) -> None:
    """Add what is not a field of a dataclass."""
    if command.presets:
        _add_preset(parser, command)
    if command.encoders:
        _add_encoder_type(parser, command)
    for name, same in command.spellings.items():
        _add_spelling(parser, name, same)
    if command.operands:
        name, about = command.operands
        parser.add_argument("operands", nargs="+", metavar=name, help=about)


def _add_spelling(parser: argparse.ArgumentParser, name: str, same: str) -> None:
    action = next(action for action in parser._actions if same in action.option_strings)
    reader: Any = action.type
    parser.add_argument(
        name,
        dest=action.dest,
        type=reader,
        choices=action.choices,
        default=argparse.SUPPRESS,
        metavar=action.metavar,
        help=f"the same as {same}",
    )


def _add_preset(parser: argparse.ArgumentParser, command: Command) -> None:
    about = "sizes of a published encoder; a size that is typed as well wins"
    parser.add_argument("--preset", choices=tuple(command.presets), help=about)


def _add_encoder_type(parser: argparse.ArgumentParser, command: Command) -> None:
    names = tuple(command.encoders)
    about = f"which encoder; each has flags of its own (default: {names[0]})"
    default = names[0]
    if command.stored:
        about, default = "which encoder; must be that of the checkpoint", argparse.SUPPRESS
    parser.add_argument("--encoder-type", choices=names, default=default, help=about)


def _with_encoder(command: Command, flags: Mapping[str, Any], words: Sequence[str]) -> Command:
    """Put the settings of the encoder that is asked for in place of those of the usual one.

    Args:
        command: whose flags are read.
        flags: of the recipe.
        words: of the command line.
    """
    if not command.encoders or command.stored:
        return command
    first = Parser(prog=command.name, add_help=False, allow_abbrev=False)
    _add_encoder_type(first, command)
    set_defaults(first, {k: v for k, v in flags.items() if k == "encoder-type"})
    usual = next(iter(command.encoders.values()))
    chosen = command.encoders[first.parse_known_args(words)[0].encoder_type]
    typed = _typed_flags(words)
    if not typed & {"--encoder-type"} and "encoder-type" not in flags and typed & LIBRI_FLAGS:
        chosen = _encoder_of_flags(command, typed) or chosen
    if chosen is usual:
        return command
    configs = tuple(chosen if cls is usual else cls for cls in command.configs)
    return replace(command, configs=configs, presets=chosen.presets())


def _encoder_of_flags(command: Command, typed: set[str]) -> type[EncoderConfig] | None:
    """Return the encoder that alone knows a flag that is typed.

    The published commands of the first Zipformer name it in no other way.
    """
    known = {cls: {flag_name(f.name) for f in fields(cls)} for cls in command.encoders.values()}
    usual = next(iter(known.values()))
    return next((cls for cls, names in known.items() if typed & (names - usual)), None)


def _typed_flags(words: Sequence[str]) -> set[str]:
    return {word.partition("=")[0] for word in words}


def guarded(main: Main) -> Main:
    """Make ``main`` end with one line on the error stream and its exit status, not with a trace."""

    @wraps(main)
    def safe_main(argv: Sequence[str] | None = None) -> int:
        try:
            return main(argv)
        except UserError as error:
            sys.stderr.write(f"error: {_with_recipe(str(error), argv)}\n")
            return error.exit_code
        except OSError as problem:
            if problem.errno not in MACHINE_FAULTS:
                raise
            sys.stderr.write(f"error: {problem.filename or 'a file'}: {problem.strerror}.\n")
            return ResourceError.exit_code
        except KeyboardInterrupt:
            sys.stderr.write(INTERRUPTED)
            return 130

    return safe_main


def _with_recipe(message: str, argv: Sequence[str] | None) -> str:
    """Name the recipe in the command that a message proposes: the rooms below do not know it."""
    try:
        chosen = _chosen_recipe("", list(sys.argv[1:] if argv is None else argv))
    except UserError:
        return message
    return message.replace(
        "./prepare.sh --stage", f"{_prepare(chosen.recipe, chosen.subset)} --stage"
    )


def prepare_command(recipe: Recipe, stage: int) -> str:
    """Return the command that does one stage for a recipe."""
    name = recipe.name
    if recipe.folder.parent != RECIPES:  # a name without a slash is one in egs
        name = str(recipe.folder) if recipe.folder.is_absolute() else f"./{recipe.folder}"
    return f"{_prepare(name, recipe.chosen)} --stage {stage}"


def _prepare(recipe: str, subset: str | None) -> str:
    words = [] if recipe == RecipeConfig().recipe else ["--recipe", recipe]
    return " ".join(["./prepare.sh", *words, *SUBSET_FLAGS.get(subset or "", ())])


def data_dir(recipe: Recipe) -> Path:
    """Return the folder of everything that is made for a recipe."""
    return Path("data") / recipe.name


def _chosen_recipe(prog: str, words: Sequence[str]) -> RecipeConfig:
    """Return the recipe that is typed, else that of the training run in the typed --exp-dir."""
    if not _typed_flags(words) & RECIPE_FLAGS:
        of_run = words_of_run(words, RECIPE_FLAGS)
        found = _typed_recipe(prog, of_run)
        if of_run and is_recipe(found.recipe):
            return found
    return _typed_recipe(prog, words)


def _typed_recipe(prog: str, words: Sequence[str]) -> RecipeConfig:
    first = Parser(prog=prog, add_help=False, allow_abbrev=False)
    add_flags(first, RecipeConfig)
    chosen = from_args(RecipeConfig, first.parse_known_args(words)[0])
    typed = _typed_flags(words)
    if "--recipe" in typed:
        return chosen
    # The published commands name it in no other way.
    named = [recipe for name, recipe in RECIPES_OF_FLAGS.items() if name in typed]
    return replace(chosen, recipe=named[0]) if named else chosen


def _recipe_for(command: Command, chosen: RecipeConfig) -> Recipe:
    if not command.needs_recipe and chosen == RecipeConfig() and not is_recipe(chosen.recipe):
        return NO_RECIPE  # in a folder that is not ours, and none was asked for
    return load_recipe(chosen.recipe).subset(chosen.subset)


def _typed_preset(command: Command, words: Sequence[str]) -> str:
    if not command.presets:
        return ""
    first = Parser(prog=command.name, add_help=False, allow_abbrev=False)
    _add_preset(first, command)
    return str(first.parse_known_args(words)[0].preset)


def _field_names(command: Command) -> list[str]:
    return [f.name for cls in (*command.configs, *command.stored) for f in fields(cls)]


def _refuse(command: Command, args: argparse.Namespace) -> None:
    for name, (default, reason) in command.refused.items():
        given = str(getattr(args, name[2:].replace("-", "_")))
        if not _same_value(given, default):
            typed = f"{name} {given}"
            raise UserError(reason.format(flag=typed, default=default or "nothing"))


def _same_value(given: str, default: str) -> bool:
    """Say whether two words mean the same: booleans and numbers can be written in many ways."""
    same = {"0": {"0", "false", "no", "n", "f"}, "1": {"1", "true", "yes", "y", "t"}}
    if given.lower() in same.get(default, {default.lower()}):
        return True
    try:
        return float(given) == float(default)
    except ValueError:
        return False
