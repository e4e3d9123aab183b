"""How much memory a batch takes: counted for small ones, worked out for any other."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from zipasr.base.seed import seeded
from zipasr.data.dataset import SECONDS_PER_FRAME, Batch
from zipasr.data.epoch_plan import RowCost
from zipasr.nn.schedule import set_batch_count
from zipasr.training.session import Session
from zipasr.training.step import LossScales, loss_scales
from zipasr.training.update import weighted_loss

NUM_MELS = 80
SHORTEST_PROBE = 0.5  # seconds
TOKENS_PER_SECOND = 4  # as many as fast speech has with 500 tokens
BYTES_PER_PARAMETER = 4
# Parameters, gradients and two moments of the optimizer.
COPIES_OF_PARAMETERS = 4


class Size(NamedTuple):
    """What the memory of a batch depends on.

    Attributes:
        rows: N utterances.
        seconds: of the longest one.
        tokens: of the longest transcript.
    """

    rows: int
    seconds: float
    tokens: int


class Noise(NamedTuple):
    """A batch of a given size that costs no reading, and its labels."""

    batch: Batch
    tokens: list[list[int]]


def noise(session: Session, size: Size) -> Noise:
    """Return a batch of noise; the memory that it takes is that of speech of the same size."""
    frames = round(size.seconds / SECONDS_PER_FRAME)
    features = torch.randn(size.rows, frames, NUM_MELS)
    ids = [3 + i % max(1, session.tokenizer.vocab_size - 3) for i in range(size.tokens)]
    batch = Batch(
        features=features,
        feature_lens=torch.full((size.rows,), frames),
        texts=[""] * size.rows,
        cut_ids=["noise"] * size.rows,
        seconds=size.rows * size.seconds,
        second_view=features.clone() if session.configs.model.use_cr_ctc else None,
    )
    return Noise(batch, [ids] * size.rows)


def settled_scales(session: Session) -> LossScales:
    """Return the weights after the warm-up, when all losses are computed."""
    loss = session.configs.loss
    return loss_scales(loss, session.configs.model, loss.ctc_only_batches + loss.warm_step)


def bytes_kept(session: Session, size: Size) -> int:
    """Count what the forward pass keeps for the backward pass.

    On a CPU that is the resident memory of a batch within 2 percent; a GPU needs some more for
    workspaces. The count is the same whenever it is made: schedules are at their start, where
    dropout keeps most, and random numbers and statistics are put back.
    """
    seen: dict[int, int] = {}

    def note(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return x

    before = session.own_state()
    set_batch_count(session.model, 0.0)
    session.model.train()
    with seeded(0):
        batch, tokens = noise(session, size)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            weighted_loss(session, batch, tokens, settled_scales(session))
    session.load_own_state(before)
    own = {p.untyped_storage().data_ptr() for p in session.model.parameters()}
    return sum(count for pointer, count in seen.items() if pointer not in own)


def row_cost(session: Session, longest: float) -> RowCost:
    """Return the bytes that an utterance takes in a batch, from its padded length.

    ``a T + b T^2 + c S``: activations, attention, and the lattices, whose width and number of
    symbols (prune range, vocabulary) are those of the run. Counted for single utterances of three
    lengths and solved for the three numbers, none below zero.

    Args:
        session: its model is run, nothing in it changes.
        longest: seconds of the longest utterance.
    """
    longest = max(longest, 2 * SHORTEST_PROBE)
    most_tokens = int(longest * TOKENS_PER_SECOND)
    half = Size(1, longest / 2, most_tokens // 2)
    probes = [half, Size(1, longest, most_tokens // 2), Size(1, longest, most_tokens)]
    counts = [float(bytes_kept(session, probe)) for probe in probes]
    per_token = max(0.0, counts[2] - counts[1]) / max(1, most_tokens - most_tokens // 2)
    short, long = (count - per_token * half.tokens for count in counts[:2])
    squared = max(0.0, long / longest - short / half.seconds) / (longest - half.seconds)
    return RowCost(
        per_second=long / longest - squared * longest,
        per_second_squared=squared,
        per_token=per_token,
    )


def bytes_of(size: Size, cost: RowCost) -> float:
    """Return the estimate of the bytes of a batch."""
    return size.rows * cost(size.seconds, size.tokens)


def state_bytes(session: Session) -> int:
    """Return the bytes of parameters, gradients and optimizer, once all are there."""
    count = sum(p.numel() for p in session.model.parameters())
    return count * BYTES_PER_PARAMETER * COPIES_OF_PARAMETERS
