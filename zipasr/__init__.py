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
``checkpoint``; ``recognition``; ``training``, ``export``; ``cli``. A package imports only packages
of lower layers.
"""

__version__ = "0.1.0"
