"""Speech as it comes: the states of streams, and one step of the first Zipformer.

The states of N streams are a flat list, as published exports use it: seven kinds, each with one
tensor for each stack.

============ ===================== ==================================================
name         shape                 content
============ ===================== ==================================================
cached_len   (layers, N) int64     frames averaged so far, at the rate of the stack
cached_avg   (layers, N, C)        their mean
cached_key   (layers, L, N, A)     keys
cached_val   (layers, L, N, A / 2) values of the first use
cached_val2  (layers, L, N, A / 2) values of the second use
cached_conv1 (layers, N, C, K - 1) gated frames before the first convolution
cached_conv2 (layers, N, C, K - 1) gated frames before the second one
============ ===================== ==================================================

L is the left context at the frame rate of the stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zipasr.encoder.chunk_masks import Masks, halved_lens, subsampled_lens
from zipasr.encoder.protocol import ChunkSize
from zipasr.encoder.zipformer1.config import Zipformer1Config
from zipasr.encoder.zipformer1.layer import LayerCache, MeanCache
from zipasr.encoder.zipformer1.model import Zipformer
from zipasr.nn.layers import Cache
from zipasr.nn.numerics import is_traced

#: Kinds of tensors in a state.
NUM_KINDS = 7

#: The dimension of each kind along which streams stand side by side.
BATCH_DIMS = (1, 1, 2, 2, 2, 1, 1)

NOT_CAUSAL = "the model is not causal: train one with --causal 1 to stream"


def chunk_frames(config: Zipformer1Config) -> int:
    """Return how many feature frames a chunk is made of; the next begins a look-ahead earlier."""
    return config.decode_chunk_len + config.geometry.look_ahead


def initial_states(
    config: Zipformer1Config, batch_size: int = 1, device: torch.device | str = "cpu"
) -> list[Tensor]:
    """Return the states of streams of which nothing has been heard: zeros.

    Raises:
        ValueError: the model is not causal.
    """
    if not config.causal:
        raise ValueError(NOT_CAUSAL)
    kinds: list[list[Tensor]] = [[] for _ in range(NUM_KINDS)]
    for stack in range(config.num_stacks):
        layers = config.num_encoder_layers[stack]
        factor = config.zipformer_downsampling_factors[stack]
        left = config.chunks.left_frames // factor
        dim, attention = config.encoder_dims[stack], config.attention_dims[stack]
        past = config.cnn_module_kernels[stack] - 1
        shapes = [
            (layers, batch_size),
            (layers, batch_size, dim),
            (layers, left, batch_size, attention),
            (layers, left, batch_size, attention // 2),
            (layers, left, batch_size, attention // 2),
            (layers, batch_size, dim, past),
            (layers, batch_size, dim, past),
        ]
        for kind, shape in enumerate(shapes):
            dtype = torch.int64 if kind == 0 else torch.float32
            kinds[kind].append(torch.zeros(shape, dtype=dtype, device=device))
    return [tensor for kind in kinds for tensor in kind]


def encode_chunk(
    encoder: Zipformer,
    features: Tensor,
    feature_lens: Tensor,
    states: Sequence[Tensor],
    mask_unfilled_cache: bool = False,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Encode the next chunk of each stream.

    Args:
        encoder: causal, in evaluation mode.
        features: (N, ``chunk_frames``, 80); what is missing at the end of a stream is filled with
            the log of a tiny energy, -23.0259.
        feature_lens: (N,) number of valid frames.
        states: of the streams before the chunk; left as they are.
        mask_unfilled_cache: keep attention away from the part of the left context that lies before
            a stream began. Published figures were made without; with it chunks give what the whole
            utterance gives.

    Returns:
        (N, T', C); (N,) valid lengths; the states after the chunk.

    Raises:
        ValueError: chunk or states do not fit, or the model is in training mode.
    """
    config = encoder.config
    _check(encoder, features, states)
    memories = [_memories(states, stack, config) for stack in range(config.num_stacks)]
    x = encoder.encoder_embed(features).transpose(0, 1)
    padding = None
    if mask_unfilled_cache:
        num_heard = states[0][0] * config.zipformer_downsampling_factors[0]
        padding = _unfilled(num_heard, config.chunks.left_frames, x.size(0))
    frames = encoder.run(x, Masks(padding), memories)
    lens = halved_lens(subsampled_lens(feature_lens).clamp(min=0))
    return frames.transpose(0, 1), lens, _states(memories)


