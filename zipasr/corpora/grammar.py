"""Sentences from a grammar that is data: templates with slots, expanded in turn."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from zipasr.base.errors import DataError, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SLOT = re.compile(r"\{([a-z_]+)\}")
FORM = re.compile(r"[a-z' ]+")
# So many expansions in a row that bring nothing new mean that little is left to find.
PATIENCE = 2000

Forms = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Grammar:
    """What can be said.

    Attributes:
        sentences: topic -> forms, in lower case; ``{slot}`` stands for an alternative of a slot.
        slots: slot -> alternatives, which may contain slots in turn.

    Raises:
        ValueError: a slot is unknown, unused or contains itself, a form has other letters than a-z
            and the apostrophe, or something has no forms at all.
    """

    sentences: Forms
    slots: Forms

    def __post_init__(self) -> None:
        if not self.sentences:
            raise ValueError("there is no topic under [sentences]")
        forms = list(_owned_forms(self.sentences, self.slots))
        for owner, form in forms:
            _check_form(owner, form, self.slots)
        used = {name for _, form in forms for name in names(form)}
        unused = sorted(set(self.slots) - used)
        if unused:
            raise ValueError(f"slot {unused[0]!r} is used nowhere")
        for slot in self.slots:
            self._check_ends(slot, ())

    def vocabulary(self) -> frozenset[str]:
        """Return all words that can occur, in upper case as in the transcripts."""
        forms = (form for _, form in _owned_forms(self.sentences, self.slots))
        tokens = (token for form in forms for token in form.split())
        # "{name}'s" is a slot with something attached: its words are those of the slot, extended.
        return frozenset(word.upper() for token in tokens for word in self._words_of(token))

    def _words_of(self, token: str) -> Iterator[str]:
        slot = SLOT.match(token)
        if slot is None:
            yield token
        elif attached := token[slot.end() :]:
            yield from (form + attached for form in self.slots[slot[1]])

    def _check_ends(self, slot: str, above: tuple[str, ...]) -> None:
        if slot in above:
            raise ValueError(f"slot {slot!r} contains itself: {' > '.join((*above, slot))}")
        for form in self.slots[slot]:
            for name in names(form):
                self._check_ends(name, (*above, slot))


@dataclass(slots=True)
class Turns:
    """Draws in which every alternative has its turn: a shuffled pack of each, dealt to its end.

    Independent draws would leave some words rare by bad luck; here the rarest alternative of a slot
    is at most one draw behind the most frequent.
    """

    random: Random
    packs: dict[str, list[str]] = field(default_factory=dict)

    def draw(self, name: str, alternatives: tuple[str, ...]) -> str:
        """Return the next of ``alternatives``; ``name`` tells the packs apart."""
        pack = self.packs.setdefault(name, [])
        if not pack:
            pack.extend(alternatives)
            self.random.shuffle(pack)
        return pack.pop()


def names(form: str) -> list[str]:
    """Return the names of the slots of ``form`` from left to right."""
    return SLOT.findall(form)


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Raises:
        DataError: the file is missing or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as missing:
        raise DataError(f"{path} does not exist.", "get it from the repository.") from missing
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise DataError(f"{path} is not valid TOML: {problem}.") from problem


def load_grammar(path: Path) -> Grammar:
    """Read a grammar.

    Raises:
        DataError: the file cannot be read, or says something that a grammar cannot mean.
    """
    table = read_toml(path)
    try:
        return Grammar(_forms(table, "sentences"), _forms(table, "slots"))
    except ValueError as problem:
        raise DataError(f"{path}: {problem}.") from problem


def distinct_sentences(grammar: Grammar, count: int, seed: int) -> list[str]:
    """Expand ``grammar`` into ``count`` sentences, no two alike, in upper case.

    The first sentences do not depend on ``count``.

    Raises:
        DataError: the grammar has not so many sentences (or they have become very hard to find).
    """
    turns = Turns(Random(seed))
    topics = tuple(grammar.sentences)
    found: dict[str, None] = {}  # a set that keeps its order
    repeats = 0
    while len(found) < count:
        topic = turns.draw("[sentences]", topics)
        form = turns.draw(f"[sentences] {topic}", grammar.sentences[topic])
        sentence = expand(form, grammar.slots, turns).upper()
        repeats = repeats + 1 if sentence in found else 0
        found[sentence] = None
        if repeats > PATIENCE:
            raise DataError(
                f"the grammar has hardly more than {len(found)} sentences, {count} are asked for.",
                "ask for fewer utterances, or add forms to the grammar.",
            )
    return list(found)


def expand(form: str, slots: Forms, turns: Turns) -> str:
    """Fill the slots of ``form`` from left to right until none is left."""
    return SLOT.sub(lambda slot: expand(turns.draw(slot[1], slots[slot[1]]), slots, turns), form)


def _owned_forms(*tables: Forms) -> Iterator[tuple[str, str]]:
    for table in tables:
        for owner, forms in table.items():
            yield from ((owner, form) for form in forms)


def _check_form(owner: str, form: str, slots: Forms) -> None:
    unknown = [name for name in names(form) if name not in slots]
    if unknown:
        hint = nearest(unknown[0], slots)
        raise ValueError(f"{owner!r} uses an unknown slot {unknown[0]!r} {hint}".rstrip())
    if not FORM.fullmatch(SLOT.sub("a", form)):
        raise ValueError(f"{owner!r} has other characters than a-z and ' in {form!r}")


def _forms(table: Mapping[str, Any], name: str) -> dict[str, tuple[str, ...]]:
    forms = table.get(name, {})
    if not isinstance(forms, dict):
        raise ValueError(f"[{name}] is not a table")
    for owner, alternatives in forms.items():
        is_list = isinstance(alternatives, list) and alternatives
        if not is_list or not all(isinstance(form, str) for form in alternatives):
            raise ValueError(f"{owner!r} under [{name}] is not a list of strings with at least one")
    return {owner: tuple(alternatives) for owner, alternatives in forms.items()}
