"""Layers that run at the same frame rate, and the way down to that rate and back."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from zipasr.encoder.bypass import BypassModule
from zipasr.encoder.layer import LayerConfig, LayerMemory, Zipformer2EncoderLayer
from zipasr.encoder.masks import NO_MASKS, Masks
from zipasr.encoder.positional import CompactRelPositionalEncoding
from zipasr.encoder.resample import SimpleDownsample, SimpleUpsample
from zipasr.nn.schedule import FloatLike, ScheduledFloat


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSkipSchedule:
    """When the layers of a stack come into full use, one after the other.

    Attributes:
        begin: batch count until which the first layer is skipped half of the time.
        end: batch count from which the last layer is skipped at the final rate.
        final_rate: probability of skipping a layer from then on.
    """

    begin: float
    end: float
    final_rate: float

    def of_layer(self, index: int, num_layers: int) -> ScheduledFloat:
        """Return the skip rate of one layer: the span is cut into equal parts."""
        part = (self.end - self.begin) / num_layers
        begin = self.begin + index * part
        return ScheduledFloat((begin, 0.5), (begin + part, self.final_rate), default=0.0)


class Zipformer2Encoder(nn.Module):
    """Layers of equal size at one frame rate.

    All layers start with the same values, as in the published recipe.

    Args:
        config: sizes of each layer.
        num_layers: how many.
        dropout: rate inside the feed-forward blocks.
        layer_skip: how often layers are skipped in training.
    """

    def __init__(
        self,
        config: LayerConfig,
        num_layers: int,
        dropout: FloatLike,
        layer_skip: LayerSkipSchedule,
    ) -> None:
        super().__init__()
        self.encoder_pos = CompactRelPositionalEncoding(config.pos_dim)
        layer = Zipformer2EncoderLayer(config, dropout)
        layers = [copy.deepcopy(layer) for _ in range(num_layers)]
        for index, copied in enumerate(layers):
            copied.bypass.skip_rate = layer_skip.of_layer(index, num_layers)
        self.layers = nn.ModuleList(layers)

    def forward(
        self,
        x: Tensor,
        feature_mask: Tensor | None = None,
        masks: Masks = NO_MASKS,
        memories: Sequence[LayerMemory] | None = None,
    ) -> Tensor:
        """Run all layers.

        Args:
            x: (T', N, C).
            feature_mask: (1, N, C) ones and zeros, applied to the input of every layer and
                to the result; ``None`` keeps all channels.
            masks: padding and chunks, at the frame rate of the stack.
            memories: of each layer, if ``x`` is one chunk of many.

        Returns:
            (T', N, C).
        """
        pos_emb = self.encoder_pos(x, memories[0].key.frames.size(0) if memories else 0)
        attention, padding = masks.attention(), masks.padding_of_last(x.size(0))
        x = _masked(x, feature_mask)
        for index, layer in enumerate(self.layers):
            memory = memories[index] if memories else None
            x = layer(x, pos_emb, attention, padding, masks.chunk_size, memory)
            x = _masked(x, feature_mask)
        return x


class DownsampledStack(nn.Module):
    """A stack that runs at a lower frame rate than its input and output.

    Args:
        downsample: lowers the frame rate.
        stack: the layers.
        upsample: raises it again, to a given number of frames.
        out_combiner: joins the input and the result.
    """

    def __init__(
        self,
        downsample: nn.Module,
        stack: nn.Module,
        upsample: nn.Module,
        out_combiner: nn.Module,
    ) -> None:
        super().__init__()
        self.downsample = downsample
        self.encoder = stack
        self.upsample = upsample
        self.out_combiner = out_combiner

    def forward(
        self,
        x: Tensor,
        feature_mask: Tensor | None = None,
        masks: Masks = NO_MASKS,
        memories: Sequence[Any] | None = None,
    ) -> Tensor:
        """Run the stack and combine its result with the input.

        Args:
            x: (T', N, C of the input).
            feature_mask: ones and zeros as the stack takes them, or ``None``.
            masks: padding and chunks, at the frame rate of the stack.
            memories: of each layer, if ``x`` is one chunk of many.

        Returns:
            (T', N, C).
        """
        low = self.encoder(self.downsample(x), feature_mask, masks, memories)
        result: Tensor = self.out_combiner(x, self.upsample(low, x.size(0)))
        return result


class DownsampledZipformer2Encoder(DownsampledStack):
    """A stack between averaging and repeating, with a bypass around it.

    Args:
        stack: the layers.
        num_channels: C.
        factor: how many input frames make one frame of the stack.
    """

    def __init__(self, stack: Zipformer2Encoder, num_channels: int, factor: int) -> None:
        super().__init__(
            SimpleDownsample(factor), stack, SimpleUpsample(factor), BypassModule(num_channels)
        )


def _masked(x: Tensor, feature_mask: Tensor | None) -> Tensor:
    return x if feature_mask is None else x * feature_mask
