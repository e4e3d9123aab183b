"""Recipe file for a corpus of one's own: sizes for its hours, splits for train, dev and test."""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from zipasr.base.errors import DataError
from zipasr.corpora.custom.utterances import Utterance, purpose_of
from zipasr.text.config import lang_name
from zipasr.text.scripts import Unit, units_of

# The model of the embedded recipe; rate, batch and epochs were tried on it and on a quarter of an
# hour of real speech. Beyond: published sizes.
_SMALL_CORPUS: Mapping[str, Any] = {
    "num-encoder-layers": "1,2,1",
    "downsampling-factor": "2,4,2",
    "encoder-dim": "128,192,128",
    "encoder-unmasked-dim": "96,128,96",
    "feedforward-dim": "256,384,256",
    "num-heads": "4",
    "query-head-dim": "24",
    "value-head-dim": "12",
    "pos-head-dim": "4",
    "cnn-module-kernel": "15",
    "embed-channels": "8,16,32",
    "decoder-dim": 192,
    "joiner-dim": 192,
    "use-ctc": 1,
    "rnnt-type": "constrained",
    "ctc-loss-scale": 1.0,
    "simple-loss-scale": 0.5,
    "dropout": 0.05,
    "optimizer": "rubik",
    "base-lr": 0.1,
    "ref-duration": 0.25,
    "max-duration": 40,
    "spec-aug-time-warp-factor": 0,
    "spec-aug-num-frame-masks": 2,
    "spec-aug-frames-mask-size": 13,
    "spec-aug-features-mask-size": 13,
    "use-bf16": 1,
    "num-buckets": 8,
    "save-every-n": 500,
    "keep-last-k": 1,
    "average-period": 20,
}
_SMALL_CORPUS_HOURS = 10.0
# Up to so many hours CTC helps to find where the tokens are.
_CTC_HOURS = 100.0
# Up to so many hours: published size, epochs.
_PRESETS = ((200.0, "small", 50), (2000.0, "medium", 40), (float("inf"), "large", 30))
# Up to so many hours: tokens.
_VOCABULARIES = ((1.0, 60), (20.0, 200), (2000.0, 500), (float("inf"), 1000))
# Speech that a small corpus is repeated to, in hours: half an hour of a processor.
_REPEATED_HOURS = 21.0
# Updates of CTC alone.
_CTC_FIRST = 300
_EPOCHS = (6, 60)
# What the bytes of text take of a vocabulary, beside what is learned.
_BYTES = 240
# Above so many different characters the script has one for each syllable or word.
_MANY_CHARACTERS = 300
# Speed is perturbed where data are scarce.
_SCARCE_HOURS = 500.0


# The average to decode with is the best on dev, of few utterances where there are many.
_CHOSEN_ON_DEV: Mapping[str, Any] = {"auto-avg": 1, "auto-avg-cuts": 500}
# Files of epochs, so that a minute of training does not leave fifty megabytes behind each time.
_FILES = 20
_NEWEST_FILES = 5


# Seconds of the longest utterance to train on: by default; of a published size; of the small model,
# which has the memory for more, where each utterance counts.
_USUAL_LONGEST = 20.0
_LONGEST = 30.0
_LONGEST_OF_SMALL = 90.0


class Sizes(NamedTuple):
    """Size of a corpus: hours, utterances, characters.

    Attributes:
        hours: of training speech.
        characters: number of different characters of the training transcripts.
        shortest: seconds; about one utterance in a hundred is shorter.
        longest: seconds; longer utterances are a hundredth of the speech at most.
        unit: of the tokens.
    """

    hours: float
    characters: int
    shortest: float
    longest: float
    unit: Unit = "bpe"


