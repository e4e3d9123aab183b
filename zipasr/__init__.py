"""zipasr: train, decode and ship Zipformer transducers, from nothing but PyPI.

Letters used in every docstring of this package:

- **N** utterances of a batch
- **T** feature frames, 10 ms each (100 Hz)
- **T1** frames after the convolutional front end, 20 ms each (50 Hz)
- **T'** frames that the encoder returns, 40 ms each (25 Hz)
- **S** tokens of a transcript, **U** positions of the prediction network (S + 1)
- **R** prune range, symbol positions kept per frame
- **C** channels, **H** attention heads, **V** vocabulary (blank included), **B** beam

Packages, from the lowest layer up: ``base``; ``kernels``; ``nn``; ``encoder``, ``losses``,
``text``, ``audio``; ``model``, ``lm``, ``data``, ``corpora``; ``search``, ``scoring``, ``optim``,
``checkpoint``; ``recognition``; ``training``, ``exporting``; ``cli``; ``api``. A package imports
only packages of lower layers.

The names below are imported when they are first used: ``import zipasr`` by itself imports neither
torch nor numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zipasr.base.lazy import lazy_names

if TYPE_CHECKING:
    from zipasr.api.commands import DecodeResult, ExportResult, TrainResult, decode, export, train
    from zipasr.api.model_loading import load_model
    from zipasr.base.errors import (
        CheckpointError,
        DataError,
        DownloadError,
        Interrupted,
        NumericError,
        ResourceError,
        UserError,
    )
    from zipasr.recognition.speech_model import Encoding, Model
    from zipasr.recognition.speech_stream import Stream
    from zipasr.recognition.transcription import Hypothesis, Segment, Transcription
    from zipasr.text.timed_words import Token, Word
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "api.commands": [
                "DecodeResult",
                "ExportResult",
                "TrainResult",
                "decode",
                "export",
                "train",
            ],
            "api.model_loading": [
                "load_model",
            ],
            "base.errors": [
                "CheckpointError",
                "DataError",
                "DownloadError",
                "Interrupted",
                "NumericError",
                "ResourceError",
                "UserError",
            ],
            "recognition.speech_model": ["Encoding", "Model"],
            "recognition.speech_stream": [
                "Stream",
            ],
            "recognition.transcription": ["Hypothesis", "Segment", "Transcription"],
            "text.timed_words": ["Token", "Word"],
        },
    )

__version__ = "0.1.0"

__all__ = [
    "CheckpointError",
    "DataError",
    "DecodeResult",
    "DownloadError",
    "Encoding",
    "ExportResult",
    "Hypothesis",
    "Interrupted",
    "Model",
    "NumericError",
    "ResourceError",
    "Segment",
    "Stream",
    "Token",
    "TrainResult",
    "Transcription",
    "UserError",
    "Word",
    "__version__",
    "decode",
    "export",
    "load_model",
    "train",
]
