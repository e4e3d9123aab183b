"""Sentences from a grammar, and the plan of who says what and how: a pure function of the seed."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from zipasr.base.errors import DataError, nearest
from zipasr.corpora.config import EspeakConfig
from zipasr.corpora.espeak.voice import NOISE_KINDS

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
    """Templates and word lists of the sentences.

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
    """Balanced random choices: each set of alternatives is shuffled and used up before it repeats.

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


SAMPLE_RATE = 16000
# Part of every utterance's id: raise it when the same plan comes to sound different.
RENDERING = 2
# Sizes of speakers differ by this much: each needs filters of its own.
SIZE_STEP = 0.02
# Test and dev come first, so that a larger train split leaves them as they are.
SPLITS = ("test", "dev", "train")


@dataclass(frozen=True, slots=True)
class Voices:
    """Voices of each split, and accents.

    Attributes:
        accents: languages of eSpeak NG; every voice speaks all of them.
        variants: split -> variants of eSpeak NG, none of them in two splits.

    Raises:
        ValueError: a list is missing or empty, or splits share a variant.
    """

    accents: tuple[str, ...]
    variants: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        if not self.accents or any(not self.variants.get(split) for split in SPLITS):
            raise ValueError(f"needs accents, and voices for each of {', '.join(SPLITS)}")
        everyone = [variant for split in SPLITS for variant in self.variants[split]]
        twice = sorted({variant for variant in everyone if everyone.count(variant) > 1})
        if twice:
            raise ValueError(f"voice {twice[0]!r} is listed twice")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedUtterance:
    """Text, voice, accent, rate, pitch and noise of one utterance.

    Attributes:
        split: train, dev or test.
        number: position in its split, from 0.
        text: A-Z, apostrophe and single blanks.
        accent: language of eSpeak NG.
        variant: voice of eSpeak NG; the speaker of the utterance.
        rate: words per minute.
        pitch: 0 to 99, relative to the voice.
        size: factor on formants and pitch, as of a smaller (above 1) or larger speaker.
        noise: kind of the noise floor.
        snr_db: speech over noise, dB.
        level_dbfs: root mean square of the recording.
        seed: of the noise, and of the breath in the voice.
    """

    split: str
    number: int
    text: str
    accent: str
    variant: str
    rate: int
    pitch: int
    size: float
    noise: str
    snr_db: float
    level_dbfs: float
    seed: int

    @property
    def id(self) -> str:
        """Split, number, and a digest of all the rest: another sound has another id."""
        return f"{self.split}-{self.number:05d}-{_digest(f'{RENDERING} {self.row()}', 4)}"

    def row(self) -> str:
        """Return the values between tabs."""
        return "\t".join(str(value) for value in dataclasses.astuple(self))


def load_voices(path: Path) -> Voices:
    """Read accents and voices.

    Raises:
        DataError: the file cannot be read, or splits share a voice.
    """
    table = read_toml(path)
    try:
        variants = {split: tuple(table.get("voices", {}).get(split, ())) for split in SPLITS}
        return Voices(tuple(table.get("accents", ())), variants)
    except ValueError as problem:
        raise DataError(f"{path}: {problem}.") from problem


def make_plan(config: EspeakConfig, grammar: Grammar, voices: Voices) -> list[PlannedUtterance]:
    """Decide on all utterances; a pure function of its arguments.

    No sentence is in two splits (all are different), no voice either. Test and dev do not depend
    on the size of train, and a longer train split starts with the utterances of a shorter one.

    Raises:
        DataError: the grammar has not so many different sentences.
    """
    total = sum(config.count(split) for split in SPLITS)
    sentences = iter(distinct_sentences(grammar, total, config.espeak_seed))
    return [utterance for split in SPLITS for utterance in _split(split, config, voices, sentences)]


def plan_table(plan: list[PlannedUtterance]) -> str:
    """Return the plan as tab-separated text, one utterance a line under a line of names."""
    columns = [field.name for field in dataclasses.fields(PlannedUtterance)]
    rows = [f"{utterance.id}\t{utterance.row()}" for utterance in plan]
    return "\n".join(["\t".join(["id", *columns]), *rows]) + "\n"


def checksum(plan: list[PlannedUtterance]) -> str:
    """Return 16 hexadecimal digits that two plans share only when they are the same.

    Unlike the audio it does not depend on machine or library build.
    """
    return _digest(plan_table(plan), 8)


def _split(
    split: str, config: EspeakConfig, voices: Voices, sentences: Iterator[str]
) -> Iterator[PlannedUtterance]:
    # Seeded by name, not by order: the draws of one split cannot shift those of another.
    random = Random(f"{config.espeak_seed} {split}")
    turns = Turns(random)
    for number in range(config.count(split)):
        yield PlannedUtterance(
            split=split,
            number=number,
            text=next(sentences),
            accent=turns.draw("accent", voices.accents),
            variant=turns.draw("variant", voices.variants[split]),
            rate=random.randint(config.speech_rate[0], config.speech_rate[1]),
            pitch=random.randint(config.speech_pitch[0], config.speech_pitch[1]),
            size=_size(split, config, random),
            noise=turns.draw("noise", NOISE_KINDS),
            snr_db=round(random.uniform(*config.noise_snr), 1),
            level_dbfs=round(random.uniform(*config.audio_level), 1),
            seed=random.randrange(2**31),
        )


def _size(split: str, config: EspeakConfig, random: Random) -> float:
    """Draw the size of a training speaker; those of dev and test are as they come.

    The synthesiser's voices are few and some are far from all others. Every training utterance
    is moved a little, so that what is learnt does not hang on sixty-four pairs of lungs.
    """
    if split != "train":
        return 1.0
    return round(round(random.uniform(*config.train_voice_size) / SIZE_STEP) * SIZE_STEP, 2)


def _digest(text: str, num_bytes: int) -> str:
    return hashlib.blake2b(text.encode(), digest_size=num_bytes).hexdigest()