def flags_for(name: str, sizes: Sizes) -> dict[str, Any]:
    """Return the settings of a recipe called ``name``, flag name without dashes -> value."""
    vocabulary = vocabulary_for(sizes)
    lang_dir = f"data/{name}/{lang_name(sizes.unit, vocabulary)}"
    flags: dict[str, Any] = {
        "manifest-dir": f"data/{name}/fbank",
        "lang-dir": lang_dir,
        "unit": sizes.unit,
        **({} if sizes.unit == "char" else {"vocab-size": vocabulary}),
        "bpe-model": f"{lang_dir}/bpe.model",
        "exp-dir": f"exp/{name}",
        "enable-musan": 0,
        "perturb-speed": int(sizes.hours < _SCARCE_HOURS),
        # Recordings have pauses, and the utterances of a corpus hardly any.
        "join-prob": 0.3,
        "silence-prob": 0.5,
    }
    if sizes.shortest < 1.0:
        flags["min-cut-duration"] = max(0.1, round(sizes.shortest * 0.7, 1))
    if sizes.longest > _USUAL_LONGEST:
        slowest = sizes.longest / (0.9 if flags["perturb-speed"] else 1.0)
        most = _LONGEST_OF_SMALL if sizes.hours <= _SMALL_CORPUS_HOURS else _LONGEST
        flags["max-cut-duration"] = min(most, 10.0 * math.ceil(slowest / 10.0))
    return {**flags, **_model_and_schedule(sizes), **_CHOSEN_ON_DEV}


