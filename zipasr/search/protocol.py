"""Interface of a decoding method: what it is given, what it returns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from zipasr.base.errors import NumericError
from zipasr.nn.masks import make_pad_mask
from zipasr.nn.numerics import OnItsWay


@dataclass(frozen=True, slots=True)
class Utterance:
    """What was recognised in one utterance.

    Attributes:
        tokens: ids of the recognised tokens, without blanks.
        frames: for each token, the encoder frame (40 ms, from 0) at which it was emitted.
        log_prob: natural logarithm of the probability that the search gives to ``tokens``: of
            the one path it followed (greedy) or of all paths it kept and merged (beam).
        words: what the tokens spell, where the search looked for words; else ``None``.
        last_frame: frame at which the last token ends, where the search sees tokens end.
    """

    tokens: list[int]
    frames: list[int]
    log_prob: float
    words: tuple[str, ...] | None = None
    last_frame: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Refuse a log-probability that is no number: nothing was found then, whatever it says.

        Raises:
            NumericError: it is NaN.
        """
        if math.isnan(self.log_prob):
            raise not_finite()


def not_finite() -> NumericError:
    """Return the error of a search whose model gives scores that are no numbers."""
    return NumericError(
        "the model gives scores that are not finite numbers.",
        "use another checkpoint of the run; with half precision, try --use-bf16 0.",
    )


class ScaleSetting(NamedTuple):
    """Weights under which hypotheses are compared: of the search, then of each rescorer."""

    name: str
    weights: tuple[float, ...]


#: The setting of a search that has no rescorers.
UNWEIGHTED = ScaleSetting("", (1.0,))


class ScoredNbest(NamedTuple):
    """Hypotheses of one utterance, best first, with log-probabilities.

    Attributes:
        hypotheses: H of them.
        scores: (J, H) float64, of the search in the first row, of each rescorer in the others.
    """

    hypotheses: list[Utterance]
    scores: Tensor

    def best(self, weights: Sequence[float]) -> Utterance:
        """Return the hypothesis with the largest weighted sum."""
        return self.hypotheses[int(self._totals(weights).argmax())]

    def ranked(self, weights: Sequence[float]) -> list[Utterance]:
        """Return the hypotheses with their weighted sums as log-probabilities, largest first."""
        totals = self._totals(weights).tolist()
        order = sorted(range(len(totals)), key=lambda n: -totals[n])
        return [replace(self.hypotheses[n], log_prob=totals[n]) for n in order]

    def _totals(self, weights: Sequence[float]) -> Tensor:
        return torch.tensor(weights, dtype=self.scores.dtype) @ self.scores


S = TypeVar("S")


class Search(Protocol[S]):
    """From encoder frames to tokens, for N utterances at once, chunk by chunk or as a whole.

    What a search finds does not depend on where the chunks end. A state holds N streams;
    ``batched_state`` stacks and selects the states of methods that stream.
    """

    @property
    def settings(self) -> tuple[ScaleSetting, ...]:
        """Weights that it can compare hypotheses with, at least one."""
        return (UNWEIGHTED,)

    def start(self, num: int, device: torch.device) -> S:
        """State of ``num`` streams of which nothing was heard."""
        raise NotImplementedError

    def restart(self, state: S, device: torch.device) -> S:
        """State of the same streams after the end of an utterance: nothing is recognised.

        The decoder of a transducer may go on from the last tokens.
        """
        return self.start(len(self.results(state)), device)

    def advance(self, state: S, frames: Tensor, lens: Tensor) -> S:
        """Go on with the next frames (N, T', C) of each stream, ``lens`` (N,) of them valid.

        Raises:
            ValueError: a length is negative or longer than the frames given.
        """
        raise NotImplementedError

    def results(self, state: S) -> list[Utterance]:
        """Best hypothesis of each stream so far, under the usual setting."""
        raise NotImplementedError

    def hypotheses(self, state: S) -> list[list[Utterance]]:
        """What each stream may have said, best first: one hypothesis, unless the search keeps more.

        The first is that of ``results``.
        """
        return [[one] for one in self.results(state)]

    def scored(self, state: S) -> list[ScoredNbest]:
        """Hypotheses of each stream to choose from under any of ``settings``."""
        return [
            ScoredNbest([one], torch.tensor([[one.log_prob]]).double())
            for one in self.results(state)
        ]

    def whole(self, frames: Tensor, lens: Tensor) -> S:
        """State after whole utterances (N, T', C) of the lengths (N,).

        Raises:
            NumericError: a frame has values that are not finite; what a search finds in those is
                nothing, or anything.
        """
        if frames.is_cuda:
            # Looked at afterwards, when the search has waited for the device.
            padding = make_pad_mask(lens, frames.size(1), frames.device)
            is_finite = OnItsWay((frames.isfinite() | padding[..., None]).all())
            state = self.advance(self.start(len(lens), frames.device), frames, lens)
            if not bool(is_finite.arrived()):
                raise not_finite()
            return state
        if not bool(frames.isfinite().all()):
            beyond = torch.arange(frames.size(1))[None, :] >= lens.cpu()[:, None]
            if not bool(
                frames.masked_fill(beyond.to(frames.device)[..., None], 0.0).isfinite().all()
            ):
                raise not_finite()
        return self.advance(self.start(len(lens), frames.device), frames, lens)

    def __call__(self, frames: Tensor, lens: Tensor) -> list[Utterance]:
        """Search whole utterances (N, T', C) of the lengths (N,); a length of 0 finds nothing."""
        return self.results(self.whole(frames, lens))
