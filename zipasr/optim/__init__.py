"""Optimizer and learning rate: gradients in, changed parameters out.

``param_groups`` decides which parameters are trained and how fast; ``scaled_adam`` is the
optimizer: ``parameter_batches`` stacks state by shape, ``clipping`` watches the gradient norm,
``update_math`` and ``update_kernels`` compute a step, ``backend`` chooses ``numba_update`` or
``triton_update`` for it; ``named_state`` finds state by name. ``eden`` schedules the learning rate.
``config`` has the flags.

For training loops of one's own: ``ScaledAdam``, ``Eden``, ``parameter_groups``; see docs/parts.md.
"""

from typing import TYPE_CHECKING

from zipasr.base.lazy import lazy_names

__all__ = [
    "Eden",
    "ScaledAdam",
    "ScaledAdamV1",
    "eden_factor",
    "parameter_groups",
]

if TYPE_CHECKING:
    from zipasr.optim.eden import Eden, eden_factor
    from zipasr.optim.param_groups import parameter_groups
    from zipasr.optim.scaled_adam import ScaledAdam, ScaledAdamV1
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "eden": ["Eden", "eden_factor"],
            "param_groups": ["parameter_groups"],
            "scaled_adam": ["ScaledAdam", "ScaledAdamV1"],
        },
    )