def vocabulary_for(sizes: Sizes) -> int:
    """Return the number of tokens: more for more text, and room for every character or byte."""
    by_hours = next(tokens for hours, tokens in _VOCABULARIES if sizes.hours <= hours)
    if sizes.unit == "byte-bpe":
        return by_hours + _BYTES
    room = sizes.characters + (200 if sizes.characters > _MANY_CHARACTERS else 20)
    return max(by_hours, -(-room // 10) * 10)


def _model_and_schedule(sizes: Sizes) -> dict[str, Any]:
    if sizes.hours > _SMALL_CORPUS_HOURS:
        _, preset, epochs = next(row for row in _PRESETS if sizes.hours <= row[0])
        with_ctc = {"use-ctc": 1} if sizes.hours <= _CTC_HOURS else {}
        return {"preset": preset, "num-epochs": epochs, "max-duration": 300, **with_ctc}
    seconds = sizes.hours * 3600 * (3 if sizes.hours < _SCARCE_HOURS else 1)
    epochs = round(_REPEATED_HOURS * 3600 / max(seconds, 1.0))
    epochs = min(max(epochs, _EPOCHS[0]), _EPOCHS[1])
    steps = max(1, int(epochs * seconds / _SMALL_CORPUS["max-duration"]))
    return dict(_SMALL_CORPUS) | {
        "num-epochs": epochs,
        "lr-batches": max(50, steps // 3),
        "lr-epochs": max(1, epochs // 3),
        "ctc-only-batches": min(_CTC_FIRST, steps // 3),
        "warm-step": min(200, max(10, steps // 8)),
        "spec-aug-start-epoch": epochs // 3 + 1,
        "pause-start-epoch": epochs // 3 + 1,
        "avg": max(1, epochs // 3),
        "save-every-epochs": -(-epochs // _FILES),
        "keep-last-epochs": _NEWEST_FILES,
    }


def recipe_text(
    options: Mapping[str, Any],
    splits: Mapping[str, Sequence[str]],
    flags: Mapping[str, Any],
    about: Sequence[str],
) -> str:
    """Format ``recipe.toml``.

    Args:
        options: of the corpus ``own``.
        splits: purpose -> names.
        flags: settings.
        about: lines on what was found and why the settings are as they are.
    """
    return (
        "".join(f"# {line}\n" for line in about)
        + "# Written by ./prepare.sh --from; it is yours to change.\n"
        'corpus = "own"\n\n[corpus-options]\n'
        + _lines(options)
        + "\n[splits]\n"
        + _lines({purpose: list(names) for purpose, names in splits.items()})
        + "\n[flags]\n"
        + _lines(flags)
    )


def _lines(table: Mapping[str, Any]) -> str:
    # JSON's strings, numbers, booleans and lists are TOML's too.
    return "".join(f"{k} = {json.dumps(v, ensure_ascii=False)}\n" for k, v in table.items())


# Name of a split that is made here.
MADE = {"valid": "dev", "test": "test"}

# A twentieth of the corpus, but no more than tells models apart; of a small one a tenth, and more
# where a tenth has too few words to tell models apart, up to a fifth.
_SHARE = 0.05
_MOST_SECONDS = 2 * 3600.0
_SMALL_SECONDS = 10 * 3600.0
_SMALL_SHARE = 0.1
_MOST_SHARE = 0.2
_FEWEST_WORDS = 300
# Speakers, or files that are no copies, have to be left to train on.
_FEWEST_SPEAKERS = 5


def with_splits(
    utterances: Sequence[Utterance],
    seconds: Callable[[Utterance], float],
    seed: int,
    originals: Mapping[Path, Path] | None = None,
) -> tuple[list[Utterance], list[str]]:
    """Give every utterance a split; dev and test are taken out of train where they are absent.

    No speaker is in two splits when speakers are known and there are five of them or more; else no
    file is, and no copy of one where enough are none. The choice depends on the seed and the names
    alone.

    Args:
        utterances: of the corpus, in any order.
        seconds: length of an utterance.
        seed: of the choice.
        originals: files that are copies of another, with that one; others may be among them.

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
    copied = originals or {}
    if len({copied.get(u.audio, u.audio) for u in named}) < _FEWEST_SPEAKERS:
        copied = {}
    speakers = {u.speaker for u in named if purpose_of(str(u.split)) == "train"}
    by_speaker = None not in speakers and len(speakers) >= _FEWEST_SPEAKERS
    for purpose, name in MADE.items():
        if purpose not in purposes:
            pool = [u for u in named if purpose_of(str(u.split)) == "train"]
            groups: dict[str, list[Utterance]] = defaultdict(list)
            for one in pool:
                file = copied.get(one.audio, one.audio)
                groups[str(one.speaker if by_speaker else file)].append(one)
            kind = "speakers" if by_speaker else "files"
            chosen, how = _chosen(groups, seconds, f"{seed} {name}", kind)
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
    groups: Mapping[str, Sequence[Utterance]],
    seconds: Callable[[Utterance], float],
    key: str,
    kind: str,
) -> tuple[set[str], str]:
    if len(groups) < 2:
        number = sum(map(len, groups.values()))
        raise DataError(
            f"{number} utterances of {len(groups)} {kind} are too few to make splits of.",
            "add data, or name the split of every utterance.",
        )
    lengths = {name: sum(map(seconds, group)) for name, group in groups.items()}
    words = {name: sum(len(units_of(u.text)) for u in group) for name, group in groups.items()}
    taken = _filled(lengths, words, key)
    how = f"{len(taken)} of {len(groups)} {kind}"
    return {u.id for name in taken for u in groups[name]}, how


def _filled(lengths: Mapping[str, float], words: Mapping[str, int], key: str) -> list[str]:
    """Take groups in an order that the key decides until there are enough.

    Args:
        lengths: seconds of each group.
        words: number of words of each group.
        key: decides the order.
    """
    whole = sum(lengths.values())
    is_small = whole <= _SMALL_SECONDS
    wanted = min((_SMALL_SHARE if is_small else _SHARE) * whole, _MOST_SECONDS)
    most = _MOST_SHARE * whole if is_small else 1.5 * wanted
    order = sorted(lengths, key=lambda name: hashlib.blake2b(f"{key} {name}".encode()).digest())
    taken: list[str] = []
    total, said = 0.0, 0
    for name in order:
        is_enough = total >= wanted and (said >= _FEWEST_WORDS or not is_small)
        if not is_enough and total + lengths[name] <= most:
            taken.append(name)
            total, said = total + lengths[name], said + words[name]
    return taken or [min(order, key=lambda name: lengths[name])]
