"""Model configuration inferred from the names and shapes of weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import gcd
from typing import Any, NamedTuple

from torch import Tensor

from zipasr.base.config import flag_name, shown
from zipasr.base.errors import CheckpointError
from zipasr.encoder.zipformer.config import PRESETS, ZipformerConfig
from zipasr.encoder.zipformer1.attention import POS_HEAD_DIM
from zipasr.encoder.zipformer1.config import Zipformer1Config
from zipasr.model.build import EncoderConfig, preset_name
from zipasr.model.config import ModelConfig

#: Channels of a query, of a value and of a position query in every published model, per head.
PUBLISHED_HEAD = (32, 12, 4)

#: Fields of the configuration that describe heads, in the order of ``Heads``.
HEAD_FLAGS = ("num_heads", "query_head_dim", "value_head_dim", "pos_head_dim")


class HeadChannels(NamedTuple):
    """Channels of the attention of one stack, all heads together."""

    query: int
    value: int
    position: int


class Heads(NamedTuple):
    """The heads of one stack: their number, and channels of each."""

    num: int
    query: int
    value: int
    position: int


def divide_among_heads(
    stacks: Sequence[HeadChannels], hints: Mapping[str, Any]
) -> tuple[list[Heads], list[str]]:
    """Divide the channels of each stack among heads.

    Sizes as in published models come first; other hints than complete ones do not count against
    them. Where they do not fit, the choice agrees with the hints and, if it can be, has heads of
    one size in all stacks.

    Args:
        stacks: channels of each stack.
        hints: field -> value, any of ``HEAD_FLAGS``; what fits no stack is passed over.

    Returns:
        The heads of each stack; and a sentence if they could be others.
    """
    possible = [_possible_heads(stack) for stack in stacks]
    if _in_all(possible, PUBLISHED_HEAD) and not all(name in hints for name in HEAD_FLAGS):
        return [_of_size(options, PUBLISHED_HEAD) for options in possible], []
    told = [
        [heads for heads in options if _agrees(heads, hints, index, len(stacks))]
        for index, options in enumerate(possible)
    ]
    possible = told if all(told) else possible
    chosen = [max(options, key=lambda heads: _likeness(heads[1:])) for options in possible]
    sizes = {heads[1:] for options in possible for heads in options}
    if common := [size for size in sizes if _in_all(possible, size)]:
        best = max(common, key=_likeness)
        chosen = [_of_size(options, best) for options in possible]
    if all(len(options) == 1 for options in possible):
        return chosen, []
    words = " ".join(
        f"{flag_name(name)} {shown(once(heads[axis] for heads in chosen))}"
        for axis, name in enumerate(HEAD_FLAGS)
    )
    return chosen, [f"the weights do not tell the number of attention heads: taken as {words}"]


def _in_all(possible: Sequence[Sequence[Heads]], size: tuple[int, ...]) -> bool:
    return all(any(heads[1:] == size for heads in options) for options in possible)


def _of_size(options: Sequence[Heads], size: tuple[int, ...]) -> Heads:
    return next(heads for heads in options if heads[1:] == size)


def _possible_heads(stack: HeadChannels) -> list[Heads]:
    most = gcd(stack.query, stack.value, stack.position)
    return [
        Heads(num, stack.query // num, stack.value // num, stack.position // num)
        for num in range(1, most + 1)
        if most % num == 0
    ]


def _agrees(heads: Heads, hints: Mapping[str, Any], index: int, num_stacks: int) -> bool:
    """Say whether nothing that is known of the heads of one stack is against a choice."""
    for value, name in zip(heads, HEAD_FLAGS, strict=True):
        known = hints.get(name, ())
        if len(known) in (1, num_stacks) and known[index % len(known)] != value:
            return False
    return True


def _likeness(size: tuple[int, ...]) -> tuple[int, ...]:
    """Rank sizes of heads: those of published models first, then what comes close."""
    same = [int(value == usual) for value, usual in zip(size, PUBLISHED_HEAD, strict=True)]
    return (sum(same), same[2], -abs(size[0] - PUBLISHED_HEAD[0]))


def once(values: Iterable[int]) -> tuple[int, ...]:
    """Write a value for each stack once when it is always the same."""
    every = tuple(values)
    return every[:1] if len({*every}) == 1 else every


Hints = Mapping[str, Any]

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

    zipformer: EncoderConfig
    model: ModelConfig
    vocab_size: int
    guesses: tuple[str, ...] = ()


class _Stack(NamedTuple):
    """Sizes of one stack."""

    factor: int
    num_layers: int
    dim: int
    feedforward: int
    kernel: int
    attention: HeadChannels


class _Shapes:
    """Shapes by name, with questions that end in a sentence when the answer is missing."""

    def __init__(self, weights: Mapping[str, Tensor], origin: str) -> None:
        self.shapes = {name: tuple(value.shape) for name, value in weights.items()}
        self.origin = origin

    def has(self, start: str) -> bool:
        """Say whether any name starts so."""
        return any(name.startswith(start) for name in self.shapes)

    def size(self, name: str, axis: int) -> int:
        """Return one size of one tensor."""
        shape = self.shapes.get(name, ())
        if len(shape) <= axis:
            problem = f"is {shape}" if name in self.shapes else "is missing"
            raise CheckpointError(
                f"{self.origin} does not hold a whole Zipformer: {name} {problem}.",
                "choose another file, or download it again.",
            )
        return shape[axis]

    def own_heads(self) -> str:
        """Return the name of the corpus that has a transducer of its own, if there is one."""
        ending = ".embedding.weight"
        found = [n for n in self.shapes if n.startswith("decoder_") and n.endswith(ending)]
        return found[0].removeprefix("decoder_").removesuffix(ending) if found else ""

    def count(self, start: str) -> int:
        """Return how many numbered modules there are: ``start0.``, ``start1.``, ..."""
        number = 0
        while self.has(f"{start}{number}."):
            number += 1
        return number


def infer_config(
    weights: Mapping[str, Tensor], hints: Hints | None = None, origin: str = "the state dict"
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
    shapes = _Shapes(weights, origin)
    is_first = shapes.has("encoder.encoder_embed.")
    has_front_end = is_first or shapes.has("encoder_embed.")
    if not has_front_end or not shapes.has("encoder.encoders.0."):
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
        zipformer, guesses = (_zipformer1 if is_first else _zipformer)(shapes, hints)
        model, more = _model(shapes, hints)
    except ValueError as refusal:
        raise CheckpointError(f"{origin} holds a model that is refused: {refusal}.") from refusal
    return Architecture(zipformer, model, _vocab_size(shapes), (*guesses, *more))


def what_else(weights: Mapping[str, Tensor]) -> str:
    """Name the kind of model that weights look like, when they are not those of a Zipformer."""
    for part, kind in _OTHERS:
        if any(part in name for name in weights):
            return kind
    if not weights:
        return "no weights"
    return f"an unknown model (its first weight is {next(iter(weights))!r})"


def _vocab_size(shapes: _Shapes) -> int:
    name = "decoder.embedding" if shapes.has("decoder.") else "ctc_output.1"
    return shapes.size(f"{name}.weight", 0)


def _model(shapes: _Shapes, hints: Hints) -> tuple[ModelConfig, list[str]]:
    sizes: dict[str, Any] = {"use_transducer": False}
    guesses: list[str] = []
    if shapes.has("decoder."):
        has_conv = shapes.has("decoder.conv.")
        sizes = {
            "decoder_dim": shapes.size("decoder.embedding.weight", 1),
            "joiner_dim": shapes.size("joiner.output_linear.weight", 1),
            "context_size": shapes.size("decoder.conv.weight", 2) if has_conv else 1,
        }
        sizes["own_heads"] = shapes.own_heads()
    sizes["use_ctc"] = shapes.has("ctc_output.")
    sizes["use_cr_ctc"] = bool(sizes["use_ctc"] and hints.get("use_cr_ctc", False))
    if shapes.has("attention_decoder."):
        more, guesses = _attention_decoder(shapes, hints)
        sizes |= more
    return ModelConfig(**sizes), guesses


def _attention_decoder(shapes: _Shapes, hints: Hints) -> tuple[dict[str, Any], list[str]]:
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


def _zipformer(shapes: _Shapes, hints: Hints) -> tuple[ZipformerConfig, list[str]]:
    causal = any(".causal_conv." in name for name in shapes.shapes)
    stacks = [_stack(shapes, i, causal) for i in range(shapes.count("encoder.encoders."))]
    heads, guesses = divide_among_heads([s.attention for s in stacks], hints)
    first = f"{_layers_of(shapes, 0)}0.self_attn_weights.linear_pos.weight"
    dims = tuple(stack.dim for stack in stacks)
    config = ZipformerConfig(
        num_encoder_layers=tuple(stack.num_layers for stack in stacks),
        downsampling_factor=tuple(stack.factor for stack in stacks),
        feedforward_dim=tuple(stack.feedforward for stack in stacks),
        num_heads=tuple(h.num for h in heads),
        encoder_dim=dims,
        query_head_dim=once(h.query for h in heads),
        value_head_dim=once(h.value for h in heads),
        pos_head_dim=once(h.position for h in heads),
        pos_dim=shapes.size(first, 1),
        encoder_unmasked_dim=dims,
        cnn_module_kernel=tuple(stack.kernel for stack in stacks),
        causal=causal,
        embed_channels=tuple(
            shapes.size(f"encoder_embed.conv.{index}.weight", 0) for index in (0, 4, 7)
        ),
    )
    traceless = {name: hints[name] for name in config.TRACELESS if name in hints}
    if "encoder_unmasked_dim" not in traceless:
        name = preset_name(config)
        if name is None:
            guesses.append(
                "the weights do not tell --encoder-unmasked-dim, which matters in training only: "
                "nothing is masked"
            )
        else:
            traceless["encoder_unmasked_dim"] = PRESETS[name].encoder_unmasked_dim
    return replace(config, **traceless), guesses


def _zipformer1(shapes: _Shapes, hints: Hints) -> tuple[Zipformer1Config, list[str]]:
    """Read the sizes of the first Zipformer; its streaming version has the same weights."""
    stacks = [_stack1(shapes, i) for i in range(shapes.count("encoder.encoders."))]
    sizes: dict[str, Any] = {name: tuple(stack[name] for stack in stacks) for name in stacks[0]}
    found = Zipformer1Config(**sizes, encoder_unmasked_dims=sizes["encoder_dims"])
    traceless = {name: hints[name] for name in found.TRACELESS if name in hints}
    guesses = []
    published = Zipformer1Config()
    if "encoder_unmasked_dims" not in traceless and found.encoder_dims == published.encoder_dims:
        traceless["encoder_unmasked_dims"] = published.encoder_unmasked_dims
    if "causal" not in traceless and traceless.keys() & {*found.STREAMING}:
        traceless["causal"] = True  # only the streaming recipe has these flags
    if "causal" not in traceless:
        guesses.append(
            "the weights do not tell whether the model is a streaming one: taken as --causal 0"
        )
    return replace(found, **traceless), guesses


def _stack1(shapes: _Shapes, index: int) -> dict[str, int]:
    start, layers = f"encoder.encoders.{index}.", _layers_of(shapes, index)
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


def _layers_of(shapes: _Shapes, index: int) -> str:
    start = f"encoder.encoders.{index}."
    return f"{start}encoder.layers." if shapes.has(f"{start}downsample.") else f"{start}layers."


def _stack(shapes: _Shapes, index: int, causal: bool) -> _Stack:
    start, layers = f"encoder.encoders.{index}.", _layers_of(shapes, index)
    layer = f"{layers}0."
    convolution = "depthwise_conv.chunkwise_conv" if causal else "depthwise_conv"
    position = shapes.size(f"{layer}self_attn_weights.linear_pos.weight", 0)
    in_proj = shapes.size(f"{layer}self_attn_weights.in_proj.weight", 0)
    is_slower = shapes.has(f"{start}downsample.")
    return _Stack(
        factor=shapes.size(f"{start}downsample.bias", 0) if is_slower else 1,
        num_layers=shapes.count(layers),
        dim=shapes.size(f"{layer}norm.bias", 0),
        feedforward=shapes.size(f"{layer}feed_forward2.in_proj.weight", 0),
        kernel=shapes.size(f"{layer}conv_module1.{convolution}.weight", 2),
        attention=HeadChannels(
            query=(in_proj - position) // 2,
            value=shapes.size(f"{layer}self_attn1.in_proj.weight", 0),
            position=position,
        ),
    )
