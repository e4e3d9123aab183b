"""Models with fresh weights from configurations; a model described in a line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, overload

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from zipasr.base.errors import nearest
from zipasr.encoder.protocol import EncoderConfig
from zipasr.encoder.registry import DEFAULT_ENCODER
from zipasr.model.attention_decoder import AttentionDecoderModel
from zipasr.model.config import HeadFields, ModelConfig
from zipasr.model.decoder import Decoder
from zipasr.model.joiner import Joiner
from zipasr.model.transducer import AsrModel
from zipasr.text.config import BLANK_ID, SENTENCE_ENDS_ID

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from zipasr.encoder import PresetName


@overload
def build_model(encoder: EncoderConfig, model: ModelConfig, vocab_size: int) -> AsrModel: ...


@overload
def build_model(
    encoder: EncoderConfig, *, vocab_size: int, **heads: Unpack[HeadFields]
) -> AsrModel: ...


@overload
def build_model(
    *,
    vocab_size: int,
    preset: PresetName = "medium",
    causal: bool = False,
    **heads: Unpack[HeadFields],
) -> AsrModel: ...


def build_model(
    encoder: EncoderConfig | None = None,
    model: ModelConfig | None = None,
    vocab_size: int = 0,
    *,
    preset: PresetName | None = None,
    causal: bool | None = None,
    **heads: Any,
) -> AsrModel:
    """Build a model with fresh weights on the default device.

    Args:
        encoder: settings of the encoder. In its place stand ``preset`` and ``causal``.
        model: heads. In its place stand fields of ``ModelConfig``.
        vocab_size: V, the blank included.
        preset: published size of the Zipformer.
        causal: whether the Zipformer can work on speech as it comes.
        heads: fields of ``ModelConfig``, such as ``use_ctc=True``.

    Returns:
        The model, in training mode.

    Raises:
        UserError: there is no such size.
        TypeError: something is given twice, is missing, or is no field of ``ModelConfig``.
        ValueError: settings that do not fit each other.
    """
    if vocab_size < 1:
        raise TypeError("a model needs vocab_size=V: the number of tokens, blank included")
    if encoder is None:
        encoder = DEFAULT_ENCODER.from_preset(preset or "medium", causal=bool(causal))
    elif preset is not None or causal is not None:
        raise TypeError("preset and causal stand in place of an encoder: give one or the other")
    if model is None:
        model = _heads_of(heads)
    elif heads:
        raise TypeError(f"{', '.join(heads)}: heads are given as a ModelConfig already")
    return _assemble(encoder, model, vocab_size)


def _assemble(encoder: EncoderConfig, model: ModelConfig, vocab_size: int) -> AsrModel:
    decoder = joiner = None
    if model.use_transducer:
        decoder, joiner = _build_transducer(encoder, model, vocab_size)
    attention_decoder = None
    if model.use_attention_decoder:
        attention_decoder = AttentionDecoderModel(
            vocab_size, encoder.output_dim, model.attention_decoder, SENTENCE_ENDS_ID
        )
    built = AsrModel(
        encoder=encoder.build(),
        config=encoder,
        decoder=decoder,
        joiner=joiner,
        vocab_size=vocab_size,
        use_ctc=model.use_ctc,
        attention_decoder=attention_decoder,
    )
    if model.own_heads:
        built.add_own_heads(model.own_heads, *_build_transducer(encoder, model, vocab_size))
    return built


def _heads_of(given: dict[str, Any]) -> ModelConfig:
    known = [field.name for field in fields(ModelConfig)]
    for name in given:
        if name not in known:
            hint = nearest(name, known) or f"choose from {', '.join(known)}"
            raise TypeError(f"{name!r} is no field of ModelConfig: {hint}")
    return ModelConfig(**given)


def _build_transducer(
    encoder: EncoderConfig, model: ModelConfig, vocab_size: int
) -> tuple[Decoder, Joiner]:
    style = encoder.heads
    dims = encoder.output_dim, model.decoder_dim, model.joiner_dim
    return (
        Decoder(vocab_size, model.decoder_dim, BLANK_ID, model.context_size, style),
        Joiner(*dims, vocab_size, gain=style.joiner_gain, bias_init=style.bias_init),
    )


class WithoutInitialValues(TorchFunctionMode):
    """A context in which new layers keep whatever is in their memory.

    For models whose weights are read from a file, or never: drawing numbers takes longer than
    reading them, and on the device ``meta`` torch would import its compiler for that.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        given = dict(kwargs or {})
        if getattr(func, "__module__", None) == "torch.nn.init" or func in _FILLING:
            return given.get("tensor", next(iter(args), None))
        return torch.empty(*args, **given) if func in _DRAWING else func(*args, **given)


_FILLING = (Tensor.normal_, Tensor.uniform_)
_DRAWING = (torch.rand, torch.randn)


def shapes_of(encoder: EncoderConfig, model: ModelConfig, vocab_size: int) -> AsrModel:
    """Return a model on the device ``meta``: names and shapes without values."""
    with torch.device("meta"), WithoutInitialValues():
        return build_model(encoder, model, vocab_size)


def describe(
    encoder: EncoderConfig, model: ModelConfig, vocab_size: int, built: AsrModel | None = None
) -> str:
    """Name an architecture in a line, its preset when it has one.

    Args:
        encoder: settings of the encoder.
        model: settings of the heads.
        vocab_size: V.
        built: a model of these settings, if there is one; else one without values is made.
    """
    built = built or shapes_of(encoder, model, vocab_size)
    parts = (
        encoder.describe(),
        "causal" if encoder.causal else "non-causal",
        f"{_short(sum(p.numel() for p in built.parameters()))} parameters",
        _heads_name(model),
        f"vocabulary {vocab_size}",
    )
    return ", ".join(parts)


def _heads_name(model: ModelConfig) -> str:
    names = {
        "transducer": model.use_transducer,
        "CTC": model.use_ctc,
        "attention decoder": model.use_attention_decoder,
    }
    return " + ".join(name for name, present in names.items() if present)


def _short(count: int) -> str:
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.1f} k"
