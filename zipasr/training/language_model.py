"""Train a language model on token sequences."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zipasr.base.config import to_dict
from zipasr.base.distributed import World, all_reduce_sum
from zipasr.base.errors import CheckpointError
from zipasr.base.progress import Progress
from zipasr.base.seed import fix_seeds, generator_for
from zipasr.checkpoint.checkpoint_file import (
    find_checkpoints,
    load_checkpoint,
    save_checkpoint,
    saved_epochs,
)
from zipasr.checkpoint.retention import remove_old
from zipasr.checkpoint.weights import StateDict, load_model, model_state
from zipasr.lm.config import LmSizes
from zipasr.lm.neural import NeuralLm, build_lm
from zipasr.lm.ngram_estimation import Sentences
from zipasr.text.config import SENTENCE_ENDS_ID
from zipasr.training.config import LmTrainConfig
from zipasr.training.gradient_reduction import GradientReducer
from zipasr.training.precision import Precision

logger = logging.getLogger(__name__)

_CLIP = 5.0
_TOKENS_AT_ONCE = 200
# A transformer starts with small steps: over so many updates, or epochs where these are fewer.
_WARM_UPDATES, _WARM_EPOCHS = 2000, 3
_LR = {"rnn": 1e-3, "transformer": 5e-4}


def train_lm(
    config: LmTrainConfig,
    sizes: LmSizes,
    train: Sentences,
    valid: Sentences,
    about: dict[str, Any],
    world: World,
) -> float:
    """Train and write ``epoch-N.pt`` after each epoch; go on after the newest one that is there.

    Within an epoch the newest state is ``checkpoint-N.pt``, N updates old; ``best-valid-loss.pt``
    is the best on ``valid`` so far. Several processes share the sentences of each update: they
    train as one does, but for what is dropped at random.

    Args:
        config: how long and how fast.
        sizes: of the model.
        train: token ids of each sentence.
        valid: the same, to validate on.
        about: entries for the checkpoints; ``vocab_size`` is V, ``token_table`` its hash.
        world: this process among the others.

    Returns:
        Perplexity per token on ``valid``, ends counted.

    Raises:
        CheckpointError: the folder has checkpoints of another model.
    """
    training = _Training(config, sizes, train, valid, about, world)
    epoch, place = training.restored()
    for number in range(epoch, config.num_epochs + 1):
        training.epoch(number, place)
        place = 0
    return training.perplexity()


class _Training:
    """Model, optimizer and data of a language model training; arguments as of ``train_lm``."""

    def __init__(
        self,
        config: LmTrainConfig,
        sizes: LmSizes,
        train: Sentences,
        valid: Sentences,
        about: dict[str, Any],
        world: World,
    ) -> None:
        self._config, self._sizes, self._about, self._world = config, sizes, about, world
        self._train, self._valid = train, valid
        self._batches = list(_batches(train, config.batch_size))
        fix_seeds(config.seed)
        self.model: NeuralLm = build_lm(about["vocab_size"], sizes, SENTENCE_ENDS_ID)
        self.model.to(world.device)
        self._precision = Precision(config, world.device)
        self._reducer = GradientReducer(self.model.parameters(), world)
        self._lr = config.lr or _LR[config.lm_type]
        self._optimizer = torch.optim.Adam(self.model.parameters(), lr=self._lr, weight_decay=1e-6)
        self._best = math.inf

    def restored(self) -> tuple[int, int]:
        """Return the epoch to go on with, and the place in it, after reading what there is."""
        folder = self._config.folder
        epochs = [folder / f"epoch-{n}.pt" for n in reversed(saved_epochs(folder))]
        damaged: CheckpointError | None = None
        # Checkpoints within an epoch are deleted at its end: one that is there is newer.
        for path in [*find_checkpoints(folder), *epochs]:
            try:
                stored = load_checkpoint(path)
                weights = model_state(stored, str(path))
            except CheckpointError as problem:
                what = problem.what.rstrip(".")
                logger.warning("%s; the one before it is used instead", what)
                damaged = damaged or problem
                continue
            return self._restore(path, stored, weights)
        if damaged is not None:
            raise CheckpointError(
                f"{folder} has no checkpoint to go on from: {damaged.what}",
                "choose another --exp-dir, or delete what is in it to start anew.",
            )
        return 1, 0

    def _restore(self, path: Path, stored: dict[str, Any], weights: StateDict) -> tuple[int, int]:
        if stored.get("token_table") != self._about["token_table"]:
            raise CheckpointError(
                f"{path} is a language model of other tokens.",
                "give another --exp-dir, or the --bpe-model that it was trained with.",
            )
        load_model(self.model, weights, path)
        try:
            self._optimizer.load_state_dict(stored["optimizer"])
            if stored.get("grad_scaler"):
                self._precision.scaler.load_state_dict(stored["grad_scaler"])
            self._best = float(stored["best_perplexity"])
            epoch, place = int(stored["epoch"]), int(stored["place"])
        except (KeyError, TypeError, ValueError) as problem:
            raise CheckpointError(
                f"{path} holds a language model without the state of its training.",
                "give another --exp-dir.",
            ) from problem
        logger.info("continuing after %s", path)
        return epoch, place

    def epoch(self, number: int, first: int) -> None:
        """Train on all batches from the place ``first`` in the order of this epoch."""
        config = self._config
        order = torch.randperm(len(self._batches), generator=generator_for(config.seed, number))
        total, num_tokens = 0.0, 0
        progress = Progress(f"epoch {number}", len(order), start=first, visible=self._world.is_main)
        with progress:
            for place, index in enumerate(order.tolist()[first:], start=first):
                update = (number - 1) * len(order) + place
                batch = [self._train[i] for i in self._batches[index]]
                loss, count = self._update(batch, update)
                total, num_tokens = total + loss, num_tokens + count
                progress.step(f"perplexity {math.exp(total / num_tokens):.2f}")
                if (update + 1) % config.save_every_n == 0 and place + 1 < len(order):
                    self._save(f"checkpoint-{update + 1}.pt", number, place + 1)
                    if self._world.is_main:
                        remove_old(config.folder, 1)
        if num_tokens:
            logger.info("epoch %d: perplexity %.3f", number, math.exp(total / num_tokens))
        self._save(f"epoch-{number}.pt", number + 1, 0)
        for path in find_checkpoints(config.folder) if self._world.is_main else ():
            path.unlink()

    def _update(self, batch: list[list[int]], update: int) -> tuple[float, int]:
        """Make one step; return the loss in nats and its number of tokens, ends counted."""
        self.model.train()
        for group in self._optimizer.param_groups:
            group["lr"] = self._lr * self._warmth(update)
        world, precision = self._world, self._precision
        fix_seeds(self._config.seed, update, world.rank)
        count = sum(len(ids) + 1 for ids in batch)
        share = batch[world.rank :: world.size]
        total = torch.zeros((), device=world.device)
        self._optimizer.zero_grad()
        if share:
            with precision.autocast():
                loss = self.model(share)
            total += loss.detach()
            with self._reducer.last_backward():
                # What is reduced is a mean over the processes.
                precision.backward(loss * (world.size / count))
        self._reducer.finish()
        precision.scaler.unscale_(self._optimizer)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), _CLIP)
        precision.step(self._optimizer, update % len(self._batches))
        return float(all_reduce_sum(total, world)), count

    def perplexity(self) -> float:
        """Return the perplexity per token of the sentences to validate on."""
        return perplexity(self.model, self._valid, self._config.batch_size, self._world)

    def _warmth(self, update: int) -> float:
        if self._config.lm_type == "rnn":
            return 1.0
        return min(1.0, (update + 1) / min(_WARM_UPDATES, _WARM_EPOCHS * len(self._batches)))

    def _save(self, name: str, epoch: int, place: int) -> None:
        """Write a checkpoint; training goes on with ``place`` in ``epoch``."""
        folder = self._config.folder
        value = self.perplexity()
        is_best, self._best = value < self._best, min(value, self._best)
        if not self._world.is_main:
            return
        logger.info("%s: perplexity %.3f on dev", name, value)
        entries = {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "grad_scaler": self._precision.scaler.state_dict(),
            "lm_type": self._config.lm_type,
            "lm_config": to_dict(self._sizes),
            "valid_perplexity": value,
            "best_perplexity": self._best,
            "epoch": epoch,
            "place": place,
        }
        save_checkpoint(folder / name, entries | self._about)
        if is_best:
            save_checkpoint(folder / "best-valid-loss.pt", entries | self._about)


@torch.no_grad()
def perplexity(model: NeuralLm, sentences: Sentences, batch_size: int, world: World) -> float:
    """Return the perplexity per token, ends counted; 1 is certainty, V is knowing nothing."""
    model.eval()
    total = torch.zeros((), dtype=torch.float64, device=world.device)
    for batch in islice(_batches(sentences, batch_size), world.rank, None, world.size):
        total += model([sentences[i] for i in batch])
    mean = all_reduce_sum(total, world) / max(len(sentences.ids) + len(sentences), 1)
    return math.exp(float(mean))


def _batches(sentences: Sentences, batch_size: int) -> Iterator[list[int]]:
    """Put sentences of like length together, longest first; fewer where they are long.

    Yields:
        The places of the sentences of a batch.
    """
    lens = sentences.lens
    ordered = np.argsort(-lens, kind="stable")
    place = 0
    while place < len(ordered):
        shares = int(lens[ordered[place]]) // _TOKENS_AT_ONCE + 1
        size = min(batch_size // shares + 1, batch_size)
        yield ordered[place : place + size].tolist()
        place += size
