"""Configuration of a first Zipformer from the names and shapes of its weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from zipasr.encoder.inference import WeightShapes
from zipasr.encoder.protocol import Flags
from zipasr.encoder.zipformer1.config import POS_HEAD_DIM, Zipformer1Config


def infer(shapes: WeightShapes, hints: Flags) -> tuple[Zipformer1Config, list[str]]:
    """Read the sizes of the first Zipformer; its streaming version has the same weights."""
    stacks = [_stack(shapes, i) for i in range(shapes.count("encoder.encoders."))]
    sizes: dict[str, Any] = {name: tuple(stack[name] for stack in stacks) for name in stacks[0]}
    found = Zipformer1Config(**sizes, encoder_unmasked_dims=sizes["encoder_dims"])
    traceless = {name: hints[name] for name in found.not_inferable if name in hints}
    guesses = []
    published = Zipformer1Config()
    if "encoder_unmasked_dims" not in traceless and found.encoder_dims == published.encoder_dims:
        traceless["encoder_unmasked_dims"] = published.encoder_unmasked_dims
    if "causal" not in traceless and traceless.keys() & {*found.free_when_decoding}:
        traceless["causal"] = True  # only the streaming recipe has these flags
    if "causal" not in traceless:
        guesses.append(
            "the weights do not tell whether the model is a streaming one: taken as --causal 0"
        )
    return replace(found, **traceless), guesses


def _stack(shapes: WeightShapes, index: int) -> dict[str, int]:
    start, layers = f"encoder.encoders.{index}.", shapes.layers_of(index)
    layer = f"{layers}0."
    is_slower = shapes.has(f"{start}downsample.")
    position = shapes.size(f"{layer}self_attn.linear_pos.weight", 0)
    in_proj = shapes.size(f"{layer}self_attn.in_proj.weight", 0)
    return {
        "zipformer_downsampling_factors": (
            shapes.size(f"{start}upsample.bias", 0) if is_slower else 1
        ),
        "num_encoder_layers": shapes.count(layers),
        "encoder_dims": shapes.size(f"{layer}self_attn.in_proj.weight", 1),
        "feedforward_dims": shapes.size(f"{layer}feed_forward1.in_proj.weight", 0),
        "cnn_module_kernels": shapes.size(f"{layer}conv_module1.depthwise_conv.weight", 2),
        "nhead": position // POS_HEAD_DIM,
        # Queries, keys, half as many values, and the queries for positions.
        "attention_dims": (in_proj - position) * 2 // 5,
    }
