"""The first Zipformer as an ``Encoder``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from zipasr.encoder.zipformer1.config import Zipformer1Config
from zipasr.encoder.zipformer1.model import Zipformer
from zipasr.encoder.zipformer1.scaling import call_counts, set_call_counts
from zipasr.encoder.zipformer1.streaming import Zipformer1Chunks

# The weights, and so the balancers, are known by names that begin with that of the part.
_PREFIX = "encoder."


@dataclass(frozen=True, slots=True)
class Zipformer1Encoder:
    """An ``Encoder``: one module, with the front end inside."""

    encoder: Zipformer

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """See ``Encoder``."""
        return {"encoder": self.encoder}

    @property
    def chunks(self) -> Zipformer1Chunks:
        """See ``Encoder``."""
        return Zipformer1Chunks(self.encoder)

    def __call__(
        self, features: Tensor, feature_lens: Tensor, _lens: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """See ``Encoder``."""
        frames, num = self.encoder(features, feature_lens)
        return frames, num

    def rank_state(self) -> dict[str, Any]:
        """See ``Encoder``: how often each balancer was called."""
        return {f"{_PREFIX}{name}": count for name, count in call_counts(self.encoder).items()}

    def load_rank_state(self, state: Mapping[str, Any]) -> None:
        """See ``Encoder``."""
        counts = {name.removeprefix(_PREFIX): count for name, count in state.items()}
        set_call_counts(self.encoder, counts)


def build(config: Zipformer1Config) -> Zipformer1Encoder:
    """Build the encoder with fresh weights."""
    return Zipformer1Encoder(Zipformer(config))
