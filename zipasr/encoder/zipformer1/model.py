"""The first Zipformer: features at 10 ms in, encoder frames at 40 ms out."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zipasr.encoder.chunk_masks import Masks, chunk_mask, halved_lens, subsampled_lens
from zipasr.encoder.chunks import WHOLE, Chunks
from zipasr.encoder.zipformer1.config import Zipformer1Config
from zipasr.encoder.zipformer1.layer import LayerCache
from zipasr.encoder.zipformer1.scaling import ActivationBalancer, DoubleSwish
from zipasr.encoder.zipformer1.stack import (
    AttentionDownsample,
    DownsampledZipformerEncoder,
    SimpleCombiner,
    WarmUp,
    ZipformerEncoder,
)
from zipasr.nn.layers import scaled_linear
from zipasr.nn.masks import make_pad_mask
from zipasr.nn.schedule import ScheduledFloat

#: Output channels of the three convolutions.
CHANNELS = (8, 32, 128)


class Conv2dSubsampling(nn.Module):
    """Three convolutions over time and frequency, and a linear layer.

    Args:
        in_channels: mel bins, at least 7.
        out_channels: C of the result.
        dropout: rate in training.
    """

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        first, second, third = CHANNELS
        self.conv = nn.Sequential(
            nn.Conv2d(1, first, kernel_size=3, padding=(0, 1)),
            ActivationBalancer(channel_dim=1),
            DoubleSwish(),
            nn.Conv2d(first, second, kernel_size=3, stride=2),
            ActivationBalancer(channel_dim=1),
            DoubleSwish(),
            nn.Conv2d(second, third, kernel_size=3, stride=(1, 2)),
            ActivationBalancer(channel_dim=1),
            DoubleSwish(),
        )
        bins = ((in_channels - 1) // 2 - 1) // 2
        self.out = scaled_linear(third * bins, out_channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, (T - 7) // 2, C) for features (N, T, F); T is at least 9."""
        pictures = self.conv(x.unsqueeze(1))
        result: Tensor = self.dropout(self.out(pictures.transpose(1, 2).flatten(2)))
        return result


#: Batch count at which all layers are in use.
WARMUP_BATCHES = 4000.0

#: Number of frames at 20 ms that make one output frame.
OUTPUT_FACTOR = 2

#: Probability that a stretch of frames must do without its maskable channels.
FEATURE_MASK_PROB = 0.15

#: Chunks of more than this share of an utterance are made the whole utterance.
SHORT_CHUNK_SHARE = 0.75


