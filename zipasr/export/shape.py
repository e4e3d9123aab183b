"""What ONNX files for whole utterances take: any length or one, with or without lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from zipasr.export.checks import LOG_ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What ONNX files take; the defaults are those that sherpa-onnx reads.

    Attributes:
        frames: of the utterance with which files are recorded; ``None``: some.
        is_fixed: whether files take one utterance of so many frames alone.
        takes_lengths: whether files take the lengths of utterances; else all frames count.
        uses_int32: whether integers have 32 bits, else 64.
    """

    frames: int | None = None
    is_fixed: bool = False
    takes_lengths: bool = True
    uses_int32: bool = False

    def fitted(self, utterances: Sequence[Tensor]) -> list[Tensor]:
        """Return utterances (T, 80) that the files take, to compare them with the model.

        They are cut to the length of the files, or of the shortest where there is no padding.
        """
        longest = max(map(len, utterances))
        if self.is_fixed and self.frames is not None:
            longest = self.frames
        elif not self.takes_lengths:
            longest = min(map(len, utterances))
        cut = [utterance[:longest] for utterance in utterances]
        return cut if self.takes_lengths else [self.padded(u.unsqueeze(0))[0] for u in cut]

    def padded(self, features: Tensor) -> Tensor:
        """Return features (N, T, 80) with silence up to the length of the files, if it is fixed."""
        if not self.is_fixed or self.frames is None:
            return features
        return F.pad(features, (0, 0, 0, self.frames - features.size(1)), value=LOG_ZERO)

    def client_limits(self) -> list[str]:
        """Return what sherpa-onnx will not do with the files, for the user."""
        flags = {
            "--dynamic-axes 0": self.is_fixed,
            "--keep-x-lens 0": not self.takes_lengths,
            "--use-int32-inputs 1": self.uses_int32,
        }
        return [
            f"{flag}: the ONNX files are for other programs than sherpa-onnx."
            for flag, is_on in flags.items()
            if is_on
        ]
