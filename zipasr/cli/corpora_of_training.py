"""Flags that say together which corpora are trained on, and which heads each of them has."""

from __future__ import annotations

from dataclasses import replace

from zipasr.base.errors import UserError
from zipasr.cli.flags import Run
from zipasr.data.gigaspeech import NAME as GIGA
from zipasr.data.loaders import DataConfig
from zipasr.model.build import ModelConfig

PUBLISHED_GIGA_PROB = 0.5  # of pruned_transducer_stateless8, where nothing else is typed


def with_heads_of_corpora(run: Run) -> Run:
    """Let ``--giga-prob`` and ``--own-heads`` agree.

    The first gives GigaSpeech a transducer of its own; ``--own-heads giga`` alone takes the
    published share of the batches.

    Raises:
        UserError: ``--own-heads`` names no corpus that is trained on.
    """
    data, model = run[DataConfig], run[ModelConfig]
    names = {extra.name for extra in data.extras}
    if model.own_heads == GIGA and GIGA not in names and data.giga_prob is None:
        data = replace(data, giga_prob=PUBLISHED_GIGA_PROB)
    if data.giga_prob is not None:
        names.add(GIGA)
        if model.use_transducer and not model.own_heads:
            model = replace(model, own_heads=GIGA)
    if model.own_heads and model.own_heads not in names:
        raise UserError(
            f"--own-heads {model.own_heads}: no corpus of that name is trained on.",
            f"add it: --extra-manifest {model.own_heads}=PATH:WEIGHT.",
        )
    return run.having(data, model)
