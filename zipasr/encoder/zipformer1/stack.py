"""Layers that run at the same frame rate, down- and upsampling around them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zipasr.encoder.chunk_masks import NO_MASKS, Masks
from zipasr.encoder.zipformer.stack import DownsampledStack, frame_groups
from zipasr.encoder.zipformer1.attention import AttentionMask, RelPositionalEncoding
from zipasr.encoder.zipformer1.config import LayerConfig
from zipasr.encoder.zipformer1.layer import LayerCache, ZipformerEncoderLayer
from zipasr.nn.gradients import penalize_abs_values_gt
from zipasr.nn.schedule import FloatLike, ScheduledFloat

SCORE_LIMIT, SCORE_PENALTY = 10.0, 1.0e-4


class AttentionDownsample(nn.Module):
    """Replace each group of frames by a mean whose weights a learned query gives.

    Args:
        in_channels: C.
        out_channels: at least C; the others come from a linear layer on the whole group.
        factor: number of frames in a group.
    """

    def __init__(self, in_channels: int, out_channels: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.query = nn.Parameter(torch.randn(in_channels) * in_channels**-0.5)
        self.extra_proj: nn.Linear | None = None
        if out_channels > in_channels:
            self.extra_proj = nn.Linear(
                in_channels * factor, out_channels - in_channels, bias=False
            )

    def forward(self, x: Tensor) -> Tensor:
        """Average groups of frames; the last frame is repeated to fill the last group.

        Args:
            x: (T, N, C).

        Returns:
            (ceil(T / factor), N, out_channels).
        """
        groups = frame_groups(x, self.factor)
        scores = (groups * self.query).sum(dim=-1, keepdim=True)
        scores = penalize_abs_values_gt(scores, SCORE_LIMIT, SCORE_PENALTY)
        mean = (groups * scores.softmax(dim=1)).sum(dim=1)
        if self.extra_proj is None:
            return mean
        extra = self.extra_proj(groups.transpose(1, 2).flatten(2))
        return torch.cat([mean, extra], dim=-1)


class BiasedUpsample(nn.Module):
    """Repeat every frame, and add a learned vector to each repetition.

    Args:
        num_channels: C.
        factor: how often each frame appears.
    """

    def __init__(self, num_channels: int, factor: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(0.01 * torch.randn(factor, num_channels))

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """Return (num_frames, N, C) for (T, N, C), cut at the end."""
        repeated = x.unsqueeze(1) + self.bias.unsqueeze(1)
        return repeated.flatten(0, 1)[:num_frames]


class SimpleCombiner(nn.Module):
    """``w a + (1 - w) b`` with one learned number; ``a`` may have fewer channels.

    Args:
        skip_prob: probability that a training call returns ``b`` alone.
    """

    def __init__(self, skip_prob: FloatLike = 0.0) -> None:
        super().__init__()
        self.skip_prob = skip_prob
        self.weight1 = nn.Parameter(torch.tensor(0.0))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Combine (T, N, C of a) and (T, N, C), where C is not smaller."""
        weight: Tensor = self.weight1
        if self.training:
            if random.random() < float(self.skip_prob):
                return b
            if random.random() < 0.25:
                weight = weight.clamp(0.0, 0.75)
        padded = F.pad(a, (0, b.size(-1) - a.size(-1)))
        return padded * weight + b * (1.0 - weight)


#: Probability of leaving a layer out, before and after the layers come into use.
EARLY_DROP, LATE_DROP = 0.5, 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """Batch counts between which the layers of a stack come into use, one after the other."""

    begin: float
    end: float

    def drop_rate(self, index: int, num_layers: int) -> ScheduledFloat:
        """Return how often layer ``index`` is left out; the span is cut into equal parts.

        Within its part the rate falls as if the part were as long as its end is late, so that most
        of the fall is a step at the end: the published models were trained so.
        """
        part = (self.end - self.begin) / num_layers
        begin = self.begin + index * part
        end = begin + part
        before_end = EARLY_DROP - (EARLY_DROP - LATE_DROP) * (end - begin) / end
        # Nothing is dropped before the first batch.
        return ScheduledFloat(
            (0.0, 0.0),
            (1e-6, EARLY_DROP),
            (begin, EARLY_DROP),
            (end, before_end),
            (end + 1e-6, LATE_DROP),
        )


class ZipformerEncoder(nn.Module):
    """Layers of equal size at one frame rate.

    Args:
        config: sizes of each layer.
        num_layers: how many.
        warm_up: when they come into use.
    """

    def __init__(self, config: LayerConfig, num_layers: int, warm_up: WarmUp) -> None:
        super().__init__()
        self.encoder_pos = RelPositionalEncoding(config.encoder_dim, config.dropout)
        self.layers = nn.ModuleList(ZipformerEncoderLayer(config) for _ in range(num_layers))
        self.drop_rates = nn.ModuleList(warm_up.drop_rate(i, num_layers) for i in range(num_layers))
        # All processes of a run build the model from one seed, and so drop equally many layers.
        self.drop_seed = random.randint(0, 999)

    def forward(
        self,
        x: Tensor,
        feature_mask: Tensor | None = None,
        masks: Masks = NO_MASKS,
        memories: Sequence[LayerCache] | None = None,
    ) -> Tensor:
        """Run all layers.

        Args:
            x: (T, N, C).
            feature_mask: (T, N, C) factors on the input and on the output of every layer that
                runs; ``None`` keeps all channels.
            masks: padding and chunks, at the frame rate of the stack.
            memories: of each layer, if ``x`` is one chunk of many.

        Returns:
            (T, N, C).
        """
        pos_emb = self.encoder_pos(x, memories[0].keys.frames.size(0) if memories else 0)
        sight, padding = AttentionMask.through(masks), masks.padding_of_last(x.size(0))
        x = x if feature_mask is None else x * feature_mask
        dropped = self._dropped(x.numel()) if self.training else frozenset()
        for index, layer in enumerate(self.layers):
            if index in dropped:
                continue
            x = layer(x, pos_emb, sight, padding, memories[index] if memories else None)
            x = x if feature_mask is None else x * feature_mask
        return x

    def _dropped(self, num_elements: int) -> frozenset[int]:
        """Draw the layers to leave out: how many is the same in all processes, which ones not."""
        rates = [float(rate) for rate in self.drop_rates]  # type: ignore[arg-type]
        expected = sum(rates)
        shared = random.Random(self._batch_count() + self.drop_seed)
        wanted = int(expected) + (shared.random() < expected - int(expected))
        own = random.Random(num_elements + random.randint(0, 1000))
        order = list(range(len(rates)))
        own.shuffle(order)
        chosen: set[int] = set()
        while len(chosen) < wanted:
            for index in order:
                if len(chosen) < wanted and own.random() < rates[index]:
                    chosen.add(index)
        return frozenset(chosen)

    def _batch_count(self) -> int:
        rate = self.drop_rates[0]
        assert isinstance(rate, ScheduledFloat)
        return int(rate.batch_count or 0)


class DownsampledZipformerEncoder(DownsampledStack):
    """A stack between attention over groups of frames and repeating.

    Args:
        stack: the layers.
        in_channels: C of the input.
        out_channels: C of the layers and of the output, not smaller.
        factor: how many input frames make one frame of the stack.
    """

    def __init__(
        self, stack: ZipformerEncoder, in_channels: int, out_channels: int, factor: int
    ) -> None:
        super().__init__(
            AttentionDownsample(in_channels, out_channels, factor),
            stack,
            BiasedUpsample(out_channels, factor),
            SimpleCombiner(),
        )
