"""The loss on held-out speech."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from zipasr.base.distributed import all_reduce_sum
from zipasr.base.seed import seeded
from zipasr.data.dataset import Batch
from zipasr.training.metrics import Metrics
from zipasr.training.session import Session
from zipasr.training.step import LOSS_NAMES, compute_loss, loss_scales

NAMES = ["loss", *LOSS_NAMES]


def validation_loss(session: Session, loader: Iterable[Batch]) -> Metrics:
    """Sum the losses of all batches over all processes, in eval mode and float32.

    The weights are those of the current training batch, so values before and after the warm-up do
    not compare; the unscaled parts do. There is one view of each utterance, so consistency has no
    value here.
    """
    configs, total = session.configs, Metrics()
    scales = loss_scales(configs.loss, configs.model, session.state.batch_idx_train)
    session.model.eval()
    # A causal model draws chunks here as well: the same ones in every validation.
    with torch.no_grad(), seeded(configs.train.seed, session.world.rank):
        for batch in loader:
            tokens = session.tokenizer.encode(batch.texts)
            batch = batch.to(session.world.device)
            # The bare model: processes may have different numbers of batches here.
            _, metrics = compute_loss(session.model, batch, tokens, scales, configs.transducer)
            total.add(metrics)
    session.model.train()
    sums = all_reduce_sum(total.as_tensor(NAMES, session.world.device), session.world)
    merged = Metrics.from_tensor(sums, NAMES)
    merged.sums = {name: value for name, value in merged.sums.items() if name in total.sums}
    return merged
