"""Layers that any model may use.

Forward computation: ``activations``, ``fused`` (activation, dropout and projection in one),
``layers`` (linear and convolution, frames kept between chunks), ``bias_norm`` (on a GPU with
``triton_bias_norm``), ``lora``, ``masks``, ``autocast_weights`` (weights in the type of autocast).
Identity in the forward pass, acting on gradients: ``balancer``, ``whiten``, ``gradients``.
``schedule``: values that change while training, and dropout. ``numerics``: block sizes and number
formats of hand-written backward passes, which save inputs rather than intermediate results and
compute in float32 at least, and copies between devices; ``cuda_graph``: work on a GPU that is
replayed. Random choices come from Python's ``random``, masks from torch's default generator.
"""
