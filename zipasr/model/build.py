"""Models with fresh weights from configurations; a model described in a line."""

from __future__ import annotations

import torch

from zipasr.encoder.protocol import EncoderConfig
from zipasr.model.attention_decoder import AttentionDecoderModel
from zipasr.model.config import BLANK_ID, SENTENCE_ENDS_ID, ModelConfig
from zipasr.model.decoder import Decoder
from zipasr.model.joiner import Joiner
from zipasr.model.transducer import AsrModel


def build_model(encoder: EncoderConfig, model: ModelConfig, vocab_size: int) -> AsrModel:
    """Build a model with fresh weights on the default device.

    Args:
        encoder: settings of the encoder.
        model: heads.
        vocab_size: V, the blank included.

    Returns:
        The model, in training mode.
    """
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


def _build_transducer(
    encoder: EncoderConfig, model: ModelConfig, vocab_size: int
) -> tuple[Decoder, Joiner]:
    style = encoder.heads
    dims = encoder.output_dim, model.decoder_dim, model.joiner_dim
    return (
        Decoder(vocab_size, model.decoder_dim, BLANK_ID, model.context_size, style),
        Joiner(*dims, vocab_size, gain=style.joiner_gain),
    )


def describe(encoder: EncoderConfig, model: ModelConfig, vocab_size: int) -> str:
    """Name an architecture in a line, its preset when it has one."""
    with torch.device("meta"):
        built = build_model(encoder, model, vocab_size)
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
