"""Encoders: features (N, T, 80) to a shorter sequence of vectors (N, T', C).

``protocol`` is the interface; ``zipformer`` and ``zipformer1`` are the encoders. ``masks``
(padding, chunks, lengths) and ``relative_attention`` are shared. Inside an encoder tensors are
time-first, (T', N, C): convolutions, products with attention weights and masks then need no copies.
Attribute names are those of published checkpoints, so that their state dicts fit.
"""
