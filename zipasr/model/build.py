"""Models with fresh weights from configurations; a model described in a line."""

from __future__ import annotations

from dataclasses import fields
from typing import TypeAlias

import torch

from zipasr.base.config import shown
from zipasr.encoder.zipformer.config import PRESETS, ZipformerConfig, in_full
from zipasr.encoder.zipformer.front_end import Conv2dSubsampling
from zipasr.encoder.zipformer.model import Zipformer2
from zipasr.encoder.zipformer.streaming import Zipformer2Chunks
from zipasr.encoder.zipformer1.config import Zipformer1Config
from zipasr.encoder.zipformer1.model import Zipformer
from zipasr.encoder.zipformer1.streaming import Zipformer1Chunks
from zipasr.model.attention_decoder import AttentionDecoderModel
from zipasr.model.config import BLANK_ID, SENTENCE_ENDS_ID, ModelConfig
from zipasr.model.decoder import Decoder
from zipasr.model.inputs import FEATURE_DIM
from zipasr.model.joiner import Joiner
from zipasr.model.transducer import AsrModel, EncoderParts

#: Shape of an encoder; its class says which one.
EncoderConfig: TypeAlias = ZipformerConfig | Zipformer1Config

#: Values of --encoder-type, the default first.
ENCODER_TYPES: dict[str, type[EncoderConfig]] = {
    "zipformer": ZipformerConfig,
    "zipformer1": Zipformer1Config,
}


#: Class of settings -> its fields that may change while the weights keep their meaning.
CHANGEABLE: dict[str, tuple[str, ...]] = {
    cls.__name__: cls.CHANGEABLE for cls in (*ENCODER_TYPES.values(), ModelConfig)
}


def build_model(zipformer: EncoderConfig, model: ModelConfig, vocab_size: int) -> AsrModel:
    """Build a model with fresh weights on the default device.

    Args:
        zipformer: shape of the encoder, of either generation.
        model: heads.
        vocab_size: V, the blank included.

    Returns:
        The model, in training mode.
    """
    decoder = joiner = None
    if model.use_transducer:
        decoder, joiner = _build_transducer(zipformer, model, vocab_size)
    attention_decoder = None
    if model.use_attention_decoder:
        attention_decoder = AttentionDecoderModel(
            vocab_size, zipformer.output_dim, model.attention_decoder, SENTENCE_ENDS_ID
        )
    built = AsrModel(
        encoder=_build_encoder(zipformer),
        decoder=decoder,
        joiner=joiner,
        encoder_dim=zipformer.output_dim,
        vocab_size=vocab_size,
        use_ctc=model.use_ctc,
        attention_decoder=attention_decoder,
    )
    if model.own_heads:
        built.add_own_heads(model.own_heads, *_build_transducer(zipformer, model, vocab_size))
    return built


def _build_transducer(
    zipformer: EncoderConfig, model: ModelConfig, vocab_size: int
) -> tuple[Decoder, Joiner]:
    decoder = Decoder(
        vocab_size,
        model.decoder_dim,
        BLANK_ID,
        model.context_size,
        # The first recipes trained it without.
        balanced=isinstance(zipformer, ZipformerConfig),
    )
    return decoder, Joiner(zipformer.output_dim, model.decoder_dim, model.joiner_dim, vocab_size)


def _build_encoder(zipformer: EncoderConfig) -> EncoderParts:
    """Return front end and encoder; the first Zipformer has its front end inside."""
    if isinstance(zipformer, Zipformer1Config):
        first = Zipformer(zipformer, FEATURE_DIM)
        return EncoderParts(None, first, Zipformer1Chunks(first))
    layer1, layer2, layer3 = zipformer.embed_channels
    embed = Conv2dSubsampling(
        FEATURE_DIM,
        zipformer.encoder_dim[0],
        layer1_channels=layer1,
        layer2_channels=layer2,
        layer3_channels=layer3,
        dropout=zipformer.dropout_rate(),
    )
    encoder = Zipformer2(zipformer)
    return EncoderParts(embed, encoder, Zipformer2Chunks(embed, encoder))


def describe(zipformer: EncoderConfig, model: ModelConfig, vocab_size: int) -> str:
    """Name an architecture in a line, its preset when it has one."""
    with torch.device("meta"):
        built = build_model(zipformer, model, vocab_size)
    parts = (
        _shape_name(zipformer),
        "causal" if zipformer.causal else "non-causal",
        f"{_short(sum(p.numel() for p in built.parameters()))} parameters",
        _heads_name(model),
        f"vocabulary {vocab_size}",
    )
    return ", ".join(parts)


def preset_name(zipformer: EncoderConfig) -> str | None:
    """Return the preset with the same weights, but for causal convolutions; None if there is none.

    Settings that leave no trace in the weights are not compared.
    """
    if isinstance(zipformer, Zipformer1Config):
        return None
    for name, preset in PRESETS.items():
        if {*differing(zipformer, preset)} <= {"causal", *ZipformerConfig.TRACELESS}:
            return name
    return None


def differing(left: ZipformerConfig, right: ZipformerConfig) -> list[str]:
    """Return the fields in which two configurations differ, however their lists are written."""
    return [
        field.name
        for field in fields(ZipformerConfig)
        if in_full(getattr(left, field.name), left.num_stacks)
        != in_full(getattr(right, field.name), right.num_stacks)
    ]


def _shape_name(zipformer: EncoderConfig) -> str:
    if isinstance(zipformer, Zipformer1Config):
        layers, dims = shown(zipformer.num_encoder_layers), shown(zipformer.encoder_dims)
        return f"first Zipformer with {layers} layers of {dims} channels"
    if name := preset_name(zipformer):
        return f"Zipformer {name}"
    layers, dims = (shown(zipformer.per_stack(n)) for n in ("num_encoder_layers", "encoder_dim"))
    return f"Zipformer with {layers} layers of {dims} channels"


def _heads_name(model: ModelConfig) -> str:
    names = {
        "transducer": model.use_transducer,
        "CTC": model.use_ctc,
        "attention decoder": model.use_attention_decoder,
    }
    return " + ".join(name for name, present in names.items() if present)


def _short(count: int) -> str:
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.1f} k"
