"""A command line as values: dataclass default < command < recipe < preset < checkpoint < typed."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn, TypeAlias, TypeVar

from zipasr.base.config import Flag, flag_name, flags_of, from_values, recipe_values, shown
from zipasr.base.errors import UserError, nearest
from zipasr.base.recipe import Recipe
from zipasr.cli.recipes import LIBRI_FLAGS, RecipeConfig
from zipasr.encoder.protocol import EncoderConfig

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound="DataclassInstance")

#: Values of the flags that were typed, by field.
Typed: TypeAlias = Mapping[str, Any]

#: Flags that choose checkpoints, in place of a search on the dev set.
CHECKPOINT_CHOICES = ("epoch", "iter", "avg", "checkpoint")
# Two names of one choice: where one is typed, it takes the place of the other in a recipe.
ALTERNATIVES = (
    ("use_fp16", "use_bf16"),
    ("use_bf16", "use_fp16"),
    *((name, "auto_avg") for name in CHECKPOINT_CHOICES),
)


def not_yet(instead: str) -> str:
    """Return the reason of a flag in ``Command.refused``, with what to use instead."""
    return f"{{flag}} is not built yet; leave it at its default ({{default}}): {instead}."


def names(words: str) -> tuple[str, ...]:
    """Return names that are written with blanks between them."""
    return tuple(words.split())


@dataclass(frozen=True, slots=True)
class Command:
    """One command line.

    Attributes:
        name: as the user types it.
        about: one sentence for ``--help``.
        configs: dataclasses whose fields are its flags.
        main: ``MODULE:FUNCTION`` in ``zipasr.cli`` that does the work.
        examples: what one types, and what it does.
        basic: fields of the flags in the short help, in this order.
        stored: of these, the ones whose values come from the checkpoint; a flag of theirs that is
            typed must agree with it.
        refused: flags that icefall has and we do not yet: name -> (default, reason).
        without_effect: flags that are read for the sake of published commands and change nothing:
            name -> why; it is said when one is typed.
        own: flags whose names mean something else in other commands: a recipe does not set them.
        defaults: field -> default of this command, where it is not that of the dataclass.
        presets: of ``--preset``, if the command has that flag: name -> values of fields.
        implied: field -> value -> values of other fields that go with it, where they are not given
            beside it.
        idle: field -> value -> flags that change nothing beside it, and why; see
            ``without_effect``.
        encoders: of ``--encoder-type``, if the command has that flag: name -> dataclass; the
            first is among ``configs`` and gives way to the one that is chosen. Where they are
            ``stored``, the one that is typed must be that of the checkpoint.
        extra: flags that are no field of a dataclass.
        operands: name and meaning of the words that are no flags; none if empty.
        spellings: other names of flags: name -> flag.
        recipe: whether it needs a recipe, can do without, or makes the one that is named.
        variants: commands that may take its place, see ``choose``; their flags are read too.
        choose: says by what is typed, and by the recipe, which of the variants it is.
    """

    name: str
    about: str
    configs: tuple[type[DataclassInstance], ...]
    main: str
    examples: tuple[tuple[str, str], ...] = ()
    basic: tuple[str, ...] = ()
    stored: tuple[type[DataclassInstance], ...] = ()
    refused: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    without_effect: Mapping[str, str] = field(default_factory=dict)
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    implied: Mapping[str, Mapping[Any, Mapping[str, Any]]] = field(default_factory=dict)
    idle: Mapping[str, Mapping[Any, Mapping[str, str]]] = field(default_factory=dict)
    own: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    encoders: Mapping[str, type[EncoderConfig]] = field(default_factory=dict)
    extra: tuple[Flag, ...] = ()
    operands: tuple[str, str] | tuple[()] = ()
    spellings: Mapping[str, str] = field(default_factory=dict)
    recipe: Literal["needed", "optional", "made"] = "needed"
    variants: tuple[Command, ...] = ()
    choose: Callable[[Typed, Recipe], Command] | None = None

    @property
    def flags(self) -> list[Flag]:
        """Its flags; of a name that is shared the first one."""
        classes: tuple[type[DataclassInstance], ...] = (RecipeConfig, *self.configs, *self.stored)
        found = [one for cls in classes for one in flags_of(cls)]
        return list(_by_field([*found, *self.extra, *_choices(self)]).values())

    @property
    def stored_names(self) -> set[str]:
        """Names of the fields whose values come from the checkpoint."""
        names = {f.name for cls in self.stored for f in fields(cls)}
        return names | ({"encoder_type"} if self.stored and self.encoders else set())


class Setting(NamedTuple):
    """A value, and where it comes from."""

    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class Run:
    """A parsed command line.

    Attributes:
        recipe: that the command works for.
        values: of each dataclass.
        typed: stored flags that were typed: field -> value.
        operands: the words that are no flags.
        notes: a sentence for each typed flag that has no effect.
        command: what was chosen: encoder and variant.
        settings: field -> value and source; those of a checkpoint are not here, unless typed.
    """

    recipe: Recipe
    values: dict[type[Any], Any]
    typed: dict[str, Any]
    operands: tuple[str, ...]
    notes: tuple[str, ...]
    command: Command
    settings: Mapping[str, Setting]

    def __getitem__(self, cls: type[C]) -> C:
        value: C = self.values[cls]
        return value

    def having(self, *values: DataclassInstance) -> Run:
        """Return the same with other values, each in place of the one of its class."""
        return replace(self, values=self.values | {type(value): value for value in values})

    def is_typed(self, name: str) -> bool:
        """Say whether a field was given on the command line."""
        return name in self.settings and self.settings[name].source == TYPED


DEFAULT = "default"
TYPED = "typed"


class Parser(argparse.ArgumentParser):
    """A parser that says one line and raises instead of printing its whole usage.

    Args:
        of_training: flags of train.py alone, about what a checkpoint knows.
        options: of argparse.
    """

    def __init__(self, *, of_training: Sequence[str] = (), **options: Any) -> None:
        super().__init__(**options)
        self._of_training = of_training

    def error(self, message: str) -> NoReturn:
        """Turn argparse's complaint into a ``UserError`` with the nearest flag or value."""
        hint = f"{self.prog} --help lists the flags."
        if message.startswith("unrecognized arguments:"):
            flags = [name for action in self._actions for name in action.option_strings]
            word = message.split()[2]
            hint = nearest(word.split("=")[0], flags) or hint
            if word.split("=")[0] in self._of_training:
                hint = "the checkpoint knows its model: leave it out."
            elif "--recipe" in flags and re.match(r"[^\W\d]|[./]", word):
                is_recipe = "/" not in word or Path(word, "recipe.toml").is_file()
                flag_of_it = "--recipe" if is_recipe else "--exp-dir"
                hint = f"every value has a flag, as in {flag_of_it} {word}"
        elif found := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            hint = nearest(found[1], found[2].split(", ")) or hint
        raise UserError(f"{self.prog}: {message}.", hint)


