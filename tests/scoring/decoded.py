"""Two decodings of a small test set, made up from a seed."""

from __future__ import annotations

import random
import shlex

from zipasr.scoring.decodings import Decoding, Setting, UtteranceRecord
from zipasr.text.timed_words import WORD_START

WORDS = shlex.split(
    "THE CAT SAT ON A MAT WHILE RAIN FELL OVER QUIET STREETS <B> & NOBODY CAME HOME", posix=False
)


def spoken(count: int = 40) -> list[list[str]]:
    draws = random.Random(7)
    return [[draws.choice(WORDS) for _ in range(draws.randint(1, 12))] for _ in range(count)]


def misheard(words: list[str], draws: random.Random, rate: float) -> list[str]:
    heard: list[str] = []
    for word in words:
        kind = draws.random()
        if kind < rate / 3:
            continue
        heard.append(draws.choice(WORDS) if kind < 2 * rate / 3 else word)
        if kind > 1 - rate / 3:
            heard.append(draws.choice(WORDS))
    return heard


def decoding(key: str, rate: float, seed: int, test_set: str = "test") -> Decoding:
    draws = random.Random(seed)
    records = []
    for index, words in enumerate(spoken()):
        hyp = misheard(words, draws, rate)
        records.append(
            UtteranceRecord(
                id=f"utt-{index:02d}",
                ref=words,
                hyp=hyp,
                duration=0.5 * len(words),
                speaker=f"speaker {index % 3}",
                tokens=[WORD_START + word for word in hyp],
                times=[0.4 * position for position in range(len(hyp))],
            )
        )
    setting = Setting(test_set=test_set, key=key, suffix=f"epoch-1_{key}", rtf=0.012)
    return Decoding(setting, records)
