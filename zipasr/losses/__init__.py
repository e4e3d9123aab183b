"""Losses: tensors to negative log-probabilities; no modules, no parameters.

A transducer sums over all alignments of S tokens to T' frames. Training takes two steps: ``simple``
scores the whole grid with an additive joiner, ``pruned`` finds the R labels per frame that matter
and takes the joiner's logits on that band. ``recursion`` defines the sums in plain PyTorch,
``transducer_lattice`` makes them differentiable; ``backend`` chooses ``numba_backend``,
``triton_backend`` or plain PyTorch. ``ctc`` has the CTC loss and the consistency loss, ``config``
the names that flags choose.

The names below and their arguments are k2's, so that code moves over unchanged. They are imported
when they are asked for: the flags need ``config`` alone, and must not wait for torch.
"""

from typing import TYPE_CHECKING

from zipasr.base.lazy import lazy_names

__all__ = [
    "consistency_loss",
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

if TYPE_CHECKING:
    from zipasr.losses.ctc import consistency_loss, ctc_loss
    from zipasr.losses.pruned import (
        do_rnnt_pruning,
        get_rnnt_prune_ranges,
        rnnt_loss,
        rnnt_loss_pruned,
        tanh_of_pruned_sums,
    )
    from zipasr.losses.simple import rnnt_loss_simple, rnnt_loss_smoothed
    from zipasr.losses.transducer_lattice import mutual_information_recursion
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "ctc": ["consistency_loss", "ctc_loss"],
            "transducer_lattice": ["mutual_information_recursion"],
            "pruned": [
                "do_rnnt_pruning",
                "get_rnnt_prune_ranges",
                "rnnt_loss",
                "rnnt_loss_pruned",
                "tanh_of_pruned_sums",
            ],
            "simple": ["rnnt_loss_simple", "rnnt_loss_smoothed"],
        },
    )
