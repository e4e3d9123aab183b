"""One parameter update: losses of its batches and their gradients, halved when memory is short."""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from zipasr.base.distributed import all_reduce_sum
from zipasr.base.errors import ResourceError
from zipasr.base.seed import fix_seeds
from zipasr.data.dataset import Batch
from zipasr.encoder.protocol import USUAL_LOSSES, Geometry, LossStyle
from zipasr.losses.config import RnntType
from zipasr.model.config import ModelConfig, TransducerConfig
from zipasr.model.inputs import unalignable
from zipasr.model.transducer import AsrLosses
from zipasr.training.config import LossConfig
from zipasr.training.metrics import Metrics
from zipasr.training.session import Session

logger = logging.getLogger(__name__)

#: What the losses are called in logs, in the order of ``AsrLosses``.
LOSS_NAMES = ("simple_loss", "pruned_loss", "ctc_loss", "attn_decoder_loss", "cr_loss")


class LossScales(NamedTuple):
    """Weights at one batch, in the order of ``AsrLosses``."""

    simple: float = 0.0
    pruned: float = 0.0
    ctc: float = 0.0
    attention_decoder: float = 0.0
    cr: float = 0.0


def loss_scales(
    config: LossConfig, model: ModelConfig, batch: int, style: LossStyle = USUAL_LOSSES
) -> LossScales:
    """Weights at ``batch`` (from 1).

    Simple falls from 1 and pruned rises from 0.1 to 1, or as the ``style`` of the encoder has it;
    consistency rises from 0, the others are constant. Early on the pruning bounds come from a
    model that knows nothing, so the unpruned loss has to lead (Kuang et al., arXiv:2206.13236).
    Batches that train CTC alone do not count.
    """
    has_other_heads = model.use_transducer or model.use_attention_decoder
    ctc = config.ctc_loss_scale if has_other_heads else 1.0
    done = batch - config.ctc_only_batches
    if done <= 0:
        return LossScales(ctc=ctc)
    progress = min(done / config.warm_step, 1.0)
    start = config.simple_loss_scale if style.simple_start is None else style.simple_start
    return LossScales(
        simple=start + progress * (config.simple_loss_scale - start),
        pruned=style.pruned_start + (1.0 - style.pruned_start) * progress,
        ctc=ctc,
        attention_decoder=config.attention_decoder_loss_scale,
        cr=progress * config.cr_loss_scale,
    )