def read_words(command: Command, words: Sequence[str]) -> dict[str, Any]:
    """Return the values of the flags that are typed; abbreviations are refused.

    Raises:
        UserError: a flag is unknown, or a value is none that it takes.
    """
    parser = Parser(
        # All other flags of a model may be typed: they must agree with the checkpoint.
        of_training=("--preset",) if command.stored else (),
        prog=command.name,
        add_help=False,
        allow_abbrev=False,
    )
    spellings: dict[str, list[str]] = {}
    for other, name in command.spellings.items():
        spellings.setdefault(name, []).append(other)
    for one in all_flags(command):
        one.add_to(parser, *spellings.get(one.name, ()), default=argparse.SUPPRESS)
    for name in command.refused:
        parser.add_argument(name, default=argparse.SUPPRESS)
    for name in ("-h", "--help", "--help-all", "--print-config"):
        parser.add_argument(name, action="store_true", default=argparse.SUPPRESS)
    if command.operands:
        parser.add_argument("operands", nargs="*", default=argparse.SUPPRESS)
    return vars(parser.parse_args(words))


def settled(command: Command, typed: Typed, recipe: Recipe) -> Command:
    """Return the variant of a command, with the encoder, that is asked for."""
    chosen = command.choose(typed, recipe) if command.choose else command
    return _with_encoder(chosen, typed, recipe.flags)