def _check(encoder: Zipformer, features: Tensor, states: Sequence[Tensor]) -> None:
    if encoder.training:
        raise ValueError("a model in training mode leaves frames out at random: call eval()")
    if is_traced():
        # The number of streams is not known when an exported model is made.
        return
    config = encoder.config
    expected = [tuple(t.shape) for t in initial_states(config, features.size(0), "meta")]
    if [tuple(state.shape) for state in states] != expected:
        raise ValueError(
            f"the states do not fit a batch of {features.size(0)} streams of this model: begin "
            "with those of initial_states"
        )
    if features.size(1) != chunk_frames(config):
        raise ValueError(
            f"a chunk has {chunk_frames(config)} feature frames, got {features.size(1)}"
        )


def _unfilled(num_heard: Tensor, left_frames: int, num_new: int) -> Tensor:
    """Return (N, left + new), True where a remembered frame lies before the stream began."""
    age = torch.arange(left_frames + num_new - 1, -1, -1, device=num_heard.device) - num_new
    return age >= num_heard[:, None]


def _memories(states: Sequence[Tensor], stack: int, config: Zipformer1Config) -> list[LayerCache]:
    """Read the states of the layers of one stack."""
    kinds = [states[kind * config.num_stacks + stack] for kind in range(NUM_KINDS)]
    return [
        LayerCache(
            pooled=MeanCache(count, mean),
            keys=Cache(key),
            values=Cache(value),
            values2=Cache(value2),
            conv1=Cache(conv1.permute(2, 0, 1)),
            conv2=Cache(conv2.permute(2, 0, 1)),
        )
        for count, mean, key, value, value2, conv1, conv2 in zip(*kinds, strict=True)
    ]


def _states(memories: Sequence[Sequence[LayerCache]]) -> list[Tensor]:
    """Return the flat list of what all layers remember."""
    kinds = [
        [[m.pooled.count for m in layers] for layers in memories],
        [[m.pooled.mean for m in layers] for layers in memories],
        [[m.keys.frames for m in layers] for layers in memories],
        [[m.values.frames for m in layers] for layers in memories],
        [[m.values2.frames for m in layers] for layers in memories],
        [[m.conv1.frames.permute(1, 2, 0) for m in layers] for layers in memories],
        [[m.conv2.frames.permute(1, 2, 0) for m in layers] for layers in memories],
    ]
    return [torch.stack(layers) for kind in kinds for layers in kind]


@dataclass(frozen=True, slots=True)
class Zipformer1Chunks:
    """A ``ChunkEncoder`` of the first Zipformer; its configuration says what attention sees."""

    encoder: Zipformer

    def size(self) -> ChunkSize:
        """See ``ChunkEncoder``."""
        config = self.encoder.config
        if not config.causal:
            raise ValueError(NOT_CAUSAL)
        return ChunkSize(chunk_frames(config), config.decode_chunk_len, config.geometry)

    def start(self, batch_size: int, device: torch.device | str) -> list[Tensor]:
        """See ``ChunkEncoder``."""
        return initial_states(self.encoder.config, batch_size, device)

    def advance(
        self, features: Tensor, feature_lens: Tensor, state: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """See ``ChunkEncoder``."""
        masked = self.encoder.config.mask_unfilled_cache
        return encode_chunk(self.encoder, features, feature_lens, state, masked)

    def batch_dims(self) -> Sequence[int]:
        """See ``ChunkEncoder``."""
        return [dim for dim in BATCH_DIMS for _ in range(self.encoder.config.num_stacks)]
