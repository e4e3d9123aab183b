"""Checks of a batch before the model sees it, and transcripts as padded label tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from zipasr.losses import ctc_loss
from zipasr.losses.config import RnntType
from zipasr.losses.ctc import least_frames
from zipasr.nn.numerics import to_device


def check_tokens(tokens: Sequence[Sequence[int]], num_utterances: int, vocab_size: int) -> None:
    """Compare transcripts with the batch and the vocabulary.

    Raises:
        ValueError: there are too few or too many, or an id is not from 0 to V - 1.
    """
    if len(tokens) != num_utterances:
        raise ValueError(f"{len(tokens)} transcripts were given for {num_utterances} utterances")
    for wrong in (i for ids in tokens for i in ids if not 0 <= i < vocab_size):
        raise ValueError(
            f"token {wrong} does not fit a vocabulary of {vocab_size}: "
            "use the tokenizer that the model was built for"
        )


def check_second_view(features: Tensor, second_view: Tensor) -> None:
    """Compare the two views of a batch.

    Raises:
        ValueError: their shapes differ.
    """
    if features.shape != second_view.shape:
        raise ValueError(
            f"two views of a batch have the same shape, got {tuple(features.shape)} and "
            f"{tuple(second_view.shape)}"
        )


class Labels(NamedTuple):
    """Transcripts for the transducer losses.

    ``symbols`` (N, S) is padded with blanks, ``boundary`` (N, 4), on the host, holds the lattice of
    each utterance, ``weights`` (N,) is 0 for an utterance that cannot be aligned and 1 otherwise.
    """

    symbols: Tensor
    boundary: Tensor
    weights: Tensor


def padded_labels(
    tokens: Sequence[Sequence[int]],
    encoder_lens: Tensor,
    blank: int,
    rnnt_type: RnntType,
    device: torch.device | None = None,
) -> Labels:
    """Pad transcripts and say which of them can be aligned.

    A lattice with one arc per frame has no path for more tokens than frames. Such an
    utterance gets weight 0, and a shorter transcript in the boundary so that the losses stay
    finite: infinity times 0 would spoil the sum.

    Args:
        tokens: the transcript of each utterance.
        encoder_lens: (N,) number of encoder frames.
        blank: what pads.
        rnnt_type: of the lattice.
        device: of symbols and weights; that of ``encoder_lens`` if not given.
    """
    lens: list[int] = encoder_lens.tolist()
    counts = [len(ids) for ids in tokens]
    # At least one column: pruning needs two positions to choose from.
    width = max(1, *counts)
    rows = [[*ids, *[blank] * (width - len(ids))] for ids in tokens]
    fits = [rnnt_type == "regular" or s <= t for s, t in zip(counts, lens, strict=True)]
    ends = [[0, 0, s if ok else t, t] for s, t, ok in zip(counts, lens, fits, strict=True)]
    device = encoder_lens.device if device is None else device
    return Labels(
        symbols=to_device(torch.tensor(rows, dtype=torch.int64), device),
        boundary=torch.tensor(ends, dtype=torch.int64),
        weights=to_device(torch.tensor(fits, dtype=torch.float32), device),
    )


def unalignable(
    tokens: Sequence[Sequence[int]], encoder_lens: Sequence[int], rnnt_type: RnntType, ctc: bool
) -> list[int]:
    """Return which utterances have too few frames for one of the losses, and count 0 there.

    Args:
        tokens: the transcript of each utterance.
        encoder_lens: number of encoder frames of each.
        rnnt_type: of the transducer's lattice; "regular" where there is none.
        ctc: whether there is a CTC loss.
    """
    return [
        n
        for n, (ids, num_frames) in enumerate(zip(tokens, encoder_lens, strict=True))
        if (rnnt_type != "regular" and len(ids) > num_frames)
        or (ctc and least_frames(ids) > num_frames)
    ]


def alignable_ctc_loss(log_probs: Tensor, lens: Tensor, tokens: Sequence[Sequence[int]]) -> Tensor:
    """Sum the CTC loss over the utterances that have enough frames for their tokens.

    Args:
        log_probs: (N, T', V) log-probabilities, blank at 0.
        lens: (N,) number of valid frames.
        tokens: the transcript of each utterance.

    Returns:
        A scalar in nats; 0 when no utterance can be aligned.
    """
    fits = [
        least_frames(targets) <= num_frames
        for targets, num_frames in zip(tokens, lens.tolist(), strict=True)
    ]
    kept = [list(targets) for targets, fit in zip(tokens, fits, strict=True) if fit]
    with torch.autocast(log_probs.device.type, enabled=False):
        if len(kept) == len(fits):
            return ctc_loss(log_probs, lens, kept)
        if not kept:
            return log_probs[:, :0].sum()
        rows = torch.tensor([n for n, fit in enumerate(fits) if fit])
        some = log_probs.index_select(0, to_device(rows, log_probs.device))
        return ctc_loss(some, lens[to_device(rows, lens.device)], kept)
