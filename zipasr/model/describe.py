"""An architecture in a line of words, and what two architectures differ in."""

from __future__ import annotations

from dataclasses import fields

import torch

from zipasr.base.config import shown
from zipasr.encoder.zipformer import PRESETS, ZipformerConfig, in_full
from zipasr.model.build import EncoderConfig, ModelConfig, build_model
from zipasr.zipformer1.config import Zipformer1Config


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
