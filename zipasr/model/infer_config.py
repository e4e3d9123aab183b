"""Model configuration inferred from the names and shapes of weights."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from typing import Any, NamedTuple

from torch import Tensor

from zipasr.base.errors import CheckpointError
from zipasr.encoder.inference import WeightShapes
from zipasr.encoder.protocol import EncoderConfig, Flags, HeadStyle
from zipasr.encoder.registry import ENCODER_TYPES
from zipasr.model.config import ModelConfig

#: Heads of the published attention decoder.
PUBLISHED_DECODER_HEADS = 8

_HEADS = ("decoder.", "ctc_output.", "attention_decoder.")

# Weights of other models, by a part of their names.
_OTHERS = (
    ("self_attn.pos_bias_u", "a Conformer"),
    ("emformer", "an Emformer"),
    (".lstm.", "an LSTM transducer"),
    ("input_embedding.weight", "a language model"),
    ("encoder.blocks.0.attn.", "a Whisper model"),
    ("encoder.encoders.", "part of a Zipformer"),
)


class Architecture(NamedTuple):
    """A model without its values; ``guesses`` says what the weights left open, a sentence each."""

    encoder: EncoderConfig
    model: ModelConfig
    vocab_size: int
    guesses: tuple[str, ...] = ()


def infer_config(
    weights: Mapping[str, Tensor], hints: Flags | None = None, origin: str = "the state dict"
) -> Architecture:
    """Read sizes off the weights.

    The number of heads shows only as a product with their sizes: the published sizes are taken
    where they fit, else sizes that fit all stacks, and then it is called a guess.

    Args:
        weights: state dict without the prefix of a wrapper.
        hints: field -> value of either configuration, for what the weights do not tell; where
            they tell, hints are not used. Whoever gives them compares the result with them.
        origin: of the weights, named in errors.

    Raises:
        CheckpointError: the weights are not those of a Zipformer with a head.
    """
    hints = hints or {}
    shapes = WeightShapes({name: tuple(value.shape) for name, value in weights.items()}, origin)
    kind = next((cls for cls in ENCODER_TYPES.values() if cls.matches(shapes)), None)
    if kind is None:
        raise CheckpointError(
            f"{origin} holds {what_else(weights)}, not a Zipformer.",
            "choose the checkpoint of a model that train.py or icefall's zipformer recipe trained.",
        )
    if not any(shapes.has(start) for start in _HEADS):
        raise CheckpointError(
            f"{origin} holds the encoder of a Zipformer without a head to recognise with.",
            "choose the checkpoint of a model that was trained on transcripts.",
        )
    try:
        encoder, guesses = kind.infer(shapes, hints)
        model, more = _model(shapes, hints)
    except ValueError as refusal:
        raise CheckpointError(f"{origin} holds a model that is refused: {refusal}.") from refusal
    return Architecture(encoder, model, _vocab_size(shapes, kind.heads), (*guesses, *more))


def what_else(weights: Mapping[str, Tensor]) -> str:
    """Name the kind of model that weights look like, when they are not those of a Zipformer."""
    for part, kind in _OTHERS:
        if any(part in name for name in weights):
            return kind
    if not weights:
        return "no weights"
    return f"an unknown model (its first weight is {next(iter(weights))!r})"


def _vocab_size(shapes: WeightShapes, heads: HeadStyle) -> int:
    name = "decoder.embedding" if shapes.has("decoder.") else heads.ctc_projection
    return shapes.size(f"{name}.weight", 0)


def _model(shapes: WeightShapes, hints: Flags) -> tuple[ModelConfig, list[str]]:
    sizes: dict[str, Any] = {"use_transducer": False}
    guesses: list[str] = []
    if shapes.has("decoder."):
        has_conv = shapes.has("decoder.conv.")
        sizes = {
            "decoder_dim": shapes.size("decoder.embedding.weight", 1),
            "joiner_dim": shapes.size("joiner.output_linear.weight", 1),
            "context_size": shapes.size("decoder.conv.weight", 2) if has_conv else 1,
        }
        sizes["own_heads"] = _own_heads(shapes)
    sizes["use_ctc"] = shapes.has("ctc_output.")
    sizes["use_cr_ctc"] = bool(sizes["use_ctc"] and hints.get("use_cr_ctc", False))
    if shapes.has("attention_decoder."):
        more, guesses = _attention_decoder(shapes, hints)
        sizes |= more
    return ModelConfig(**sizes), guesses


def _own_heads(shapes: WeightShapes) -> str:
    """Return the name of the corpus that has a transducer of its own, if there is one."""
    ending = ".embedding.weight"
    found = [n for n in shapes.shapes if n.startswith("decoder_") and n.endswith(ending)]
    return found[0].removeprefix("decoder_").removesuffix(ending) if found else ""


def _attention_decoder(shapes: WeightShapes, hints: Flags) -> tuple[dict[str, Any], list[str]]:
    start = "attention_decoder.decoder."
    layer = f"{start}layers.0."
    attention_dim = shapes.size(f"{layer}self_attn.linear_q.weight", 0)
    told = hints.get("attention_decoder_num_heads")
    heads = told or gcd(PUBLISHED_DECODER_HEADS, attention_dim)
    guesses = []
    if told is None and attention_dim != ModelConfig().attention_decoder_attention_dim:
        guesses.append(
            "the weights do not tell the number of heads of the attention decoder: taken as "
            f"--attention-decoder-num-heads {heads}"
        )
    sizes = {
        "use_attention_decoder": True,
        "attention_decoder_dim": shapes.size(f"{start}embed.weight", 1),
        "attention_decoder_num_layers": shapes.count(f"{start}layers."),
        "attention_decoder_attention_dim": attention_dim,
        "attention_decoder_num_heads": heads,
        "attention_decoder_feedforward_dim": shapes.size(f"{layer}feed_forward.0.weight", 0),
    }
    return sizes, guesses
