"""A transformer that is asked again and again: what it made of the beginnings is kept."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zipasr.lm.transformer import TransformerLm

Tokens = tuple[int, ...]

# What may be kept: bytes of keys and values, and token sequences.
_MOST_BYTES, _MOST_SEQUENCES = 2 * 2**30, 200_000


class Prefixes:
    """Scores of what follows token sequences, most of which continue one that was asked before.

    For every sequence the keys and values of its last token are kept, so that a longer one costs
    the model one step. Hypotheses of a search share their beginnings. When there is no more room
    all is forgotten, and what is asked for again is computed again, from its start.

    Args:
        model: in evaluation mode.
        most: sequences that are kept; as many as fit into 2 GB if omitted.
    """

    def __init__(self, model: TransformerLm, most: int | None = None) -> None:
        self._model = model
        bytes_each = 4 * (2 * model.dim * model.num_layers + model.vocab_size)
        self._most = most or min(_MOST_SEQUENCES, max(1, _MOST_BYTES // bytes_each))
        # For each sequence, where its positions are kept, the start first.
        self._rows: dict[Tokens, Tensor] = {}
        self._answers, self._kept = self._nothing()

    def log_probs(self, sequences: Sequence[Tokens]) -> Tensor:
        """Return (M, V) log-probabilities of the tokens that follow M sequences."""
        missing = self._missing(sequences)
        if len(self._rows) + len(missing) > self._most:
            self._rows = {}
            self._answers, self._kept = self._nothing()
            missing = self._missing(sequences)
        while missing:
            ready = [tokens for tokens in missing if not tokens or tokens[:-1] in self._rows]
            self._add(ready)
            missing = [tokens for tokens in missing if tokens not in self._rows]
        last = [int(self._rows[tokens][-1]) for tokens in sequences]
        return self._answers[torch.tensor(last, dtype=torch.int64, device=self._answers.device)]

    def _missing(self, sequences: Sequence[Tokens]) -> list[Tokens]:
        """List the sequences that are not known, and what is not known of their beginnings."""
        missing: dict[Tokens, None] = {}
        for tokens in sequences:
            known = len(tokens)
            while tokens[:known] not in self._rows and tokens[:known] not in missing:
                missing[tokens[:known]] = None
                if known == 0:
                    break
                known -= 1
        return list(missing)

    def _add(self, sequences: Sequence[Tokens]) -> None:
        """Take the last token of each sequence; what stands before it is known."""
        device = self._answers.device
        ends = self._model.sentence_ends_id
        last = torch.tensor([tokens[-1] if tokens else ends for tokens in sequences])
        places = torch.tensor([len(tokens) for tokens in sequences], device=device)
        before = torch.zeros(len(sequences), int(places.max()), dtype=torch.int64)
        for row, tokens in enumerate(sequences):
            if tokens:
                before[row, : len(tokens)] = self._rows[tokens[:-1]]
        before = before.to(device)
        past = (layer[before] for layer in self._kept)
        answers, news = self._model.step(last.to(device), places, past)
        first = len(self._rows)
        self._grow(first + len(sequences))
        self._answers[first : first + len(sequences)] = answers
        for layer, new in zip(self._kept, news, strict=True):
            layer[first : first + len(sequences)] = new
        for row, tokens in enumerate(sequences, start=first):
            path = self._rows[tokens[:-1]] if tokens else torch.zeros(0, dtype=torch.int64)
            self._rows[tokens] = torch.cat((path, torch.tensor([row])))

    def _grow(self, num: int) -> None:
        """Make room for ``num`` sequences."""
        have = self._answers.size(0)
        more = max(num, min(2 * have, self._most)) - have
        if num > have:
            self._answers = _longer(self._answers, more)
            self._kept = [_longer(one, more) for one in self._kept]

    def _nothing(self) -> tuple[Tensor, list[Tensor]]:
        """Room for the answers and the keys and values of no sequence."""
        model = self._model
        weight = model.output_linear.weight
        kept = [weight.new_zeros(0, 2, model.dim)] * model.num_layers
        return weight.new_zeros(0, model.vocab_size), kept


def _longer(rows: Tensor, more: int) -> Tensor:
    return torch.cat((rows, rows.new_zeros(more, *rows.shape[1:])))
