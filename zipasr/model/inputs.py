"""What a batch must be like before it enters the model: one sentence for each fault."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from zipasr.encoder.lengths import MIN_FRAMES

#: Number of mel bins of the features.
FEATURE_DIM = 80


def checked_lens(features: Tensor, feature_lens: Tensor) -> list[int]:
    """Return the lengths as plain numbers, once they fit the features.

    Args:
        features: should be (N, T, 80).
        feature_lens: should be (N,), at least 9 and at most T.

    Raises:
        ValueError: the first thing that is not as it should be.
    """
    check_features(features)
    if features.size(0) == 0:
        raise ValueError("the batch has no utterance: leave empty batches out")
    if feature_lens.shape != features.shape[:1]:
        raise ValueError(
            f"features of {features.size(0)} utterances need as many lengths, got a tensor of "
            f"shape {tuple(feature_lens.shape)}"
        )
    lens: list[int] = feature_lens.tolist()
    if min(lens) < MIN_FRAMES:
        raise ValueError(
            f"an utterance has {min(lens)} feature frames, but the encoder needs at least "
            f"{MIN_FRAMES}: drop shorter ones"
        )
    if max(lens) > features.size(1):
        raise ValueError(
            f"a length of {max(lens)} was given for features with {features.size(1)} frames"
        )
    return lens


def check_features(features: Tensor) -> None:
    """Compare features with the (N, T, 80) that they should be.

    Raises:
        ValueError: they have other axes, or another number of mel bins.
    """
    if features.dim() != 3 or features.size(2) != FEATURE_DIM:
        raise ValueError(
            f"features must be (N, T, {FEATURE_DIM}), got {tuple(features.shape)}: utterances, "
            "frames, mel bins"
        )


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
