"""Front end and encoder as one ``Encoder``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from zipasr.encoder.masks import subsampled_lens
from zipasr.encoder.zipformer.config import ZipformerConfig
from zipasr.encoder.zipformer.front_end import Conv2dSubsampling
from zipasr.encoder.zipformer.model import Zipformer2, dropout_rate
from zipasr.encoder.zipformer.streaming import Zipformer2Chunks
from zipasr.nn.masks import make_pad_mask


@dataclass(frozen=True, slots=True)
class ZipformerEncoder:
    """An ``Encoder``: front end and Zipformer, which publish their weights side by side."""

    embed: Conv2dSubsampling
    encoder: Zipformer2

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """See ``Encoder``."""
        return {"encoder_embed": self.embed, "encoder": self.encoder}

    @property
    def chunks(self) -> Zipformer2Chunks:
        """See ``Encoder``."""
        return Zipformer2Chunks(self.embed, self.encoder)

    def __call__(
        self, features: Tensor, feature_lens: Tensor, lens: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """See ``Encoder``; a batch without padding is encoded without a mask."""
        x, x_lens = self.embed(features, feature_lens)
        if lens is None:
            mask: Tensor | None = make_pad_mask(x_lens, x.size(1))
            frames, num = self.encoder(x.transpose(0, 1), x_lens, mask)
            return frames.transpose(0, 1), num
        is_padded = min(subsampled_lens(num_frames) for num_frames in lens) < x.size(1)
        mask = make_pad_mask(x_lens, x.size(1)) if is_padded else None
        frames, num = self.encoder(x.transpose(0, 1).contiguous(), x_lens, mask)
        return frames.transpose(0, 1).contiguous(), num

    def rank_state(self) -> dict[str, Any]:
        """See ``Encoder``: there is none."""
        return {}

    def load_rank_state(self, state: Mapping[str, Any]) -> None:
        """See ``Encoder``."""


def build(config: ZipformerConfig) -> ZipformerEncoder:
    """Build front end and encoder with fresh weights, in this order."""
    layer1, layer2, layer3 = config.embed_channels
    embed = Conv2dSubsampling(
        config.geometry.mel_bins,
        config.encoder_dim[0],
        layer1_channels=layer1,
        layer2_channels=layer2,
        layer3_channels=layer3,
        dropout=dropout_rate(config),
    )
    return ZipformerEncoder(embed, Zipformer2(config))
