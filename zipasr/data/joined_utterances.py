"""Pauses in training: silence and noise around utterances, and utterances joined over them.

Corpora are cut into utterances that begin and end at once; recordings are not. What is put into a
pause is made of log-mel energies, so that it does not matter whether features are stored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.dataset.input_strategies import BatchIO
from numpy.random import Generator
from torch import Tensor

from zipasr.audio.log_mel import log_mel
from zipasr.base.constants import SAMPLING_RATE
from zipasr.data.config import AugmentConfig
from zipasr.encoder.protocol import SECONDS_PER_FEATURE_FRAME

#: Energy of silence, and of the padding of a batch.
_SILENCE = math.log(torch.finfo(torch.float32).eps)
_PADDING = math.log(1e-10)
#: Log-mel units of a decibel.
_DECIBEL = math.log(10.0) / 10.0

#: Utterances that are joined to one, at most.
_MOST_JOINED = 4
#: Share of the pauses between joined utterances that are short, and how long those are (seconds).
_SHORT_SHARE, _SHORT_PAUSE = 0.3, 0.2
#: Share of utterances that keep the silence that they begin or end with as it is.
_KEPT_SHARE = 0.3
#: Speech is above this share of the way from the quietest to the loudest frames.
_QUIET_SHARE = 0.25
#: Decibels of noise in pauses, of full scale; and of other speech, of its own level.
_NOISE_LEVELS = (-80.0, -40.0)
_BABBLE_LEVELS = (-35.0, -15.0)

Fill = Callable[[int, "list[Tensor]", int, Generator], Tensor]
"""Returns (n, 80) for a pause of n frames beside utterance number ... of a list (T, 80)."""


@dataclass(frozen=True, slots=True)
class Pauses:
    """How pauses are drawn.

    Attributes:
        join_prob: share of the batches whose utterances are joined.
        silence_prob: share of the beginnings and ends that get a pause.
        longest_pause: seconds.
        longest: seconds of joined utterances, without pauses.
    """

    join_prob: float
    silence_prob: float
    longest_pause: float
    longest: float

    def group_size(self, num: int, frames: int, draws: Generator) -> int:
        """Return how many utterances are joined to one.

        Args:
            num: utterances of the batch.
            frames: of the longest.
            draws: random numbers.
        """
        if draws.random() >= self.join_prob:
            return 1
        room = int(self.longest / max(frames * SECONDS_PER_FEATURE_FRAME, 1e-9))
        most = min(_MOST_JOINED, num, room)
        return int(draws.integers(2, most + 1)) if most >= 2 else 1

    def of_rows(
        self, frames: Sequence[int], counts: Sequence[int], draws: Generator
    ) -> list[list[int]]:
        """Return the frames of each pause of each row: before, between and after its utterances.

        Pauses of a row are shortened where it would be longer than the longest row with its own.
        Otherwise padding would cost several times what is put into pauses: each row has others.

        Args:
            frames: of the utterances of each row together.
            counts: how many they are.
            draws: random numbers.
        """
        pauses = [self._of_row(count, draws) for count in counts]
        longest = max(range(len(frames)), key=frames.__getitem__)
        limit = frames[longest] + sum(pauses[longest])
        return [_shortened(row, limit - speech) for row, speech in zip(pauses, frames, strict=True)]

    def padded_size(self, num: int, seconds: float, draws: Generator) -> tuple[int, float]:
        """Return rows and seconds of a batch whose utterances were joined and have pauses.

        Args:
            num: utterances.
            seconds: of each.
            draws: random numbers.
        """
        rows = -(-num // self.group_size(num, _frames(seconds), draws))
        longest = -(-num // rows)
        pauses = sum(self._of_row(longest, draws)) * SECONDS_PER_FEATURE_FRAME
        return rows, longest * seconds + pauses

    def _of_row(self, count: int, draws: Generator) -> list[int]:
        gaps = [self._gap(draws) for _ in range(count - 1)]
        return [self._edge(draws), *gaps, self._edge(draws)]

    def _edge(self, draws: Generator) -> int:
        if draws.random() >= self.silence_prob:
            return 0
        return _frames(draws.uniform(0.0, self.longest_pause))

    def _gap(self, draws: Generator) -> int:
        longest = _SHORT_PAUSE if draws.random() < _SHORT_SHARE else self.longest_pause
        return _frames(draws.uniform(0.0, longest))


def _shortened(pauses: list[int], most: int) -> list[int]:
    """Return pauses of at most so many frames together, each shorter by the same factor."""
    total = sum(pauses)
    return pauses if total <= most else [pause * most // total for pause in pauses]


def pauses_of(config: AugmentConfig, epoch: int, longest: float) -> Pauses | None:
    """Return how pauses are drawn in ``epoch`` (from 1); ``None`` without any.

    Args:
        config: settings.
        epoch: of the batches.
        longest: seconds of the longest utterance that is trained on.
    """
    if epoch < config.pause_start_epoch or not (config.join_prob or config.silence_prob):
        return None
    return Pauses(config.join_prob, config.silence_prob, config.longest_pause, longest)


class InputsWithPauses(BatchIO):  # type: ignore[misc]
    """Input strategy that joins the utterances of one batch and puts pauses around them.

    Args:
        read: input strategy of features.
        pauses: how they are drawn.
        draws: random numbers of this batch.
    """

    def __init__(self, read: BatchIO, pauses: Pauses, draws: Generator) -> None:
        super().__init__()
        self._read, self._pauses, self._draws = read, pauses, draws
        self._intervals: dict[str, Tensor] = {}

    def __call__(self, cuts: CutSet) -> tuple[Tensor, Tensor, CutSet]:
        """Return features (N, T, 80), their lengths, and the cuts that they are of."""
        features, lens = self._read(cuts)
        spans = self._read.supervision_intervals(cuts)
        rows = [features[n, : int(num)].float() for n, num in enumerate(lens)]
        groups = self._groups(len(rows), max(map(len, rows)))
        kept = [_kept(row, self._draws) for row in rows]
        pauses = self._pauses.of_rows(
            [sum(kept[n][1] - kept[n][0] for n in group) for group in groups],
            [len(group) for group in groups],
            self._draws,
        )
        made = [
            _Row(group, rows, kept, drawn, self._draws)
            for group, drawn in zip(groups, pauses, strict=True)
        ]
        made.sort(key=lambda row: -len(row.features))
        self._intervals = _intervals(made, spans)
        own = list(cuts)
        joined = [_joined([own[n] for n in row.members]) for row in made]
        padded = torch.nn.utils.rnn.pad_sequence(
            [row.features for row in made], batch_first=True, padding_value=_PADDING
        )
        sizes = torch.tensor([len(row.features) for row in made], dtype=torch.int32)
        return padded, sizes, CutSet.from_cuts(joined)

    def supervision_intervals(self, cuts: CutSet) -> dict[str, Tensor]:
        """Return utterance, first frame and number of frames of each supervision.

        The last one of an utterance lasts until the pause after it is over, which counts as heard.
        """
        del cuts
        return self._intervals

    def _groups(self, num: int, frames: int) -> list[list[int]]:
        size = self._pauses.group_size(num, frames, self._draws)
        order = self._draws.permutation(num) if size > 1 else np.arange(num)
        return [part.tolist() for part in np.array_split(order, -(-num // size))]


class _Row:
    """Utterances in a row, with pauses.

    Attributes:
        members: numbers of the utterances.
        features: (T, 80).
        begins: for each member, the frame of this row at which its first frame is, or would be.
    """

    def __init__(
        self,
        members: list[int],
        rows: list[Tensor],
        kept: list[tuple[int, int]],
        pauses: list[int],
        draws: Generator,
    ) -> None:
        self.members = members
        parts: list[Tensor] = []
        self.begins: list[int] = []
        at = 0
        for number, pause in zip(members, pauses, strict=False):
            begin, end = kept[number]
            parts += [_fill(pause, rows, number, draws), rows[number][begin:end]]
            self.begins.append(at + pause - begin)
            at += pause + end - begin
        self.features = torch.cat([*parts, _fill(pauses[-1], rows, members[-1], draws)])


def _intervals(made: Sequence[_Row], spans: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return where the supervisions of joined utterances are.

    Args:
        made: the joined utterances.
        spans: where they were in utterances of their own.
    """
    rows, starts, sizes = [], [], []
    for number, row in enumerate(made):
        length = len(row.features)
        for member, begin in zip(row.members, row.begins, strict=True):
            for n in torch.nonzero(spans["sequence_idx"] == member).flatten().tolist():
                first, size = int(spans["start_frame"][n]), int(spans["num_frames"][n])
                start = min(max(0, begin + first), length - 1)
                rows.append(number)
                starts.append(start)
                sizes.append(max(1, min(begin + first + size, length) - start))
        sizes[-1] = length - starts[-1]
    values = {"sequence_idx": rows, "start_frame": starts, "num_frames": sizes}
    return {name: torch.tensor(value, dtype=torch.int32) for name, value in values.items()}


