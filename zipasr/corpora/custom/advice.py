"""Reasons for the settings of a recipe, what to expect of so many hours, and what else to try."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from zipasr.base.constants import NORMAL_95
from zipasr.base.progress import clock
from zipasr.corpora.custom.recipe_file import Sizes

# The rate at which the precision of a test set is told.
EXAMPLE_RATE = 0.2
# Below, the interval is wider than what models differ by.
FEWEST_WORDS = 100


class Band(NamedTuple):
    """A range of hours of training speech.

    Attributes:
        most: hours, that it ends with.
        model: why the model has its size.
        tokens: why there are so many.
        expect: what came out elsewhere; sources stand in docs/own_corpus.md.
    """

    most: float
    model: str
    tokens: str
    expect: str


BANDS = (
    Band(
        1.0,
        "2.7 M parameters: a larger model learns so little speech by heart",
        "few, so that each occurs often",
        "from nothing every second to fourth word is wrong, unless there are few different ones "
        "(14 minutes of one voice: 28 % on one set, 44 % on another); begin with a model that has "
        "heard more",
    ),
    Band(
        10.0,
        "2.7 M parameters, tuned on 2.5 hours",
        "few, so that each occurs often",
        "from nothing commands and numbers work, free speech hardly; wav2vec 2.0, pre-trained on "
        "960 h of sound, came to 11.1 % (LibriSpeech test-clean) with 10 h",
    ),
    Band(
        100.0,
        "the published small size (23 M parameters)",
        "room for rare words, and pieces that occur often",
        "usable for read speech; wav2vec 2.0, pre-trained on 960 h of sound, came to 6.1 % "
        "(LibriSpeech test-clean) with 100 h",
    ),
    Band(
        math.inf,
        "a published size that has been trained on as much",
        "as the published recipes have",
        "published for this model: 4.4 % of characters with 170 h (AISHELL-1), 2.2 % of words with "
        "960 h (LibriSpeech test-clean)",
    ),
)


def band_of(hours: float) -> Band:
    """Return the range that hours of training speech are in."""
    return next(band for band in BANDS if hours <= band.most)


def reasons(sizes: Sizes, flags: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each choice that depends on the hours."""
    band = band_of(sizes.hours)
    yield f"model: {band.model}"
    unit = {"char": "characters", "byte-bpe": "pieces of bytes"}.get(sizes.unit, "pieces of words")
    count = sizes.characters if sizes.unit == "char" else flags["vocab-size"]
    reason = "the script has one for each syllable or word" if sizes.unit == "char" else band.tokens
    yield f"tokens: {count} {unit}: {reason}"
    speeds = " at three speeds" if flags["perturb-speed"] else ""
    heard = sizes.hours * (3 if flags["perturb-speed"] else 1) * flags["num-epochs"]
    yield f"epochs: {flags['num-epochs']}{speeds}, so that {clock(3600 * heard)} are heard"
    if first := flags.get("ctc-only-batches"):
        yield (
            f"CTC first: {first} batches of CTC alone find where the tokens are; a transducer "
            "alone learns the grammar and not the sound of so little speech"
        )
    elif flags.get("use-ctc"):
        yield "CTC beside the transducer: it finds sooner where the tokens are"
    else:
        yield "no CTC: with so many hours the transducer finds the tokens by itself"
    yield (
        f"augmentation: SpecAugment{_when(flags)}{speeds and ', speed'}; for noise, rooms and "
        "telephones see --noise-dir, --enable-rir and --enable-codec"
    )
    yield "checkpoints: the average with the fewest errors on dev is used"


def _when(flags: Mapping[str, Any]) -> str:
    start = flags.get("spec-aug-start-epoch", 1)
    return f" from epoch {start}" if start > 1 else ""


def expectation(sizes: Sizes, name: str, runs: Iterable[Path]) -> Iterator[str]:
    """Yield what to expect, and the command that begins with a model there is.

    Args:
        sizes: of the corpus.
        name: of the recipe.
        runs: checkpoints to fine-tune, the best first.
    """
    band = band_of(sizes.hours)
    yield f"expect: {band.expect}"
    if band is BANDS[-1]:
        return
    checkpoint = next(iter(runs), None)
    epochs = 12 if sizes.hours <= 1.0 else 8
    yield (
        f"better: ./train.py --recipe {name} --do-finetune 1 --finetune-ckpt "
        f"{checkpoint or 'CHECKPOINT'} --exp-dir exp/{name}-fine --num-epochs {epochs}"
    )
    yield (
        "  (any model of ours or icefall's; if its tokens cannot write your text, add "
        "--finetune-tokenizer new; see docs/finetune.md)"
    )


def models_to_begin_with(folder: Path, name: str) -> list[Path]:
    """Return the best checkpoints of other runs below a folder such as ``exp``, newest first."""
    found = [
        path
        for pattern in ("best-dev-wer.pt", "best-wer.pt")
        for path in folder.glob(f"*/{pattern}")
        if path.parent.name != name
    ]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def precision(split: str, words: int) -> str:
    """Return a line that says how exactly a set of so many words tells an error rate."""
    if words < FEWEST_WORDS:
        return f"{split}: {words} words, too few to tell one model from another: add speech"
    width = 100 * half_width(words)
    return (
        f"{split}: {words} words; a rate of {100 * EXAMPLE_RATE:.0f} % is known to about "
        f"+-{width:.1f} points"
    )


def half_width(words: int) -> float:
    """Return half of the width of the 95 % interval of the example rate.

    Errors count as independent of one another: they are not quite, so it is a little wider.
    """
    return NORMAL_95 * math.sqrt(EXAMPLE_RATE * (1.0 - EXAMPLE_RATE) / max(words, 1))