def settings_of(
    command: Command, typed: Typed, recipe: Recipe, commands: Iterable[Command]
) -> dict[str, Setting]:
    """Return field -> value and source, without what the checkpoint says.

    Args:
        command: settled.
        typed: of its flags.
        recipe: that it works for.
        commands: all commands; their flags may stand in a recipe too.

    Raises:
        UserError: the recipe has an unknown flag, or a value that its flag does not take.
    """
    encoder = _encoder_of(command)
    of_encoder = {_field(name) for name in recipe.encoders.get(encoder or "", {})}
    recipe = recipe.with_encoder(encoder)
    refused = [Flag(_field(n), str, d, "", "") for n, (d, _) in command.refused.items()]
    flags = [*command.flags, *refused]
    of_recipe = recipe_values(flags, *_of_recipe(command, recipe, list(commands)))
    defaults = {one.field: one.default for one in flags}
    of_its_encoder = _defaults_of_encoder(command, {}, {}) if "encoder-type" in recipe.flags else {}
    usual = {**defaults, **command.defaults, **of_its_encoder, **of_recipe}
    # What is typed and holds anyway takes nothing from the recipe.
    changed = {name: value for name, value in typed.items() if usual.get(name) != value}
    layers = [
        (defaults, DEFAULT),
        (command.defaults, command.name),
        *_implied(command, command.defaults, of_recipe, changed),
        (_preset(command, recipe.flags.get("preset")), f"preset of recipe {recipe.name}"),
        *_implied(command, of_recipe, changed),
        (of_recipe, f"recipe {recipe.name}"),
        (_preset(command, typed.get("preset")), f"--preset {typed.get('preset')}"),
        *_implied(command, changed),
    ]
    found = _settings(layers)
    if implied := _defaults_of_encoder(command, found, typed):
        known = {one.field for one in flags}
        values = {name: value for name, value in implied.items() if name in known}
        typed_so = f"--encoder-type {found['encoder_type'].value}"
        with_them = [*_implied(command, values, of_recipe, typed)]
        # A recipe speaks of what goes with its own encoder, not of what goes with another, unless
        # it has a table for that.
        before, behind = (with_them, []) if "encoder-type" in recipe.flags else ([], with_them)
        behind = [({n: v for n, v in x.items() if n not in of_encoder}, why) for x, why in behind]
        found = _settings([*layers[:2], (values, typed_so), *before, *layers[2:], *behind])
    found = {name: one for name, one in found.items() if name not in command.stored_names}
    found |= {name: Setting(value, TYPED) for name, value in typed.items()}
    for name, other in ALTERNATIVES:
        if typed.get(name) and other not in typed and other in found:
            found[other] = Setting(False, flag_name(name))
    return found


def _settings(layers: Iterable[tuple[Mapping[str, Any], str]]) -> dict[str, Setting]:
    """Return field -> value and source; of two layers that have a field, the later one counts."""
    return {name: Setting(value, of) for values, of in layers for name, value in values.items()}


def _defaults_of_encoder(
    command: Command, found: Mapping[str, Setting], typed: Typed
) -> Mapping[str, Any]:
    """Return the defaults of other flags that go with the encoder of a command."""
    encoders = [*command.encoders.values()]
    chosen = next((cls for cls in command.configs if cls in encoders), None)
    if chosen is None:
        return {}
    flags = {name: one.value for name, one in found.items()}
    defaults: Mapping[str, Any] = chosen.defaults_of_others(flags | dict(typed))
    return defaults


def resolve(command: Command, typed: Typed, recipe: Recipe, commands: Iterable[Command]) -> Run:
    """Build the values of a command; see ``settings_of``.

    Raises:
        UserError: unknown or refused flags, values out of range, words that are missing.
    """
    command = settled(command, typed, recipe)
    _check_known(command, typed)
    settings = settings_of(command, typed, recipe, commands)
    for name, (default, reason) in command.refused.items():
        given = str(settings[_field(name)].value)
        if not _same_value(given, default):
            raise UserError(reason.format(flag=f"{name} {given}", default=default or "nothing"))
    plain = {name: one.value for name, one in settings.items()}
    idle = dict(command.without_effect)
    for name, values in command.idle.items():
        idle |= values.get(plain[name], {})
    return Run(
        recipe,
        {cls: from_values(cls, plain) for cls in command.configs},
        {name: value for name, value in typed.items() if name in command.stored_names},
        tuple(typed.get("operands", ())),
        tuple(
            f"{name} has no effect: {why}." for name, why in idle.items() if _field(name) in typed
        ),
        command,
        settings,
    )


def _by_field(flags: Iterable[Flag]) -> dict[str, Flag]:
    found: dict[str, Flag] = {}
    for one in flags:
        found.setdefault(one.field, one)
    return found


def all_flags(command: Command) -> list[Flag]:
    """Return all that may be typed: the flags of every encoder and variant, too."""
    encoders = [one for cls in command.encoders.values() for one in flags_of(cls)]
    variants = [one for variant in command.variants for one in all_flags(variant)]
    found = _by_field([*command.flags, *encoders, *variants])
    if "preset" in found:
        names = [name for cls in command.encoders.values() for name in cls.presets()]
        found["preset"] = replace(found["preset"], choices=tuple(dict.fromkeys(names)))
    return list(found.values())


def _choices(command: Command) -> list[Flag]:
    """Return the flags that choose among presets and encoders."""
    found = []
    if command.presets:
        about = "sizes of a published encoder; a size that is typed as well wins"
        found.append(Flag("preset", str, None, about, "Encoder", choices=tuple(command.presets)))
    if command.encoders:
        names = tuple(command.encoders)
        about, default = "architecture of the encoder; each has flags of its own", names[0]
        if command.stored:
            about = "architecture of the encoder; must be that of the checkpoint"
        found.append(Flag("encoder_type", str, default, about, "Encoder", choices=names))
    return found


