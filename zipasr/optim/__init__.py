"""Optimizer and learning rate: gradients in, changed parameters out.

``build`` decides which parameters are trained and how fast, and makes the optimizer and the
schedule that the flags in ``config`` ask for.

``scaled_adam`` is the usual optimizer: ``parameter_batches`` stacks state by shape and chooses what
computes a step: ``update_math`` (which clips gradients too) with ``update_kernels`` or
``compiled_update``. ``schedules`` has its learning rate, Eden.

``rubik`` is the newer one: ``rubik_rules`` has the steps of matrices, vectors and scalars, which
processes compute together on a CPU by ``shared_matrices``. Its learning rate is in ``schedules``
too, InterpCosine.

``named_optimizer`` and ``named_state`` are common to both: state is found by name.

For training loops of one's own: ``ScaledAdam`` with ``Eden``, ``BatchedRubik`` with
``InterpCosine``, ``parameter_groups``; see docs/parts.md.
"""

from typing import TYPE_CHECKING

from zipasr.base.lazy import lazy_names

__all__ = [
    "BatchedRubik",
    "Eden",
    "InterpCosine",
    "ScaledAdam",
    "ScaledAdamV1",
    "eden_factor",
    "interp_cosine_factor",
    "parameter_groups",
]

if TYPE_CHECKING:
    from zipasr.optim.build import parameter_groups
    from zipasr.optim.rubik import BatchedRubik
    from zipasr.optim.scaled_adam import ScaledAdam, ScaledAdamV1
    from zipasr.optim.schedules import Eden, InterpCosine, eden_factor, interp_cosine_factor
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "build": ["parameter_groups"],
            "rubik": ["BatchedRubik"],
            "scaled_adam": ["ScaledAdam", "ScaledAdamV1"],
            "schedules": ["Eden", "InterpCosine", "eden_factor", "interp_cosine_factor"],
        },
    )
