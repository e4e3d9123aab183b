"""The encoders: values of ``--encoder-type``, and names of their settings in files."""

from __future__ import annotations

from zipasr.encoder.protocol import EncoderConfig
from zipasr.encoder.zapformer.config import ZapformerConfig
from zipasr.encoder.zipformer.config import ZipformerConfig
from zipasr.encoder.zipformer1.config import Zipformer1Config

#: Value of ``--encoder-type`` -> class of its settings, the default first.
ENCODER_TYPES: dict[str, type[EncoderConfig]] = {}


def register(config: type[EncoderConfig]) -> type[EncoderConfig]:
    """Add an encoder; modules with command lines are imported after that.

    Raises:
        ValueError: another one has its name, or its name in files.
    """
    taken = {name for cls in ENCODER_TYPES.values() for name in (cls.name, *schemas_of(cls))}
    if taken & {config.name, *schemas_of(config)}:
        raise ValueError(f"{config.__name__}: an encoder {config.name} is there already")
    ENCODER_TYPES[config.name] = config
    return config


def schemas_of(config: type[EncoderConfig]) -> tuple[str, ...]:
    """Return the names of an encoder's settings in files, of earlier versions too."""
    return (config.schema, *config.former_schemas)


register(ZipformerConfig)
register(Zipformer1Config)
register(ZapformerConfig)

DEFAULT_ENCODER = ZipformerConfig
