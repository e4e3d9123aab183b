"""Front end and Zipformer prepared for recognition on a CPU; see ``prepared_layer``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zipasr.encoder.chunk_masks import (
    Masks,
    chunk_mask,
    halved_lens,
    not_yet_heard,
    subsampled_lens,
)
from zipasr.encoder.chunks import WHOLE, choose_chunks
from zipasr.encoder.zipformer.front_end import Conv2dSubsampling
from zipasr.encoder.zipformer.layer import NUM_STATES, LayerCache, from_cache, to_cache
from zipasr.encoder.zipformer.model import Zipformer2
from zipasr.encoder.zipformer.prepared_layer import (
    Call,
    Linear,
    PreparedLayer,
    PreparedNorm,
    folded,
    linear,
    tilted_softplus,
)
from zipasr.encoder.zipformer.stack import (
    DownsampledZipformer2Encoder,
    SimpleDownsample,
    Zipformer2Encoder,
    fit_channels,
    frame_groups,
    widest_output,
)
from zipasr.encoder.zipformer.streaming import check_chunk
from zipasr.nn.masks import make_pad_mask
from zipasr.nn.numerics import row_blocks


class PreparedZipformer:
    """The function of front end and Zipformer with their weights as they are now.

    Args:
        embed: the front end.
        encoder: in evaluation mode, on the CPU.
        dtype: of matrix products, float32 or bfloat16; all else is float32.
    """

    def __init__(
        self, embed: Conv2dSubsampling, encoder: Zipformer2, dtype: torch.dtype = torch.float32
    ) -> None:
        self._config = encoder
        self._front_end = _FrontEnd(embed, dtype)
        self._stacks = [_Stack(stack, dtype) for stack in encoder.encoders]
        self._last = _Downsample(encoder.downsample_output)

    @torch.inference_mode()
    def encode(
        self, features: Tensor, feature_lens: Tensor, lens: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Encode whole utterances as the modules do; see ``Encoder.__call__``."""
        x = self._front_end(features)
        x_lens, config = subsampled_lens(feature_lens), self._config
        is_padded = min(map(subsampled_lens, lens)) < x.size(1)
        chunks = WHOLE
        if config.causal:
            chunks = choose_chunks(config.chunk_size, config.left_context_frames)
        padding = make_pad_mask(x_lens, x.size(1)) if is_padded else None
        masks = Masks(padding, chunk_mask(x.size(1), chunks, x.device), chunks.size)
        return self._encoded(x, masks, None), halved_lens(x_lens)

    @torch.inference_mode()
    def advance(
        self, features: Tensor, feature_lens: Tensor, state: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Encode the next chunk of each stream as the modules do; see ``ChunkEncoder.advance``."""
        config = self._config
        chunks = config.streaming_chunks()
        *layers, left_pad, processed = state
        check_chunk(features, feature_lens, chunks.size, processed.numel())
        context = left_pad.size(2)
        x, left_pad = self._front_end.advance(features, left_pad)
        x_lens = (subsampled_lens(feature_lens) - context).clamp(min=0, max=x.size(1))
        fresh = not_yet_heard(processed, chunks.left_frames)
        mask = torch.cat([fresh, make_pad_mask(x_lens, x.size(1))], dim=1)
        memories = [to_cache(layers[i : i + NUM_STATES]) for i in range(0, len(layers), NUM_STATES)]
        frames = self._encoded(x, Masks(mask if bool(mask.any()) else None), memories)
        layers = [tensor for memory in memories for tensor in from_cache(memory)]
        processed = processed + x_lens.to(torch.int32)
        return frames, halved_lens(x_lens), [*layers, left_pad, processed]

    def _encoded(self, x: Tensor, masks: Masks, memories: list[LayerCache] | None) -> Tensor:
        """Run the stacks on (N, T1, C); return (N, T', C)."""
        streams, frames = x.shape[:2]
        rows, outputs = x.transpose(0, 1).reshape(streams * frames, -1), []
        left = iter(memories or ())
        for stack in self._stacks:
            rows = fit_channels(rows, stack.channels)
            past = [next(left) for _ in stack.layers] if memories else None
            rows = stack(rows, frames, streams, masks.every(stack.factor), past)
            outputs.append(rows)
        joined = self._last(widest_output(outputs), streams)
        return joined.view(-1, streams, joined.size(1)).transpose(0, 1).contiguous()


class _Downsample:
    def __init__(self, module: SimpleDownsample) -> None:
        self.factor = module.factor
        self.weights = [float(weight) for weight in module.bias.detach().softmax(dim=0)]

    def __call__(self, rows: Tensor, streams: int) -> Tensor:
        """Average groups of moments: (T N, C) to (ceil(T / factor) N, C)."""
        groups = frame_groups(rows.view(-1, streams, rows.size(1)), self.factor)
        total = groups[:, 0] * self.weights[0]
        for place, weight in enumerate(self.weights[1:], start=1):
            total.add_(groups[:, place], alpha=weight)
        return total.view(-1, rows.size(1))


class _Stack:
    """Layers at one frame rate, with what lowers and raises it."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        self.downsample: _Downsample | None = None
        inner = module
        if isinstance(module, DownsampledZipformer2Encoder):
            inner = module.encoder
            assert isinstance(module.downsample, SimpleDownsample)
            self.downsample = _Downsample(module.downsample)
            self.combine = module.get_parameter("out_combiner.bypass_scale").detach()
        assert isinstance(inner, Zipformer2Encoder)
        self.factor = 1 if self.downsample is None else self.downsample.factor
        self.layers = [PreparedLayer(layer, dtype) for layer in inner.layers]  # type: ignore[arg-type]
        self.channels = len(self.layers[0].end)

    def __call__(
        self,
        rows: Tensor,
        frames: int,
        streams: int,
        masks: Masks,
        past: Sequence[LayerCache] | None,
    ) -> Tensor:
        """Map (T1 N, C) to the same shape."""
        x = rows if self.downsample is None else self.downsample(rows, streams)
        low = x.size(0) // streams
        padding = masks.padding_of_last(low)
        call = Call(low, streams, masks.attention(), padding, masks.chunk_size)
        for place, layer in enumerate(self.layers):
            x = layer(x, call, past[place] if past else None)
        if self.downsample is None:
            return x
        repeated = x.view(low, 1, streams, -1).expand(-1, self.factor, -1, -1)
        high = repeated.reshape(-1, x.size(1))[: frames * streams]
        return torch.lerp(rows, high, self.combine)


class _Convolution:
    """A convolution of pictures, with a swoosh behind it but for its constant."""

    def __init__(self, layer: Linear, conv: nn.Conv2d) -> None:
        self.layer, self.stride, self.padding = layer, conv.stride, conv.padding

    def __call__(self, x: Tensor) -> Tensor:
        """Map (N, C, T, F) to (N, T', F', C'), contiguous."""
        weight, bias = self.layer
        if weight.dtype == torch.float32:
            y = F.conv2d(x, weight, bias, self.stride, self.padding)
        else:
            y = F.conv2d(x.to(weight.dtype), weight, None, self.stride, self.padding)
            y = y + bias[:, None, None]
        y = y.permute(0, 2, 3, 1).contiguous()
        tilted_softplus(y.view(-1, y.size(3)))
        return y


def _kernel(conv: nn.Conv2d, dtype: torch.dtype) -> Linear:
    assert conv.bias is not None
    return Linear(conv.weight.detach().to(dtype), conv.bias.detach())


class _FrontEnd:
    """``Conv2dSubsampling``; pictures are (N, T, F, C) where nothing else is said."""

    def __init__(self, embed: Conv2dSubsampling, dtype: torch.dtype) -> None:
        modules = [embed.conv[index] for index in (0, 4, 7)]
        convolutions = [module for module in modules if isinstance(module, nn.Conv2d)]
        first, second, third = (
            _kernel(conv, kind)
            for conv, kind in zip(convolutions, (torch.float32, dtype, dtype), strict=True)
        )
        # Only the first of them pads: the constants before the others can be in their biases.
        first, second = folded(first, second, "SwooshR")
        second, third = folded(second, third, "SwooshR")
        # What comes next pads, too: the last constant is added by itself.
        third, identity = folded(third, Linear(torch.ones(1, 1), torch.zeros(1)), "SwooshR")
        self.constant = float(identity.bias)
        self.convolutions = [
            _Convolution(kernel, conv)
            for kernel, conv in zip((first, second, third), convolutions, strict=True)
        ]
        block = embed.convnext
        self.depthwise = _kernel(block.depthwise_conv, torch.float32)
        self.context = block.depthwise_conv.kernel_size[0] // 2
        wide, narrow = (
            kernel._replace(weight=kernel.weight.flatten(1))
            for kernel in (
                _kernel(block.pointwise_conv1, dtype),
                _kernel(block.pointwise_conv2, dtype),
            )
        )
        self.pointwise = folded(wide, narrow, "SwooshL")
        out = linear(embed.out, dtype)
        # The weights are stored channel-major.
        by_channel = out.weight.view(len(out.weight), len(self.depthwise.weight), -1)
        self.out = out._replace(weight=by_channel.transpose(1, 2).flatten(1))
        self.norm = PreparedNorm(embed.out_norm)

    def __call__(self, features: Tensor) -> Tensor:
        """Map (N, T, mel bins) to (N, T1, C)."""
        x = self._pictures(features)
        self._add_branch(x, self._depthwise(x, self.context))
        return self._projected(x)

    def advance(self, features: Tensor, left_pad: Tensor) -> tuple[Tensor, Tensor]:
        """Do the same with a chunk of streams, of which the last frames are only looked at."""
        x = torch.cat([left_pad.permute(0, 2, 3, 1), self._pictures(features)], dim=1)
        branch = self._depthwise(x, 0)
        num = branch.size(1)
        # Copies, of one stream too: the branch is added in place.
        after = x[:, num : num + self.context].permute(0, 3, 1, 2).clone()
        x = x[:, self.context : self.context + num].clone()
        self._add_branch(x, branch)
        return self._projected(x), after

    def _pictures(self, features: Tensor) -> Tensor:
        x = features.unsqueeze(-1)
        for convolution in self.convolutions:
            x = convolution(x.permute(0, 3, 1, 2))
        return x.add_(self.constant)

    def _depthwise(self, x: Tensor, padding: int) -> Tensor:
        weight, bias = self.depthwise
        y = F.conv2d(
            x.permute(0, 3, 1, 2), weight, bias, padding=(padding, self.context), groups=x.size(3)
        )
        return y.permute(0, 2, 3, 1).contiguous()

    def _add_branch(self, x: Tensor, branch: Tensor) -> None:
        first, second = self.pointwise
        rows, added = branch.view(-1, branch.size(3)), x.view(-1, x.size(3))
        for block in row_blocks(len(rows), 12 * rows.size(1), rows.device):
            added[block] += second(tilted_softplus(first(rows[block])))

    def _projected(self, x: Tensor) -> Tensor:
        return self.norm(self.out(x.flatten(2)))
