"""Encoders: features (N, T, 80) to a shorter sequence of vectors (N, T', C).

``protocol`` is what others ask of an encoder, ``registry`` lists them: ``zipformer``,
``zipformer1`` and ``zapformer``. ``inference`` has the shapes of weights that a configuration is
read off; ``chunks``, ``chunk_masks`` (padding, lengths), ``relative_attention`` (of
``attention_scores``, on a GPU of ``triton_attention``) and ``stream_states`` are shared;
``input_checks`` checks a batch. Inside an encoder tensors are time-first, (T', N, C): convolutions,
products with attention weights and masks then need no copies.
Attribute names are those of published checkpoints, so that their state dicts fit.

For training loops of one's own: ``Zipformer``, ``Zipformer1`` and ``Zapformer``, defined in
``standalone``; see docs/parts.md.
"""

from typing import TYPE_CHECKING

from zipasr.base.lazy import lazy_names

__all__ = [
    "PresetName",
    "StandaloneEncoder",
    "Zapformer",
    "ZapformerConfig",
    "ZapformerPreset",
    "Zipformer",
    "Zipformer1",
    "Zipformer1Config",
    "ZipformerConfig",
]

if TYPE_CHECKING:
    from zipasr.encoder.standalone import StandaloneEncoder, Zapformer, Zipformer, Zipformer1
    from zipasr.encoder.zapformer.config import ZapformerConfig, ZapformerPreset
    from zipasr.encoder.zipformer.config import PresetName, ZipformerConfig
    from zipasr.encoder.zipformer1.config import Zipformer1Config
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "standalone": ["StandaloneEncoder", "Zapformer", "Zipformer", "Zipformer1"],
            "zapformer.config": ["ZapformerConfig", "ZapformerPreset"],
            "zipformer.config": ["PresetName", "ZipformerConfig"],
            "zipformer1.config": ["Zipformer1Config"],
        },
    )
