"""Losses: tensors to negative log-probabilities; no modules, no parameters.

A transducer sums over all alignments of S tokens to T' frames. Training takes two steps: ``simple``
scores the whole grid with an additive joiner, ``pruning`` finds the R labels per frame that matter,
and ``pruned`` takes the joiner's logits on that band. ``recursion`` defines the sums in plain
PyTorch, ``lattice`` makes them differentiable; ``backend`` chooses ``numba_backend``,
``triton_backend`` or plain PyTorch. ``ctc`` has the CTC loss and the consistency loss, ``config``
the names that flags choose.

The names below and their arguments are k2's, so that code moves over unchanged. They are imported
when they are asked for: the flags need ``config`` alone, and must not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zipasr.losses.ctc import ctc_loss
    from zipasr.losses.lattice import mutual_information_recursion
    from zipasr.losses.pruned import rnnt_loss, rnnt_loss_pruned
    from zipasr.losses.pruning import do_rnnt_pruning, get_rnnt_prune_ranges, tanh_of_pruned_sums
    from zipasr.losses.simple import rnnt_loss_simple, rnnt_loss_smoothed

_MODULES = {
    "ctc_loss": "ctc",
    "do_rnnt_pruning": "pruning",
    "get_rnnt_prune_ranges": "pruning",
    "mutual_information_recursion": "lattice",
    "rnnt_loss": "pruned",
    "rnnt_loss_pruned": "pruned",
    "rnnt_loss_simple": "simple",
    "rnnt_loss_smoothed": "simple",
    "tanh_of_pruned_sums": "pruning",
}

__all__ = [
    "ctc_loss",
    "do_rnnt_pruning",
    "get_rnnt_prune_ranges",
    "mutual_information_recursion",
    "rnnt_loss",
    "rnnt_loss_pruned",
    "rnnt_loss_simple",
    "rnnt_loss_smoothed",
    "tanh_of_pruned_sums",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is used for the first time (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
