"""Metadata and file names that sherpa-onnx expects of each encoder.

Names, order and keys are those of published exports: sherpa-onnx makes the first states of a
stream from the sizes, and finds inputs and outputs by their order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from zipasr.encoder.zipformer.streaming import chunk_frames
from zipasr.encoder.zipformer1 import streaming as first
from zipasr.encoder.zipformer1.config import Zipformer1Config
from zipasr.model.build import EncoderConfig
from zipasr.model.config import ModelConfig

#: Channels of the front end's state as sherpa-onnx makes it, whatever the model has.
CLIENT_CHANNELS = 128

_LAYER_STATES = (
    "cached_key",
    "cached_nonlin_attn",
    "cached_val1",
    "cached_val2",
    "cached_conv1",
    "cached_conv2",
)
_FIRST_STATES = (
    "cached_len",
    "cached_avg",
    "cached_key",
    "cached_val",
    "cached_val2",
    "cached_conv1",
    "cached_conv2",
)


def is_streaming(config: EncoderConfig) -> bool:
    """Say whether files work on speech as it comes; the first Zipformer always does if causal."""
    if isinstance(config, Zipformer1Config):
        return config.causal
    return config.causal and config.chunk_size[0] > 0


def chunks_name(config: EncoderConfig) -> str:
    """Return the part of the names of streaming files that says how speech is cut, if it is."""
    if not is_streaming(config):
        return ""
    if isinstance(config, Zipformer1Config):
        return f"-chunk-{config.chunks.size}-left-{config.chunks.left_frames}"
    return f"-chunk-{config.chunk_size[0]}-left-{config.left_context_frames[0]}"


def model_type(config: EncoderConfig) -> str:
    """Return what clients call the encoder."""
    return "zipformer" if isinstance(config, Zipformer1Config) else "zipformer2"


def streams_ctc(config: EncoderConfig) -> bool:
    """Say whether sherpa-onnx runs the streaming CTC file of an encoder: of the second alone."""
    return not isinstance(config, Zipformer1Config)


def is_too_wide(config: EncoderConfig) -> bool:
    """Say whether sherpa-onnx makes too small a state for the front end of a streaming model."""
    return (
        is_streaming(config)
        and not isinstance(config, Zipformer1Config)
        and config.embed_channels[2] > CLIENT_CHANNELS
    )


def client_limits(config: EncoderConfig, heads: ModelConfig) -> list[str]:
    """Return what sherpa-onnx will not do with the files of a model, for the user."""
    lines = []
    if heads.use_attention_decoder:
        lines += ["the attention decoder is in pretrained.pt alone: no client runs it."]
    if is_streaming(config) and heads.use_ctc and not streams_ctc(config):
        lines += [
            "sherpa-onnx does not stream the CTC head of the first Zipformer: that file is for "
            "onnxruntime."
        ]
    if is_too_wide(config):
        assert not isinstance(config, Zipformer1Config)
        lines += [
            f"sherpa-onnx streams front ends of at most {CLIENT_CHANNELS} channels, this one has "
            f"{config.embed_channels[2]}: the files are for onnxruntime. For sherpa-onnx, train "
            f"with --embed-channels 8,32,{CLIENT_CHANNELS}."
        ]
    return lines


def state_names(config: EncoderConfig) -> list[str]:
    """Return the names of the states, in the order of ``ChunkEncoder.to_list``."""
    if isinstance(config, Zipformer1Config):
        return [f"{kind}_{stack}" for kind in _FIRST_STATES for stack in range(config.num_stacks)]
    num_layers = sum(config.per_stack("num_encoder_layers"))
    layers = [f"{name}_{i}" for i in range(num_layers) for name in _LAYER_STATES]
    return [*layers, "embed_states", "processed_lens"]


def to_file(states: Sequence[Tensor], config: EncoderConfig) -> list[Tensor]:
    """Return the states as clients give them: all counts have 64 bits.

    The front end's state is filled with zeros up to the channels that sherpa-onnx gives it.
    """
    counts64 = [t if t.is_floating_point() else t.to(torch.int64) for t in states]
    if isinstance(config, Zipformer1Config):
        return counts64
    *layers, embed, processed = counts64
    missing = max(0, CLIENT_CHANNELS - embed.size(1))
    return [*layers, F.pad(embed, (0, 0, 0, 0, 0, missing)), processed]


def from_file(states: Sequence[Tensor], config: EncoderConfig) -> list[Tensor]:
    """Return the states of the model; undoes ``to_file``."""
    if isinstance(config, Zipformer1Config):
        return list(states)
    *layers, embed, processed = states
    return [*layers, embed[:, : config.embed_channels[2]], processed]


def streaming_metadata(config: EncoderConfig) -> dict[str, str]:
    """Return what a client needs to make the states; lists have one value for each stack."""
    if isinstance(config, Zipformer1Config):
        return _metadata_of_first(config)
    (size,), (left,) = config.chunk_size, config.left_context_frames
    left = max(1, left // size) * size
    return _texts(
        chunk=(2 * size, chunk_frames(size)),
        num_encoder_layers=config.per_stack("num_encoder_layers"),
        encoder_dims=config.per_stack("encoder_dim"),
        cnn_module_kernels=config.per_stack("cnn_module_kernel"),
        left_context_len=tuple(left // factor for factor in config.downsampling_factor),
        query_head_dims=config.per_stack("query_head_dim"),
        value_head_dims=config.per_stack("value_head_dim"),
        num_heads=config.per_stack("num_heads"),
    )


def _metadata_of_first(config: Zipformer1Config) -> dict[str, str]:
    left = config.chunks.left_frames
    return _texts(
        chunk=(config.decode_chunk_len, first.chunk_frames(config)),
        num_encoder_layers=config.num_encoder_layers,
        encoder_dims=config.encoder_dims,
        attention_dims=config.attention_dims,
        cnn_module_kernels=config.cnn_module_kernels,
        left_context_len=tuple(left // f for f in config.zipformer_downsampling_factors),
    )


def _texts(chunk: tuple[int, int], **lists: Sequence[int]) -> dict[str, str]:
    step, frames = chunk
    numbers = {"decode_chunk_len": str(step), "T": str(frames)}
    return numbers | {name: ",".join(map(str, values)) for name, values in lists.items()}