def _joined(cuts: Sequence[Cut]) -> Cut:
    return reduce(lambda joined, cut: joined.append(cut), cuts)


def _frames(seconds: float) -> int:
    return round(seconds / SECONDS_PER_FEATURE_FRAME)


def _kept(features: Tensor, draws: Generator) -> tuple[int, int]:
    """Return which frames of an utterance are kept: it may lose silence that it begins with."""
    num = len(features)
    loudness = features.mean(dim=1)
    low, high = torch.quantile(loudness, torch.tensor([0.05, 0.95], dtype=loudness.dtype)).tolist()
    speech = torch.nonzero(loudness > low + _QUIET_SHARE * (high - low)).flatten()
    if not len(speech):
        return 0, num
    quiet = int(speech[0]), num - 1 - int(speech[-1])
    lost = [0 if draws.random() < _KEPT_SHARE else int(draws.integers(0, n + 1)) for n in quiet]
    return lost[0], num - lost[1]


def _fill(num: int, rows: list[Tensor], number: int, draws: Generator) -> Tensor:
    """Return (num, 80): what is in a pause beside an utterance."""
    if not num:
        return rows[number][:0]
    kinds: tuple[Fill, ...] = (_background, _background, _digital_silence, _noise, _babble)
    return kinds[int(draws.integers(len(kinds)))](num, rows, number, draws)


