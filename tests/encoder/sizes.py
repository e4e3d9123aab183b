"""A very small encoder for tests that need no recorded numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

from zipasr.encoder.zipformer.config import ZipformerConfig


def small_config(**changes: Any) -> ZipformerConfig:
    """Return three small stacks at 50, 12.5 and 25 Hz, with ``changes``."""
    config = ZipformerConfig(
        num_encoder_layers=(1, 2, 1),
        downsampling_factor=(1, 4, 2),
        feedforward_dim=(16,),
        num_heads=(2,),
        encoder_dim=(16, 24, 20),
        query_head_dim=(4,),
        value_head_dim=(3,),
        pos_head_dim=(2,),
        pos_dim=8,
        encoder_unmasked_dim=(8, 12, 20),
        cnn_module_kernel=(5,),
        embed_channels=(2, 4, 8),
    )
    return dataclasses.replace(config, **changes)
