"""Memory of a batch: estimated, and tried out before the first epoch."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from zipasr.base.constants import GIB
from zipasr.base.distributed import all_gather
from zipasr.base.environment import free_bytes, gpu_text, peak_and_total
from zipasr.base.errors import ResourceError
from zipasr.base.seed import seeded
from zipasr.data.dataset import Batch
from zipasr.data.epoch_plan import CutLengths, RowCost, make_plan
from zipasr.data.joined_utterances import pauses_of
from zipasr.encoder.protocol import SECONDS_PER_FEATURE_FRAME
from zipasr.model.build import shapes_of
from zipasr.nn.schedule import set_batch_count
from zipasr.training.session import Session, TrainConfigs
from zipasr.training.update import (
    LossScales,
    free_memory,
    is_out_of_memory,
    loss_scales,
    weighted_loss,
)

logger = logging.getLogger(__name__)

SHORTEST_PROBE = 0.5  # seconds
TOKENS_PER_SECOND = 4  # as many as fast speech has with 500 tokens
BYTES_PER_PARAMETER = 4
#: Of a GPU's memory; with less, it is told that other programs use it.
MOSTLY_FREE = 0.75
# Parameters, gradients and two moments of the optimizer.
COPIES_OF_PARAMETERS = 4


def check_model_fits(configs: TrainConfigs, vocab_size: int, device: torch.device) -> None:
    """Refuse a model that the device cannot hold, before memory is asked for.

    A GPU that other programs use is told.

    Raises:
        ResourceError: says how large it is, and how much memory there is.
    """
    have = peak_and_total(device)[1]
    fix = "lower --encoder-dim, --feedforward-dim or --num-encoder-layers."
    if device.type == "cuda":
        total, have = have, free_bytes(device)
        if have < MOSTLY_FREE * total:
            text = gpu_text(device.index or 0)
            logger.warning("GPU %s: other programs hold the rest; nvidia-smi names them", text)
            fix = f"end the programs that hold memory of GPU {device.index or 0}, or {fix}"
    try:
        model = shapes_of(configs.encoder, configs.model, vocab_size)
        count = sum(parameter.numel() for parameter in model.parameters())
    except RuntimeError as problem:  # more numbers than can be counted
        raise ResourceError(
            "the model is larger than any memory.", "lower --encoder-dim or --feedforward-dim."
        ) from problem
    need = count * BYTES_PER_PARAMETER * COPIES_OF_PARAMETERS
    if need > have:
        raise ResourceError(
            f"the model has {count:,} parameters; with gradients and optimizer they take "
            f"{need / GIB:.0f} GiB, and there are {have / GIB:.0f} GiB.",
            fix,
        )


class Size(NamedTuple):
    """Rows, duration and tokens of a batch.

    Attributes:
        rows: N utterances.
        seconds: of the longest one.
        tokens: of the longest transcript.
    """

    rows: int
    seconds: float
    tokens: int


class Noise(NamedTuple):
    """A batch of a given size that costs no reading, and its labels."""

    batch: Batch
    tokens: list[list[int]]


def noise_batch(session: Session, size: Size) -> Noise:
    """Return a batch of noise; the memory that it takes is that of speech of the same size."""
    frames = round(size.seconds / SECONDS_PER_FEATURE_FRAME)
    features = torch.randn(size.rows, frames, session.configs.encoder.geometry.mel_bins)
    ids = [3 + i % max(1, session.tokenizer.vocab_size - 3) for i in range(size.tokens)]
    batch = Batch(
        features=features,
        feature_lens=torch.full((size.rows,), frames),
        texts=[""] * size.rows,
        cut_ids=["noise"] * size.rows,
        seconds=size.rows * size.seconds,
        second_view=features.clone() if session.configs.model.use_cr_ctc else None,
    )
    return Noise(batch, [ids] * size.rows)


def final_loss_scales(session: Session) -> LossScales:
    """Return the weights after the warm-up, when all losses are computed."""
    configs = session.configs
    loss = configs.loss
    last = loss.ctc_only_batches + loss.warm_step
    return loss_scales(loss, configs.model, last, configs.encoder.losses)


def activation_bytes(session: Session, size: Size) -> int:
    """Count what the forward pass keeps for the backward pass.

    On a CPU that is the resident memory of a batch within 2 percent; a GPU needs some more for
    workspaces. The count is the same whenever it is made: schedules are at their start, where
    dropout keeps most, and random numbers and statistics are put back.
    """
    seen: dict[int, int] = {}

    def note(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        # The tensor itself would keep the operation that made it, which keeps this: for ever.
        return x.detach()

    before = session.own_state()
    set_batch_count(session.model, 0.0)
    session.model.train()
    with seeded(0):
        batch, tokens = noise_batch(session, size)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            weighted_loss(session, batch, tokens, final_loss_scales(session))
    session.load_own_state(before)
    own = {p.untyped_storage().data_ptr() for p in session.model.parameters()}
    return sum(count for pointer, count in seen.items() if pointer not in own)


def row_cost(session: Session, longest: float) -> RowCost:
    """Return the bytes that an utterance takes in a batch, from its padded length.

    ``a T + b T^2 + c S``: activations, attention, and the lattices, whose width and number of
    symbols (prune range, vocabulary) are those of the run. Counted for single utterances of three
    lengths and solved for the three numbers, none below zero.

    Args:
        session: its model is run, nothing in it changes.
        longest: seconds of the longest utterance.
    """
    longest = max(longest, 2 * SHORTEST_PROBE)
    most_tokens = int(longest * TOKENS_PER_SECOND)
    half = Size(1, longest / 2, most_tokens // 2)
    probes = [half, Size(1, longest, most_tokens // 2), Size(1, longest, most_tokens)]
    counts = [float(activation_bytes(session, probe)) for probe in probes]
    per_token = max(0.0, counts[2] - counts[1]) / max(1, most_tokens - most_tokens // 2)
    short, long = (count - per_token * half.tokens for count in counts[:2])
    squared = max(0.0, long / longest - short / half.seconds) / (longest - half.seconds)
    return RowCost(
        per_second=long / longest - squared * longest,
        per_second_squared=squared,
        per_token=per_token,
    )


def predicted_bytes(size: Size, cost: RowCost) -> float:
    """Return the estimate of the bytes of a batch."""
    return size.rows * cost(size.seconds, size.tokens)


def state_bytes(session: Session) -> int:
    """Return the bytes of parameters, gradients and optimizer, once all are there."""
    count = sum(p.numel() for p in session.model.parameters())
    return count * BYTES_PER_PARAMETER * COPIES_OF_PARAMETERS


NUM_CLASSES = 8  # of length, each with its largest batch
# What a GPU takes beside what the forward pass keeps, at least.
MARGIN = 1.1
NOTHING_FITS = "take a smaller model, or leave long utterances out with --max-cut-duration"


def batch_sizes(session: Session, lengths: CutLengths) -> list[Size]:
    """Return the size of every batch of an epoch, over all processes.

    Where epochs to come have other numbers of copies than the one in progress, the batches of one
    epoch of each number are among them. Of batches whose utterances are joined and get pauses in
    some epochs, as many as have them on average.
    """
    start = session.state.cur_epoch
    epochs = session.configs.train.epochs.first_of_each(start) or {0: start}
    return [size for epoch in epochs.values() for size in _sizes_of(session, lengths, epoch)]


def _sizes_of(session: Session, lengths: CutLengths, epoch: int) -> Iterator[Size]:
    layout = session.layout_of(epoch)
    configs = session.configs
    plan = make_plan(lengths, layout, seed=configs.train.seed, epoch=epoch)
    last, begin = len(configs.train.epochs), configs.augment.pause_start_epoch
    share = (last - max(begin, epoch) + 1) / max(1, last - epoch + 1)
    pauses = pauses_of(configs.augment, last, configs.data.max_cut_duration)
    draws = np.random.default_rng(configs.train.seed)
    for step, rank in itertools.product(range(len(plan)), range(layout.world_size)):
        batch = plan.batch(step, rank)
        longest, most = float(lengths.seconds[batch].max()), int(lengths.tokens[batch].max())
        rows = len(batch)
        if pauses is not None and draws.random() < share:
            rows, seconds = pauses.padded_size(rows, longest, draws)
            most, longest = math.ceil(most * len(batch) / rows), seconds
        yield Size(rows * layout.copies, longest, most)


def largest(sizes: Iterable[Size], cost: RowCost, num_classes: int = NUM_CLASSES) -> list[Size]:
    """Return the costliest batch of each class of similar length, the costliest of all first."""
    by_length = sorted(set(sizes), key=lambda size: size.seconds)
    step = math.ceil(len(by_length) / num_classes)
    classes = (by_length[i : i + step] for i in range(0, len(by_length), max(1, step)))
    found = [max(members, key=lambda size: predicted_bytes(size, cost)) for members in classes]
    return sorted(found, key=lambda size: -predicted_bytes(size, cost))


def rehearse(session: Session, sizes: Sequence[Size]) -> None:
    """See that the largest batches fit, on all processes together.

    On a GPU the largest batch of each class of length is run forward and backward, without an
    update, as noise of the same size; after a resume only the largest of all, since the run has
    seen the others. On a CPU nothing is run but single utterances, whose count is accurate there,
    and where a system would rather end a process than refuse memory: the largest batch is compared
    with what is free. The model's statistics, gradients and random numbers are as before.

    Args:
        session: at its start, or just resumed.
        sizes: of all batches of an epoch.

    Raises:
        ResourceError: a batch does not fit; in all processes, with the --max-duration that would.
    """
    if not sizes:
        return
    cost = row_cost(session, max(size.seconds for size in sizes))
    found = largest(sizes, cost)
    if session.world.device.type == "cuda":
        chosen = found[:1] if session.state.batch_idx_train else found
        problem = try_largest_batches(session, chosen, cost)
    else:
        problem = _compare(session, found[0], cost)
    told = next((one for one in all_gather(problem, session.world) if one is not None), None)
    if told is not None:
        raise ResourceError(*told)


def fitting_duration(size: Size, cost: RowCost, room: float) -> int:
    """Return the --max-duration with which batches like ``size`` fit safely into ``room`` bytes.

    0 when one utterance of that length does not fit alone.
    """
    rows = int(room / MARGIN / max(cost(size.seconds, size.tokens), 1.0))
    return int(min(rows, size.rows) * size.seconds)


def try_largest_batches(
    session: Session, sizes: Sequence[Size], cost: RowCost
) -> tuple[str, str] | None:
    """Run batches of these sizes; say what is wrong and what to do at the first that fails."""
    device, own = session.world.device, session.own_state()
    set_batch_count(session.model, session.state.shown_schedule_count)
    session.model.train()
    before = free_bytes(device)
    ballast = None
    if not session.optimizer.state:
        # The optimizer takes this with the first update, and a batch must fit beside it.
        ballast = torch.empty(state_bytes(session) // 2, dtype=torch.uint8, device=device)
    problem = None
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus), seeded(session.configs.train.seed):
        for size in sizes:
            if not fits_in_memory(session, size):
                problem = _advice(session, size, cost, before - state_bytes(session))
                break
    del ballast
    session.load_own_state(own)
    session.optimizer.zero_grad()
    free_memory(device)
    return problem


def fits_in_memory(session: Session, size: Size) -> bool:
    """Run a batch of this size forward and backward and say whether there was memory for it."""
    device = session.world.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        batch, tokens = noise_batch(session, size)
        loss, _ = weighted_loss(session, batch, tokens, final_loss_scales(session))
        session.precision.backward(loss)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return False
    if device.type == "cuda":
        peak, total = peak_and_total(device)
        logger.info(
            "rehearsed %d utterances of %.1f s: %.2f GiB of %.2f GiB",
            size.rows,
            size.seconds,
            peak / GIB,
            total / GIB,
        )
    return True


def room_for_batch(session: Session, processes: int) -> float:
    """Return the bytes that a batch may take, in each of ``processes`` that share the device.

    What the optimizer takes with the first update is left out.
    """
    state = 0 if session.optimizer.state else state_bytes(session) * 3 // 4
    return free_bytes(session.world.device) / processes - state


def _compare(session: Session, size: Size, cost: RowCost) -> tuple[str, str] | None:
    """Compare the estimate of a batch with what this process can have of the free memory."""
    room = room_for_batch(session, session.world.size)
    logger.info(
        "largest batch: %d utterances of %.1f s, about %.2f GiB of %.2f GiB that are free",
        size.rows,
        size.seconds,
        predicted_bytes(size, cost) / GIB,
        room / GIB,
    )
    return None if predicted_bytes(size, cost) <= room else _advice(session, size, cost, room)


def _advice(session: Session, size: Size, cost: RowCost, room: float) -> tuple[str, str]:
    """Return what is wrong and what to do about a batch that does not fit."""
    fitting = fitting_duration(size, cost, room)
    what = (
        f"a batch of {size.rows} utterances of {size.seconds:.1f} s takes about "
        f"{predicted_bytes(size, cost) / GIB:.2f} GiB beside the model; "
        f"process {session.world.rank} has "
        f"{max(room, 0.0) / GIB:.2f} GiB for it."
    )
    if fitting == 0:
        return what, f"{NOTHING_FITS}."
    return what, (
        f"--max-duration {fitting} (with --accumulate an update can be as large as before); "
        "--rehearse 0 starts without this check."
    )
