"""Word errors on some utterances of the dev set, by a search that is handed in."""

from __future__ import annotations

from collections.abc import Callable

import torch
from lhotse import CutSet

from zipasr.base.distributed import all_reduce_sum
from zipasr.base.seed import seeded
from zipasr.data.dataset import Batch
from zipasr.data.loaders import valid_loader
from zipasr.data.manifests import evenly_spread
from zipasr.scoring.word_errors import WordErrors, count_errors
from zipasr.training.session import Session

#: Says what the N utterances of a batch are; the model is in evaluation mode. Training does not
#: know how one searches: the command line gives it a function that does.
Recognise = Callable[[Session, Batch], list[str]]


def dev_errors(session: Session, cuts: CutSet, recognise: Recognise) -> WordErrors:
    """Count the errors in ``--valid-wer-cuts`` of ``cuts``; each process transcribes its share.

    Args:
        session: its model as it is now, not the average; it is left in training mode.
        cuts: the dev set.
        recognise: transcribes a batch.
    """
    world, configs = session.world, session.configs
    some = evenly_spread(cuts, configs.train.valid_wer_cuts)
    loader = valid_loader(some, configs.data, rank=world.rank, world_size=world.size)
    pairs = []
    session.model.eval()
    # A causal model draws chunks here as well: the same ones every time.
    with torch.inference_mode(), seeded(configs.train.seed, world.rank):
        for batch in loader:
            hypotheses = recognise(session, batch)
            pairs += [
                (text.split(), found.split())
                for text, found in zip(batch.texts, hypotheses, strict=True)
            ]
    session.model.train()
    mine = torch.tensor(count_errors(pairs), dtype=torch.float64, device=world.device)
    return WordErrors(*(int(count) for count in all_reduce_sum(mine, world).tolist()))
