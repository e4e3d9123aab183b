"""Encoder, prediction network and joiner, put together into one model with its losses.

``build`` makes the ``AsrModel`` of ``transducer`` from an encoder's configuration and ``config``;
``decoder``, ``joiner`` and ``attention_decoder`` are its heads; ``inputs`` checks and pads a batch;
``infer_config`` reads a configuration off the weights. Attribute names are those of published
checkpoints.

For training loops of one's own: ``build_model``, and the heads apart; see docs/parts.md.
"""

from typing import TYPE_CHECKING

from zipasr.base.lazy import lazy_names

__all__ = [
    "AsrLosses",
    "AsrModel",
    "CachedDecoder",
    "Decoder",
    "EncoderOutput",
    "Joiner",
    "ModelConfig",
    "TransducerConfig",
    "build_model",
]

if TYPE_CHECKING:
    from zipasr.model.build import build_model
    from zipasr.model.config import ModelConfig, TransducerConfig
    from zipasr.model.decoder import CachedDecoder, Decoder
    from zipasr.model.joiner import Joiner
    from zipasr.model.transducer import AsrLosses, AsrModel, EncoderOutput
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "build": ["build_model"],
            "config": ["ModelConfig", "TransducerConfig"],
            "decoder": ["CachedDecoder", "Decoder"],
            "joiner": ["Joiner"],
            "transducer": ["AsrLosses", "AsrModel", "EncoderOutput"],
        },
    )
