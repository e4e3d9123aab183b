"""The Zipformer: stacks of layers at several frame rates, in the shape of a U.

Read ``config`` (sizes), ``front_end`` (100 Hz to 50 Hz), ``model`` (the stacks), ``stack`` (layers
at one rate), then ``layer`` with its blocks in ``attention`` and ``feedforward_convolution``;
``streaming`` runs a causal model chunk by chunk. ``prepared`` and ``prepared_layer`` compute the
same for recognition alone, faster. ``construction`` puts both together, reads the sizes off
weights, and has the layout of exported files.
"""
