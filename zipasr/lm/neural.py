"""The language models that are trained step by step: which there are, and what they share."""

from __future__ import annotations

from typing import TypeAlias

from zipasr.lm.config import LmSizes, RnnLmConfig
from zipasr.lm.rnn import RnnLm
from zipasr.lm.transformer import TransformerLm

NeuralLm: TypeAlias = RnnLm | TransformerLm


def build_lm(vocab_size: int, sizes: LmSizes, sentence_ends_id: int) -> NeuralLm:
    """Return a new model of V tokens, in training mode on the CPU."""
    if isinstance(sizes, RnnLmConfig):
        return RnnLm(vocab_size, sizes, sentence_ends_id)
    return TransformerLm(vocab_size, sizes, sentence_ends_id)
