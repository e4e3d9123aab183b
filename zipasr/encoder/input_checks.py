"""Checks of a batch of features before an encoder sees them."""

from __future__ import annotations

from torch import Tensor

from zipasr.encoder.protocol import Geometry


def checked_lens(features: Tensor, feature_lens: Tensor, geometry: Geometry) -> list[int]:
    """Return the lengths as plain numbers, once they fit the features.

    Args:
        features: should be (N, T, mel bins).
        feature_lens: should be (N,), at least the shortest that the encoder takes and at most T.
        geometry: of the encoder.

    Raises:
        ValueError: the first thing that is not as it should be.
    """
    check_features(features, geometry.mel_bins)
    if features.size(0) == 0:
        raise ValueError("the batch has no utterance: leave empty batches out")
    if feature_lens.shape != features.shape[:1]:
        raise ValueError(
            f"features of {features.size(0)} utterances need as many lengths, got a tensor of "
            f"shape {tuple(feature_lens.shape)}"
        )
    lens: list[int] = feature_lens.tolist()
    if min(lens) < geometry.min_frames:
        raise ValueError(
            f"an utterance has {min(lens)} feature frames, but the encoder needs at least "
            f"{geometry.min_frames}: drop shorter ones"
        )
    if max(lens) > features.size(1):
        raise ValueError(
            f"a length of {max(lens)} was given for features with {features.size(1)} frames"
        )
    return lens


def check_features(features: Tensor, mel_bins: int) -> None:
    """Compare features with the (N, T, mel bins) that they should be.

    Raises:
        ValueError: they have other axes, or another number of mel bins.
    """
    if features.dim() != 3 or features.size(2) != mel_bins:
        raise ValueError(
            f"features must be (N, T, {mel_bins}), got {tuple(features.shape)}: utterances, "
            "frames, mel bins"
        )
