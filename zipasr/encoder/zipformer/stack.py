"""Layers that run at the same frame rate, down- and upsampling around them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zipasr.encoder.chunk_masks import NO_MASKS, Masks
from zipasr.encoder.zipformer.attention import CompactRelPositionalEncoding
from zipasr.encoder.zipformer.config import LayerConfig
from zipasr.encoder.zipformer.layer import (
    BypassModule,
    LayerCache,
    Zipformer2EncoderLayer,
)
from zipasr.nn.numerics import is_traced
from zipasr.nn.schedule import FloatLike, ScheduledFloat


def frame_groups(x: Tensor, factor: int) -> Tensor:
    """Cut (T, N, C) into (ceil(T / factor), factor, N, C), filled up with the last frame."""
    missing = -x.size(0) % factor
    if is_traced():
        # How many are missing is not known when an exported model is made.
        longest = torch.cat([x, x[-1:].expand(factor - 1, -1, -1)])
        x = longest[: x.size(0) + missing]
    elif missing:
        x = torch.cat([x, x[-1:].expand(missing, -1, -1)])
    return x.reshape(-1, factor, x.size(1), x.size(2))


class SimpleDownsample(nn.Module):
    """Replace each group of frames by their weighted mean, with learned weights.

    The weights are the same for all channels, and equal at the start.

    Args:
        factor: number of frames in a group.
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.bias = nn.Parameter(torch.zeros(factor))

    def forward(self, x: Tensor) -> Tensor:
        """Average groups of frames; the last frame is repeated to fill the last group.

        Args:
            x: (T, N, C).

        Returns:
            (ceil(T / factor), N, C).
        """
        groups = frame_groups(x, self.factor)
        weights = self.bias.softmax(dim=0).to(x.dtype)
        return (groups * weights[:, None, None]).sum(dim=1)


class SimpleUpsample(nn.Module):
    """Repeat every frame; no parameters.

    Args:
        factor: how often each frame appears.
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """Repeat frames and cut.

        Args:
            x: (T, N, C).
            num_frames: length of the result, at most ``T * factor``.

        Returns:
            (num_frames, N, C).
        """
        repeated = x.unsqueeze(1).expand(-1, self.factor, -1, -1)
        return repeated.flatten(0, 1)[:num_frames]


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
        memories: Sequence[LayerCache] | None = None,
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


def fit_channels(x: Tensor, num_channels: int) -> Tensor:
    """Cut channels off, or append zeros, so that ``x`` has ``num_channels`` of them."""
    if x.size(-1) >= num_channels:
        return x[..., :num_channels]
    return nn.functional.pad(x, (0, num_channels - x.size(-1)))


def widest_output(outputs: Sequence[Tensor]) -> Tensor:
    """Take each channel from the latest stack that has it.

    Args:
        outputs: (T1, N, C of the stack) for each stack.

    Returns:
        (T1, N, largest C).
    """
    parts = [outputs[-1]]
    width = outputs[-1].size(-1)
    for output in reversed(outputs[:-1]):
        if output.size(-1) > width:
            parts.append(output[..., width:])
            width = output.size(-1)
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
