"""One step of a transducer: scores of the next symbol, for many hypotheses at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from zipasr.nn.numerics import to_device

Context: TypeAlias = tuple[int, ...]
"""The last tokens, as many as the decoder looks back; -1 stands for none."""

#: Contexts that are remembered; then all are forgotten.
_MOST_REMEMBERED = 4096


class DecoderLike(Protocol):
    """The stateless decoder as a search sees it: contexts (M, C) to vectors (M, 1, C)."""

    @property
    def context_size(self) -> int:
        """Number of tokens that the decoder looks back."""

    @property
    def blank_id(self) -> int:
        """Id of the symbol that emits nothing."""

    def __call__(self, y: Tensor, need_pad: bool) -> Any:
        """Look at whole histories if ``need_pad`` is False."""


class JoinerLike(Protocol):
    """The joiner as a search sees it: projected frames and contexts (..., J) to logits (..., V)."""

    @property
    def encoder_proj(self) -> Callable[[Tensor], Tensor]:
        """Projection of encoder frames to the joiner's width."""

    @property
    def decoder_proj(self) -> Callable[[Tensor], Tensor]:
        """Projection of decoder vectors to the joiner's width."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Score, with ``project_input=False``."""


class ScoreSettings(NamedTuple):
    """How logits become log-probabilities; see ``TransducerSteps``."""

    blank_id: int
    blank_penalty: float = 0.0
    temperature: float = 1.0


@dataclass(frozen=True, slots=True)
class TransducerSteps:
    """Decoder and joiner, with what sharpens or flattens their scores.

    Attributes:
        decoder: predicts from the last tokens.
        joiner: combines a frame with a prediction.
        blank_penalty: subtracted from the logit of blank, before the temperature.
        temperature: divides the logits.
        memory: predictions that were computed; ``None`` where weights may change.
    """

    decoder: DecoderLike
    joiner: JoinerLike
    blank_penalty: float = 0.0
    temperature: float = 1.0
    memory: dict[Context, Tensor] | None = None

    @property
    def blank_id(self) -> int:
        """Id of the symbol that emits nothing."""
        return self.decoder.blank_id

    @property
    def context_size(self) -> int:
        """Number of tokens that the decoder looks back."""
        return self.decoder.context_size

    @property
    def settings(self) -> ScoreSettings:
        """How logits become log-probabilities."""
        return ScoreSettings(self.blank_id, self.blank_penalty, self.temperature)

    def project(self, frames: Tensor) -> Tensor:
        """Bring encoder frames (..., C) to the joiner's width: (..., J), once per batch."""
        return self.joiner.encoder_proj(frames)

    def start_contexts(self, num: int, device: torch.device) -> Tensor:
        """Contexts (num, C) before any token: nothing, then one blank.

        The id -1 stands for "no token"; the decoder gives it a zero vector.
        """
        contexts = torch.full((num, self.context_size), -1, dtype=torch.int64, device=device)
        contexts[:, -1] = self.blank_id
        return contexts

    def predict(self, contexts: Tensor) -> Tensor:
        """Predictions (M, J) that follow the token contexts (M, C)."""
        vectors: Tensor = self.decoder(contexts, need_pad=False)
        return self.joiner.decoder_proj(vectors).squeeze(1)

    def remembered(self, contexts: Sequence[Context]) -> Tensor:
        """Return the predictions (M, J) of contexts; each is computed once."""
        memory = {} if self.memory is None else self.memory
        missing = [context for context in dict.fromkeys(contexts) if context not in memory]
        if missing:
            if len(memory) > _MOST_REMEMBERED:
                memory.clear()
                missing = list(dict.fromkeys(contexts))
            found = self.predict(torch.tensor(missing))
            memory.update((context, found[n : n + 1]) for n, context in enumerate(missing))
        return torch.cat([memory[context] for context in contexts])

    def next_scores(self, frames: Tensor, predictions: Tensor) -> Tensor:
        """Score every symbol as the next one.

        Args:
            frames: (..., J), projected encoder frames.
            predictions: (..., J), from ``predict``; the leading axes broadcast.

        Returns:
            (..., V) float32, log-probabilities.
        """
        return adjusted_log_probs(self.logits(frames, predictions), *self.settings)

    def logits(self, frames: Tensor, predictions: Tensor) -> Tensor:
        """Return what ``next_scores`` are made of, (..., V)."""
        logits: Tensor = self.joiner(frames, predictions, project_input=False)
        return logits


def adjusted_log_probs(
    logits: Tensor, blank_id: int, blank_penalty: float, temperature: float
) -> Tensor:
    """Turn logits (..., V) into float32 log-probabilities, blank penalised, then flattened."""
    logits = logits.float()
    if blank_penalty != 0.0:
        penalty = torch.zeros(logits.size(-1), device=logits.device)
        penalty[blank_id] = blank_penalty
        logits = logits - penalty
    if temperature != 1.0:
        logits = logits / temperature
    return torch.log_softmax(logits, dim=-1)


class LongestFirst(NamedTuple):
    """A batch ordered so that the utterances alive at a frame are the first rows.

    Attributes:
        frames: (N, T', C), utterances sorted by length, longest first.
        num_alive: for each frame up to the longest length, how many rows reach it.
        lens: length of each row.
        order: for each row, its place in the original batch.
    """

    frames: Tensor
    num_alive: list[int]
    lens: list[int]
    order: list[int]

    def places(self) -> list[int]:
        """For each place in the original batch, its row."""
        rows = [0] * len(self.order)
        for row, place in enumerate(self.order):
            rows[place] = row
        return rows


def longest_first(frames: Tensor, lens: Tensor) -> LongestFirst:
    """Sort a padded batch by length.

    Args:
        frames: (N, T', C), anything beyond an utterance's length is never looked at.
        lens: (N,) integers, 0 .. T'.

    Raises:
        ValueError: a length is negative or longer than the frames given.
    """
    check_lens(lens, frames.size(1))
    lens, order = lens.sort(descending=True, stable=True)
    num_frames = int(lens[0]) if lens.numel() else 0
    times = torch.arange(num_frames, device=lens.device)
    num_alive = (lens[None, :] > times[:, None]).sum(dim=1).tolist()
    return LongestFirst(
        frames[to_device(order, frames.device)], num_alive, lens.tolist(), order.tolist()
    )


def check_lens(lens: Tensor, num_frames: int) -> None:
    """Raise ``ValueError`` unless all of ``lens`` (N,) are within 0 .. ``num_frames``."""
    if lens.numel() and not 0 <= int(lens.min()) <= int(lens.max()) <= num_frames:
        raise ValueError(f"lengths {lens.tolist()} do not fit {num_frames} encoder frames")