def _digital_silence(num: int, rows: list[Tensor], number: int, draws: Generator) -> Tensor:
    del draws
    return torch.full((num, rows[number].size(1)), _SILENCE)


def _background(num: int, rows: list[Tensor], number: int, draws: Generator) -> Tensor:
    """Return the quietest frames of the utterance, in any order."""
    features = rows[number]
    loudness = features.mean(dim=1)
    count = max(2, len(features) // 20)
    quietest = loudness.argsort()[:count]
    return features[quietest[torch.from_numpy(draws.integers(0, len(quietest), num))]]


def _noise(num: int, rows: list[Tensor], number: int, draws: Generator) -> Tensor:
    """Return noise of a drawn level and colour, hum, or a chord."""
    length = max(num + 1, 4) * round(SAMPLING_RATE * SECONDS_PER_FEATURE_FRAME)
    level = 10.0 ** (draws.uniform(*_NOISE_LEVELS) / 20.0)
    sound = draws.standard_normal(length)
    kind = draws.random()
    if kind < 0.3:
        seconds = np.arange(length) / SAMPLING_RATE
        pitches = draws.uniform(100.0, 800.0) * np.arange(1, 9)
        if kind < 0.15:
            pitches = draws.choice([50.0, 60.0]) * np.arange(1, 9)
        phases = 2.0 * np.pi * draws.random(len(pitches))
        waves = np.sin(2.0 * np.pi * pitches[:, None] * seconds + phases[:, None])
        sound = 0.05 * sound + (waves / np.arange(1, 9)[:, None]).sum(axis=0)
    elif kind < 0.65:
        spectrum = np.fft.rfft(sound)
        falling = 1.0 + np.fft.rfftfreq(length, 1.0 / SAMPLING_RATE) / draws.uniform(50.0, 2000.0)
        sound = np.fft.irfft(spectrum / falling, length)
    sound *= level / np.sqrt(np.mean(np.square(sound)))
    return log_mel(sound.astype(np.float32), rows[number].size(1))[:num]


def _babble(num: int, rows: list[Tensor], number: int, draws: Generator) -> Tensor:
    """Return other utterances of the batch, backwards, several at once, and far away."""
    level = draws.uniform(*_BABBLE_LEVELS) * _DECIBEL
    voices = [_backwards(rows[int(n)], num, draws) for n in draws.integers(0, len(rows), 3)]
    together = torch.logsumexp(torch.stack(voices), dim=0) - math.log(len(voices)) + level
    return torch.logaddexp(together, _background(num, rows, number, draws))


def _backwards(features: Tensor, num: int, draws: Generator) -> Tensor:
    turned = features.flip(0).repeat(-(-num // len(features)) + 1, 1)
    begin = int(draws.integers(0, len(features)))
    return turned[begin : begin + num]
