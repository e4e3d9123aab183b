"""What the model is given: padded features, their lengths, and the texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from lhotse.cut import Cut
from torch import Tensor

from zipasr.data.filters import text_of

SECONDS_PER_FRAME = 0.01


@dataclass(frozen=True, slots=True)
class Batch:
    """Utterances that are processed together, longest first.

    Attributes:
        features: (N, T, 80) float32 log-mel energies; padding is log(1e-10).
        feature_lens: (N,) int64, frames of each utterance before padding.
        texts: the N transcripts.
        cut_ids: the N names.
        seconds: length of the speech, padding not counted.
        index: position of the batch in its epoch on this rank, from 0; to go on after this batch,
            ask the loader to skip ``index + 1``.
        dropped: names of the utterances that could not be read and are missing here.
        step_seconds: length of the batches at this position over all ranks, padding included.
        second_view: (N, T, 80), the same utterances as ``features`` under other masks; None
            without consistency training.
        corpus: that the utterances are from, where several are trained on; else empty.
    """

    features: Tensor
    feature_lens: Tensor
    texts: list[str]
    cut_ids: list[str]
    seconds: float
    index: int = 0
    dropped: tuple[str, ...] = ()
    step_seconds: float = 0.0
    second_view: Tensor | None = None
    corpus: str = ""

    def __len__(self) -> int:
        """N, the number of utterances."""
        return len(self.texts)

    def part(self, start: int, stop: int) -> Batch:
        """Return the utterances ``start`` to ``stop - 1``.

        Their padding stays, although they may be shorter: convolutions see it, so the losses of
        the parts add up to the loss of the whole.
        """
        lens, second = self.feature_lens[start:stop], self.second_view
        return replace(
            self,
            features=self.features[start:stop],
            feature_lens=lens,
            texts=self.texts[start:stop],
            cut_ids=self.cut_ids[start:stop],
            seconds=int(lens.sum()) * SECONDS_PER_FRAME,
            second_view=None if second is None else second[start:stop],
        )

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch with its tensors on ``device``; the lengths move too."""
        second = self.second_view
        return replace(
            self,
            features=self.features.to(device, non_blocking=True),
            feature_lens=self.feature_lens.to(device, non_blocking=True),
            second_view=None if second is None else second.to(device, non_blocking=True),
        )


def batch_from_lhotse(raw: Mapping[str, Any], num_views: int = 1) -> Batch:
    """Take the batch dictionary of ``K2SpeechRecognitionDataset`` apart.

    Args:
        raw: made with ``return_cuts=True``; ``inputs`` are features.
        num_views: 2 when ``TwoViews`` doubled the features.
    """
    features, *other_views = raw["inputs"].float().chunk(num_views)
    supervisions = raw["supervisions"]
    rows = supervisions["sequence_idx"].long()
    ends = (supervisions["start_frame"] + supervisions["num_frames"]).long()
    # Joined cuts have several supervisions in one row: the last end counts.
    lens = torch.zeros(features.size(0), dtype=torch.int64)
    lens = lens.scatter_reduce(0, rows, ends, reduce="amax").clamp(max=features.size(1))
    cuts = _cut_of_each_row(rows.tolist(), supervisions["cut"])
    return Batch(
        features=features,
        feature_lens=lens,
        texts=[text_of(cut) for cut in cuts],
        cut_ids=[_name(cut) for cut in cuts],
        seconds=int(lens.sum()) * SECONDS_PER_FRAME,
        second_view=other_views[0] if other_views else None,
    )


def _cut_of_each_row(rows: list[int], cut_of_each_supervision: list[Cut]) -> list[Cut]:
    return list(dict(zip(rows, cut_of_each_supervision, strict=True)).values())


def _name(cut: Cut) -> str:
    # lhotse names joined cuts at random; their supervisions keep their names.
    supervisions = cut.supervisions
    return cut.id if len(supervisions) == 1 else "+".join(s.id for s in supervisions)
