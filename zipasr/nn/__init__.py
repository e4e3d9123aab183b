"""Layers that steer activations and gradients, with no knowledge of the encoder.

Values that change while training (schedule) feed all other modules. Activations, the
fused projection, BiasNorm and the dropouts are what the forward pass computes; Balancer,
Whiten and the functions of ``gradients`` are the identity forwards and act on gradients only.
Every backward is written out by hand: it saves inputs rather than intermediate results, and
computes in float32 at least. Large tensors are worked on in ``blocks`` that fit a cache; the
loops of the activations (``swoosh``) are ``compiled`` where numba is installed. Coins come from
Python's ``random``, one per call; masks from torch's default generator. Nothing but BiasNorm
and the linear layers has state-dict keys.
"""
