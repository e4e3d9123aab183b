"""Train a recurrent language model on token sequences."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from zipasr.base.config import flag, to_dict
from zipasr.base.progress import Progress
from zipasr.checkpoint.files import load_checkpoint, save_checkpoint, saved_epochs
from zipasr.checkpoint.language_model import SENTENCE_ENDS_ID
from zipasr.lm.rnn import RnnLm, RnnLmConfig
from zipasr.lm.text import Sentences

_CLIP = 5.0
_TOKENS_AT_ONCE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class LmTrainConfig:
    """Training of a language model."""

    lm_type: Literal["rnn", "ngram"] = flag("rnn", "kind of the language model")
    exp_dir: Path = flag(Path("rnn_lm_exp"), "folder of the checkpoints")
    lm_data: Path | None = flag(None, "text to train on, a sentence a line; none: data/RECIPE/lm")
    lm_data_valid: Path | None = flag(None, "text to validate on; none: data/RECIPE/lm")
    num_epochs: int = flag(30, "passes over the text")
    batch_size: int = flag(400, "sentences of an update; fewer where they are long")
    lr: float = flag(1e-3, "step size of Adam")
    seed: int = flag(42, "of initial weights and of the order of the batches")

    def __post_init__(self) -> None:
        if self.num_epochs < 1 or self.batch_size < 1 or not self.lr > 0:
            raise ValueError("--num-epochs, --batch-size and --lr must be positive")


def train_rnn_lm(
    config: LmTrainConfig,
    sizes: RnnLmConfig,
    train: Sentences,
    valid: Sentences,
    about: dict[str, Any],
) -> float:
    """Train and write ``epoch-N.pt`` after each epoch; go on after the newest one that is there.

    Args:
        config: how long and how fast.
        sizes: of the model.
        train: token ids of each sentence.
        valid: the same, to validate on.
        about: entries for the checkpoints; ``vocab_size`` is V.

    Returns:
        Perplexity per token on ``valid``, ends counted.
    """
    torch.manual_seed(config.seed)
    model = RnnLm(about["vocab_size"], sizes, SENTENCE_ENDS_ID)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, weight_decay=1e-6)
    done = max(saved_epochs(config.exp_dir), default=0)
    if done:
        stored = load_checkpoint(config.exp_dir / f"epoch-{done}.pt")
        model.load_state_dict(stored["model"])
        optimizer.load_state_dict(stored["optimizer"])
        logging.info("continuing after epoch %d", done)
    value = perplexity(model, valid, config.batch_size)
    for epoch in range(done + 1, config.num_epochs + 1):
        loss = _one_epoch(model, optimizer, train, config, epoch)
        value = perplexity(model, valid, config.batch_size)
        logging.info(
            "epoch %d: perplexity %.3f in training, %.3f on dev", epoch, math.exp(loss), value
        )
        entries = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "lm_config": to_dict(sizes),
            "valid_perplexity": value,
        }
        save_checkpoint(config.exp_dir / f"epoch-{epoch}.pt", entries | about)
    return value


@torch.no_grad()
def perplexity(model: RnnLm, sentences: Sentences, batch_size: int) -> float:
    """Return the perplexity per token, ends counted; 1 is certainty, V is knowing nothing."""
    model.eval()
    total = sum(
        float(model([sentences[i] for i in batch])) for batch in _batches(sentences, batch_size)
    )
    return math.exp(total / max(len(sentences.ids) + len(sentences), 1))


def _one_epoch(
    model: RnnLm,
    optimizer: torch.optim.Optimizer,
    sentences: Sentences,
    config: LmTrainConfig,
    epoch: int,
) -> float:
    """Return the mean loss per token, in nats."""
    model.train()
    batches = list(_batches(sentences, config.batch_size))
    generator = torch.Generator().manual_seed(config.seed + epoch)
    total, num_tokens = 0.0, 0
    with Progress(f"epoch {epoch}", len(batches)) as progress:
        for index in torch.randperm(len(batches), generator=generator).tolist():
            batch = [sentences[i] for i in batches[index]]
            count = sum(len(ids) + 1 for ids in batch)
            loss = model(batch)
            optimizer.zero_grad()
            (loss / count).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
            optimizer.step()
            total, num_tokens = total + float(loss.detach()), num_tokens + count
            progress.step(f"perplexity {math.exp(total / num_tokens):.2f}")
    return total / max(num_tokens, 1)


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