class Zipformer(nn.Module):
    """Front end and stacks of layers at several frame rates.

    Args:
        config: shape.

    Source: the public recipe pruned_transducer_stateless7 (and _streaming).
    """

    def __init__(self, config: Zipformer1Config) -> None:
        super().__init__()
        self.config = config
        self.encoder_embed = Conv2dSubsampling(
            config.geometry.mel_bins, config.encoder_dims[0], config.dropout
        )
        self.encoders = nn.ModuleList(_build_stack(config, i) for i in range(config.num_stacks))
        # One entry for each stack, so that the keys have its number.
        self.skip_modules = nn.ModuleList(
            nn.Identity() if config.skip_partner(i) is None else _skip_combiner()
            for i in range(config.num_stacks)
        )
        self.downsample_output = AttentionDownsample(
            config.output_dim, config.output_dim, OUTPUT_FACTOR
        )

    def forward(self, x: Tensor, x_lens: Tensor) -> tuple[Tensor, Tensor]:
        """Encode whole utterances; a causal model sees them in chunks.

        In training the chunks of a causal model are drawn for each call.

        Args:
            x: (N, T, 80) log-mel energies.
            x_lens: (N,) number of valid frames, at least 9.

        Returns:
            (N, T', C) with T' = ((T - 7) // 2 + 1) // 2, and (N,) the valid lengths; frames
            beyond them hold no information.
        """
        embedded = self.encoder_embed(x).transpose(0, 1)
        lens = subsampled_lens(x_lens)
        num_frames = embedded.size(0)
        chunks = self._chunks(num_frames) if self.config.causal else WHOLE
        padding = make_pad_mask(lens, num_frames)
        masks = Masks(padding, chunk_mask(num_frames, chunks, x.device), chunks.size)
        frames = self.run(embedded, masks)
        return frames.transpose(0, 1), halved_lens(lens)

    def run(
        self, x: Tensor, masks: Masks, memories: Sequence[Sequence[LayerCache]] | None = None
    ) -> Tensor:
        """Run what follows the front end.

        Args:
            x: (T1, N, C of the first stack).
            masks: padding and chunks, at 20 ms.
            memories: of each layer of each stack, if ``x`` is one chunk of many.

        Returns:
            (ceil(T1 / 2), N, C of the last stack).
        """
        feature_masks = self._feature_masks(x)
        outputs: list[Tensor] = []
        for index, stack in enumerate(self.encoders):
            partner = self.config.skip_partner(index)
            if partner is not None:
                x = self.skip_modules[index](outputs[partner], x)
            factor = self.config.zipformer_downsampling_factors[index]
            x = stack(
                x, feature_masks[index], masks.every(factor), memories[index] if memories else None
            )
            outputs.append(x)
        frames: Tensor = self.downsample_output(x)
        return frames

    def layers_of(self, stack: int) -> nn.ModuleList:
        """Return the layers of one stack."""
        module = self.encoders[stack]
        inner = module.encoder if isinstance(module, DownsampledZipformerEncoder) else module
        assert isinstance(inner, ZipformerEncoder)
        return inner.layers

    def _chunks(self, num_frames: int) -> Chunks:
        """Draw chunks in training; return those of decoding otherwise."""
        config = self.config
        if not self.training:
            return config.chunks
        slowest = max(config.zipformer_downsampling_factors)
        length = num_frames // slowest
        drawn = random.randint(1, max(1, length - 1))
        if drawn > SHORT_CHUNK_SHARE * length:
            return WHOLE
        size = (drawn % (config.short_chunk_size // slowest) + 1) * slowest
        return Chunks(size, config.num_left_chunks)

    def _feature_masks(self, x: Tensor) -> list[Tensor | None]:
        """Draw, in training, which stretches of time must do without the maskable channels.

        A stretch is a frame of the slowest stack, the same piece of time in all stacks.

        Returns:
            For each stack (T of the stack, N, C) ones and zeros, or ``None``.
        """
        config = self.config
        factors = config.zipformer_downsampling_factors
        if not self.training:
            return [None] * len(factors)
        slowest = max(factors)
        num_stretches = -(-x.size(0) // slowest)
        drawn = torch.rand(num_stretches, x.size(1), 1, device=x.device)
        keep = (drawn > FEATURE_MASK_PROB).to(x.dtype)
        masks: list[Tensor | None] = []
        for factor, dim, unmasked in zip(
            factors, config.encoder_dims, config.encoder_unmasked_dims, strict=True
        ):
            repeated = keep.repeat_interleave(slowest // factor, dim=0)[: -(-x.size(0) // factor)]
            always = torch.ones_like(repeated).expand(-1, -1, unmasked)
            masks.append(torch.cat([always, repeated.expand(-1, -1, dim - unmasked)], dim=-1))
        return masks


def _skip_combiner() -> SimpleCombiner:
    return SimpleCombiner(ScheduledFloat((0.0, 0.5), (4000.0, 0.025)))


def _build_stack(config: Zipformer1Config, index: int) -> nn.Module:
    # The stacks come into use one after the other; the first share of warm-up is free.
    share = WARMUP_BATCHES / (config.num_stacks + 1)
    stack = ZipformerEncoder(
        config.layer_config(index),
        config.num_encoder_layers[index],
        WarmUp(begin=share * (index + 1), end=share * (index + 2)),
    )
    factor = config.zipformer_downsampling_factors[index]
    if factor == 1:
        return stack
    dims = config.encoder_dims
    return DownsampledZipformerEncoder(stack, dims[max(0, index - 1)], dims[index], factor)
