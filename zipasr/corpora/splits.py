"""Which utterances are trained on, which choose the model, and which judge it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from zipasr.base.errors import DataError
from zipasr.corpora.utterances import Utterance

PURPOSES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "tr"),
    "valid": ("dev", "valid", "val", "cv"),
    "test": ("test", "eval", "tt"),
}
# Name of a split that is made here.
MADE = {"valid": "dev", "test": "test"}

# A twentieth of the corpus, but no more than tells models apart.
_SHARE = 0.05
_MOST_SECONDS = 2 * 3600.0
# Speakers have to be left to train on.
_FEWEST_SPEAKERS = 5


def purpose_of(split: str) -> str | None:
    """Return train, valid or test for a split of that name (``test-clean``); None for others."""
    word = split.lower().replace("_", "-").split("-")[0]
    for purpose, names in PURPOSES.items():
        if word in names or any(word.startswith(name) and len(name) > 2 for name in names):
            return purpose
    return None


def with_splits(
    utterances: Sequence[Utterance], seconds: Callable[[Utterance], float], seed: int
) -> tuple[list[Utterance], list[str]]:
    """Give every utterance a split; dev and test are taken out of train where they are absent.

    No speaker is in two splits when speakers are known and there are five of them or more; else no
    file is. The choice depends on the seed and the names alone.

    Args:
        utterances: of the corpus, in any order.
        seconds: length of an utterance.
        seed: of the choice.

    Returns:
        The utterances, in their order, and what was done, in lines for people.

    Raises:
        DataError: a split is called neither train nor dev nor test; or too little to share out.
    """
    named = [replace(u, split=_name(u.split)) for u in utterances]
    purposes = {purpose_of(str(u.split)) for u in named}
    if "train" not in purposes:
        raise DataError("there is no utterance in a split called train.", "name one so.")
    told: list[str] = []
    speakers = {u.speaker for u in named if purpose_of(str(u.split)) == "train"}
    by_speaker = None not in speakers and len(speakers) >= _FEWEST_SPEAKERS
    for purpose, name in MADE.items():
        if purpose not in purposes:
            pool = [u for u in named if purpose_of(str(u.split)) == "train"]
            chosen, how = _chosen(pool, seconds, f"{seed} {name}", by_speaker=by_speaker)
            named = [replace(u, split=name) if u.id in chosen else u for u in named]
            told.append(f"split {name}: made of {len(chosen)} utterances, {how}")
    return named, told


def _name(split: str | None) -> str:
    if split is None:
        return "train"
    if purpose_of(split) is None:
        raise DataError(
            f"split {split!r} is neither train nor dev nor test.",
            "call splits train, dev and test; more words may follow, as in test-noisy.",
        )
    return split.lower().replace("_", "-").replace(" ", "-")


def _chosen(
    pool: Sequence[Utterance], seconds: Callable[[Utterance], float], key: str, *, by_speaker: bool
) -> tuple[set[str], str]:
    groups: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in pool:
        groups[str(utterance.speaker if by_speaker else utterance.audio)].append(utterance)
    if len(groups) < 2:
        raise DataError(
            f"{len(pool)} utterances of {len(groups)} files are too few to make splits of.",
            "add data, or name the split of every utterance.",
        )
    lengths = {name: sum(map(seconds, group)) for name, group in groups.items()}
    taken = _filled(lengths, key)
    how = f"{len(taken)} of {len(groups)} {'speakers' if by_speaker else 'files'}"
    return {u.id for name in taken for u in groups[name]}, how


def _filled(lengths: Mapping[str, float], key: str) -> list[str]:
    """Take groups in an order that the key decides until the wanted length is reached."""
    wanted = min(_SHARE * sum(lengths.values()), _MOST_SECONDS)
    order = sorted(lengths, key=lambda name: hashlib.blake2b(f"{key} {name}".encode()).digest())
    taken: list[str] = []
    total = 0.0
    for name in order:
        if total < wanted and total + lengths[name] <= 1.5 * wanted:
            taken.append(name)
            total += lengths[name]
    return taken or [min(order, key=lambda name: lengths[name])]
