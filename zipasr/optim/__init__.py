"""Optimizer and learning rate: gradients in, changed parameters out.

``param_groups`` decides which parameters are trained and how fast; ``scaled_adam`` is the
optimizer: ``parameter_batches`` stacks state by shape, ``clipping`` watches the gradient norm,
``update_math`` and ``update_kernels`` compute a step, ``backend`` chooses ``numba_update`` or
``triton_update`` for it; ``named_state`` finds state by name. ``eden`` schedules the learning rate.
``config`` has the flags.
"""
