"""Encoders: features (N, T, 80) to a shorter sequence of vectors (N, T', C).

``protocol`` is what others ask of an encoder, ``registry`` lists them: ``zipformer`` and
``zipformer1``. ``inference`` has the shapes of weights that a configuration is read off;
``chunks``, ``masks`` (padding, lengths), ``relative_attention`` and ``stream_states`` are shared.
Inside an encoder tensors are time-first, (T', N, C): convolutions, products with attention weights
and masks then need no copies. Attribute names are those of published checkpoints, so that their
state dicts fit.
"""