def compute_loss(
    model: nn.Module,
    batch: Batch,
    tokens: Sequence[Sequence[int]],
    scales: LossScales,
    transducer: TransducerConfig,
    geometry: Geometry,
) -> tuple[Tensor, Metrics]:
    """Run the model and weigh its losses.

    Args:
        model: an ``AsrModel``, possibly wrapped for distributed training.
        batch: features on the model's device.
        tokens: N lists of token ids.
        scales: weights at this batch; while the transducer has none, only CTC is computed.
        transducer: settings of the transducer loss.
        geometry: of the encoder.

    Returns:
        The sum over the batch, to differentiate, and the unscaled sums with the count of frames.
    """
    losses: AsrLosses = model(
        batch.features,
        batch.feature_lens,
        tokens,
        transducer,
        ctc_only=scales.pruned == 0,
        second_view=batch.second_view,
        corpus=batch.corpus,
    )
    weighted = [
        (name, value, scale)
        for name, value, scale in zip(LOSS_NAMES, losses, scales, strict=True)
        if value is not None
    ]
    total = sum((scale * value for _, value, scale in weighted), start=losses_zero(batch))
    lens = [geometry.output_lens(n) for n in batch.feature_lens.tolist()]
    _warn_unalignable(batch, tokens, lens, transducer.rnnt_type, losses)
    frames = float((batch.feature_lens // geometry.subsampling).sum())
    sums = {"loss": total, **{name: value for name, value, _ in weighted}}
    return total, Metrics.of_losses(frames, sums)


def _warn_unalignable(
    batch: Batch,
    tokens: Sequence[Sequence[int]],
    lens: Sequence[int],
    rnnt_type: RnntType,
    losses: AsrLosses,
) -> None:
    """Warn of utterances that a lattice cannot align: they count 0, where a sum would be inf."""
    kind = "regular" if losses.pruned is None else rnnt_type
    left_out = unalignable(tokens, lens, kind, ctc=losses.ctc is not None)
    if left_out:
        text = "%d of %d utterances have too few frames for their text and count 0: %s"
        cuts = " ".join(batch.cut_ids[n] for n in left_out)
        logger.warning(text, len(left_out), len(tokens), cuts)


def losses_zero(batch: Batch) -> Tensor:
    """Return a zero on the batch's device to start a sum of losses from."""
    return batch.features.new_zeros(())


# How allocators outside of CUDA say that there is no memory, in a plain RuntimeError.
NO_MEMORY = ("DefaultCPUAllocator", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


class BatchPart(NamedTuple):
    """A batch, or some of its utterances, with the keys of its random draws."""

    batch: Batch
    keys: tuple[int, ...]


class PartLoss(NamedTuple):
    """Metrics of a part."""

    batch: Batch
    metrics: Metrics

    @property
    def is_finite(self) -> bool:
        """Whether the loss is a number to learn from."""
        return math.isfinite(self.metrics.sums["loss"])


class Gradients(NamedTuple):
    """Outcome of ``compute_gradients``.

    Attributes:
        parts: of this process, in the order of its batches.
        splits: parts that did not fit into memory and were halved, over all processes.
        not_finite: parts whose loss is not finite, over all processes; with one, there are no
            gradients to use.
    """

    parts: list[PartLoss]
    splits: int
    not_finite: int

    @property
    def metrics(self) -> Metrics:
        """Sums over the parts; not finite where a part is not."""
        frames = sum(part.metrics.frames for part in self.parts)
        names = {name for part in self.parts for name in part.metrics.sums}
        return Metrics(
            frames, **{n: sum(part.metrics.sums.get(n, 0.0) for part in self.parts) for n in names}
        )


def compute_gradients(session: Session, batches: Sequence[Batch]) -> Gradients:
    """Leave in the parameters the mean over the processes of the sum over ``batches``.

    Gradients are sent while the last backward pass goes on, in the same order from all processes:
    one that needs more attempts keeps the others waiting, not stuck. A batch that does not fit into
    memory is halved along its utterances, and the halves again, down to one utterance. Losses are
    sums, so the gradient is the one of the whole; what layers draw at random or measure over a
    batch is drawn and measured in each part.

    Args:
        session: its optimizer's gradients are replaced; nothing else changes.
        batches: of this process.

    Raises:
        ResourceError: one utterance alone does not fit.
    """
    state, world, configs = session.state, session.world, session.configs
    scales = loss_scales(configs.loss, configs.model, state.batch_idx_train, configs.encoder.losses)
    place = (configs.train.seed, state.cur_epoch, world.rank)
    parts = [BatchPart(batch, (*place, state.batches_done + i)) for i, batch in enumerate(batches)]
    splits, done = 0, False
    while not done:
        session.optimizer.zero_grad()
        measured: list[PartLoss] = []
        loss: Tensor | None = None
        try:
            for number, (batch, keys) in enumerate(parts, start=1):
                fix_seeds(*keys)
                tokens = session.tokenizer.encode(batch.texts)
                with session.precision.autocast():
                    loss, metrics = compute_loss(
                        session.model,
                        batch.to(world.device),
                        tokens,
                        scales,
                        configs.transducer,
                        configs.encoder.geometry,
                    )
                is_last = number == len(parts)
                with session.reducer.last_backward() if is_last else nullcontext():
                    session.precision.backward(loss)
                measured.append(PartLoss(batch, metrics))
            done = True
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        if not done:
            loss = None  # it holds the tensors of the forward pass, which fill the memory
            parts = halve(parts, len(measured))
            splits += 1
            free_memory(world.device)
    session.reducer.finish()
    # The one wait for a device: with the norms of the gradients come the losses.
    session.precision.measure(session.optimizer)
    bad = sum(not part.is_finite for part in measured)
    if world.size > 1:
        news = torch.tensor([float(splits), float(bad)], device=world.device)
        splits, bad = (int(value) for value in all_reduce_sum(news, world).tolist())
    return Gradients(measured, splits, bad)


def try_batch(session: Session, batch: Batch) -> None:
    """Compute the gradients of a batch on this process alone, and leave them there."""
    session.optimizer.zero_grad()
    weighted_loss(session, batch)[0].backward()  # type: ignore[no-untyped-call]


def weighted_loss(
    session: Session,
    batch: Batch,
    tokens: Sequence[Sequence[int]] | None = None,
    scales: LossScales | None = None,
) -> tuple[Tensor, Metrics]:
    """Run the model in the precision of the run; see ``compute_loss``.

    Args:
        session: nothing in it changes.
        batch: on any device.
        tokens: N lists of token ids; those of its texts if not given.
        scales: weights; those of the update in progress if not given.
    """
    configs = session.configs
    if tokens is None:
        tokens = session.tokenizer.encode(batch.texts)
    if scales is None:
        scales = loss_scales(
            configs.loss, configs.model, session.state.batch_idx_train, configs.encoder.losses
        )
    with session.precision.autocast():
        moved = batch.to(session.world.device)
        geometry = configs.encoder.geometry
        return compute_loss(session.model, moved, tokens, scales, configs.transducer, geometry)


def halve(parts: Sequence[BatchPart], index: int) -> list[BatchPart]:
    """Put two halves in the place of ``parts[index]``.

    Raises:
        ResourceError: it is a single utterance.
    """
    batch, keys = parts[index]
    if len(batch) < 2:
        raise ResourceError(
            f"utterance {batch.cut_ids[0]} ({batch.seconds:.1f} s) alone does not fit into memory.",
            "leave longer ones out with --max-cut-duration, or train a smaller model.",
        )
    middle = (len(batch) + 1) // 2
    logger.warning(
        "a batch of %d utterances, %d frames each, does not fit into memory: computed in halves",
        len(batch),
        batch.features.size(1),
    )
    halves = [
        BatchPart(batch.part(0, middle), (*keys, 0)),
        BatchPart(batch.part(middle, len(batch)), (*keys, 1)),
    ]
    return [*parts[:index], *halves, *parts[index + 1 :]]


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an allocation failed, on a GPU or on the host."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)


def free_memory(device: torch.device) -> None:
    """Give memory back after a failed attempt, so that the next finds it in one piece."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