def _with_encoder(command: Command, typed: Typed, flags: Mapping[str, Any]) -> Command:
    """Put the settings of the encoder that is asked for in place of those of the usual one."""
    if not command.encoders or command.stored:
        return command
    usual = next(iter(command.encoders.values()))
    name = typed.get("encoder_type")
    if name is None and "encoder-type" in flags:
        choices = [one for one in _choices(command) if one.field == "encoder_type"]
        name = recipe_values(choices, {"encoder-type": flags["encoder-type"]})["encoder_type"]
    if name is None and {_field(one) for one in LIBRI_FLAGS} & typed.keys():
        name = _encoder_of_flags(command, typed)
    chosen = usual if name is None else command.encoders[name]
    if chosen is usual:
        return command
    configs = tuple(chosen if cls is usual else cls for cls in command.configs)
    defaults = {**command.defaults, "encoder_type": name}
    return replace(command, configs=configs, presets=chosen.presets(), defaults=defaults)


def _encoder_of(command: Command) -> str | None:
    """Return the value of ``--encoder-type`` that a settled command works with."""
    name: str | None = command.defaults.get("encoder_type", next(iter(command.encoders), None))
    return name


def _encoder_of_flags(command: Command, typed: Typed) -> str | None:
    """Return the encoder that alone knows a flag that is typed.

    The published commands of the first Zipformer name it in no other way.
    """
    known = {name: {f.name for f in fields(cls)} for name, cls in command.encoders.items()}
    usual = next(iter(known.values()))
    return next((name for name, has in known.items() if typed.keys() & (has - usual)), None)


def _of_recipe(
    command: Command, recipe: Recipe, commands: Sequence[Command]
) -> tuple[dict[str, Any], set[str]]:
    """Return the part of a recipe's flags that counts here, and the flags that others know.

    A recipe speaks to all commands: here it sets neither what the checkpoint knows, nor what
    another command calls by the same name as something that this one does not have yet.
    """
    elsewhere = {flag_name(name)[2:] for other in commands for name in _field_names(other)}
    stored = {flag_name(name)[2:] for name in command.stored_names}
    fixed = stored | {name[2:] for name in command.refused if name[2:] in elsewhere}
    fixed |= {*command.own}
    later = {name[2:] for other in commands for name in other.refused}
    later |= {"preset" for other in commands if other.presets}
    later |= {"encoder-type" for other in commands if other.encoders}
    counting = {key: value for key, value in recipe.flags.items() if key not in fixed}
    return counting, elsewhere | later


def _field_names(command: Command) -> list[str]:
    return [f.name for cls in (*command.configs, *command.stored) for f in fields(cls)]


def _preset(command: Command, name: Any) -> Mapping[str, Any]:
    return command.presets.get(str(name), {})


def _implied(
    command: Command, chosen: Mapping[str, Any], *later: Mapping[str, Any]
) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield what goes with values that were chosen, and what it goes with.

    Args:
        command: says what goes with what.
        chosen: field -> value.
        later: choices that take the place of these.
    """
    for name, values in command.implied.items():
        if chosen.get(name) in values and not any(name in choices for choices in later):
            yield values[chosen[name]], f"{flag_name(name)} {chosen[name]}"


def _field(name: str) -> str:
    return name.removeprefix("--").replace("-", "_")


def _check_known(command: Command, typed: Typed) -> None:
    """Refuse a flag of another encoder or variant."""
    known = {one.field for one in command.flags} | {_field(name) for name in command.refused}
    known |= {"operands", "print_config"}
    if command.presets and typed.get("preset", None) not in (None, *command.presets):
        raise UserError(
            f"{command.name}: --preset {typed['preset']} is of another --encoder-type.",
            f"choose one of: {', '.join(command.presets)}.",
        )
    for name, value in typed.items():
        if name not in known:
            word = f"{flag_name(name)} {shown(value)}"
            hint = nearest(flag_name(name), [one.name for one in command.flags])
            raise UserError(
                f"{command.name}: unrecognized arguments: {word}.",
                hint or f"{command.name} --help lists the flags.",
            )


def _same_value(given: str, default: str) -> bool:
    """Say whether two words mean the same: booleans and numbers can be written in many ways."""
    same = {"0": {"0", "false", "no", "n", "f"}, "1": {"1", "true", "yes", "y", "t"}}
    if given.lower() in same.get(default, {default.lower()}):
        return True
    try:
        return float(given) == float(default)
    except ValueError:
        return False


def words_of(flags: Mapping[str, Any]) -> list[str]:
    """Return flags as they would be typed; one that is ``None`` is left at its default."""
    words = []
    for name, value in flags.items():
        if value is None:
            continue
        if isinstance(value, bool):
            text = str(int(value))
        elif isinstance(value, (list, tuple)):
            text = ",".join(map(str, value))
        else:
            text = str(value)
        words.append(f"{flag_name(name)}={text}")
    return words
