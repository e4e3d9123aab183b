"""Transformer language model, and its cache of prefixes that were scored before."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zipasr.lm.config import TransformerLmConfig
from zipasr.lm.perplexity import NextTokenModel
from zipasr.nn.numerics import to_device

DROPOUT = 0.1


class Turn(NamedTuple):
    """Cosines and sines (..., D / 2) of the angles by which positions turn pairs of channels."""

    cos: Tensor
    sin: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Turn vectors (..., D)."""
        first, second = x.chunk(2, dim=-1)
        return torch.cat(
            (first * self.cos - second * self.sin, first * self.sin + second * self.cos), dim=-1
        )


def turn(positions: Tensor, dim: int) -> Turn:
    """Angles of positions (...,): position times 10000^(-2m / dim) for the m-th pair of channels.

    Source: Su et al., "RoFormer: enhanced transformer with rotary position embedding", 2021.
    """
    pairs = torch.arange(0, dim, 2, dtype=torch.float32, device=positions.device)
    angles = positions[..., None] * 10000.0 ** (-pairs / dim)
    return Turn(angles.cos(), angles.sin())


class TransformerLm(NextTokenModel):
    """Embedding, layers of attention to what came before, and scores of the next token.

    A sentence is preceded and followed by the same token, the end of a sentence.

    Args:
        vocab_size: V.
        config: sizes.
        sentence_ends_id: id of the token around sentences.

    Source: Radford et al., "Language models are unsupervised multitask learners", 2019, with
    positions that turn queries and keys.
    """

    def __init__(self, vocab_size: int, config: TransformerLmConfig, sentence_ends_id: int) -> None:
        super().__init__()
        width, dim = config.transformer_lm_embedding_dim, config.transformer_lm_encoder_dim
        self.vocab_size, self.dim, self.num_layers = (
            vocab_size,
            dim,
            config.transformer_lm_num_layers,
        )
        self.sentence_ends_id = sentence_ends_id
        self._turning = dim // config.transformer_lm_nhead
        self.input_embedding = nn.Embedding(vocab_size, width)
        # As the output layer it has to start with small scores. The linear layer keeps what comes
        # in apart from what goes out: else each token would first of all predict itself.
        nn.init.normal_(self.input_embedding.weight, std=width**-0.5)
        self.input_linear = nn.Linear(width, dim)
        self.layers = nn.ModuleList(TransformerLmLayer(config) for _ in range(self.num_layers))
        self.norm_final = nn.LayerNorm(dim)
        self.output_linear = nn.Linear(dim, vocab_size)
        if config.transformer_lm_tie_weights:
            self.output_linear.weight = self.input_embedding.weight

    def logits(self, tokens: Tensor) -> Tensor:
        """Score what follows each token: (N, U) ids to (N, U, V)."""
        x = F.dropout(self._embedded(tokens), DROPOUT, self.training)
        by_place = turn(torch.arange(tokens.size(1), device=tokens.device), self._turning)
        for layer in self.layers:
            x = layer(x, by_place)
        scores: Tensor = self.output_linear(self.norm_final(x))
        return scores

    @torch.no_grad()
    def step(
        self, tokens: Tensor, places: Tensor, past: Iterable[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Take one token of each of M sentences.

        Args:
            tokens: (M,) ids.
            places: (M,) how many tokens stand before each, the start counted.
            past: for each layer, keys and values (M, P, 2, C) of the tokens before; what is beyond
                ``places`` has no effect.

        Returns:
            (M, V) log-probabilities of the tokens that follow; for each layer (M, 2, C), the keys
            and values of the tokens taken.
        """
        x, news = self._embedded(tokens[:, None]), []
        by_place = turn(places[:, None, None], self._turning)
        for layer, before in zip(self.layers, past, strict=True):
            assert isinstance(layer, TransformerLmLayer)
            x, new = layer.step(x, by_place, before, places)
            news.append(new)
        log_probs = self.output_linear(self.norm_final(x[:, 0])).float().log_softmax(dim=-1)
        return log_probs, news

    def _embedded(self, tokens: Tensor) -> Tensor:
        x: Tensor = self.input_linear(self.input_embedding(tokens))
        return x * math.sqrt(self.input_embedding.embedding_dim)


class TransformerLmLayer(nn.Module):
    """Attention to this token and those before it, and a feed-forward block.

    Args:
        config: sizes.
    """

    def __init__(self, config: TransformerLmConfig) -> None:
        super().__init__()
        dim, hidden = config.transformer_lm_encoder_dim, config.transformer_lm_dim_feedforward
        self.num_heads = config.transformer_lm_nhead
        self.norm_attention = nn.LayerNorm(dim)
        self.attention_in = nn.Linear(dim, 3 * dim)
        self.attention_out = nn.Linear(dim, dim)
        self.norm_feed_forward = nn.LayerNorm(dim)
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(DROPOUT), nn.Linear(hidden, dim)
        )

    def forward(self, x: Tensor, by_place: Turn) -> Tensor:
        """Add what the two blocks make of all tokens: (N, U, C) to (N, U, C)."""
        query, key, value = self._projected(x, by_place)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self._joined(x, seen)

    def step(
        self, x: Tensor, by_place: Turn, past: Tensor, places: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Add what they make of one more token: (M, 1, C) to (M, 1, C); see ``TransformerLm``."""
        query, key, value = self._projected(x, by_place)
        new = torch.stack((key, value), dim=1).squeeze(3).flatten(2)
        before = past.view(*past.shape[:3], self.num_heads, x.size(-1) // self.num_heads).permute(
            2, 0, 3, 1, 4
        )
        is_there = torch.arange(past.size(1), device=x.device) < places[:, None]
        mask = F.pad(is_there, (0, 1), value=True)[:, None, None, :]
        keys, values = torch.cat((before[0], key), dim=2), torch.cat((before[1], value), dim=2)
        seen = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        return self._joined(x, seen), new

    def _projected(self, x: Tensor, by_place: Turn) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (N, H, U, D)."""
        y = self.attention_in(self.norm_attention(x)).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = y.permute(2, 0, 3, 1, 4)
        return by_place(query), by_place(key), value

    def _joined(self, x: Tensor, seen: Tensor) -> Tensor:
        y = self.attention_out(seen.transpose(1, 2).flatten(2))
        x = x + F.dropout(y, DROPOUT, self.training)
        y = self.feed_forward(self.norm_feed_forward(x))
        return x + F.dropout(y, DROPOUT, self.training)


Tokens = tuple[int, ...]

# What may be kept: bytes of keys and values, and token sequences.
_MOST_BYTES, _MOST_SEQUENCES = 2 * 2**30, 200_000


class PrefixCache:
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
        self._rows: dict[Tokens, tuple[int, ...]] = {}
        self._answers, self._kept = self._nothing()

    def log_probs(self, sequences: Sequence[Tokens]) -> Tensor:
        """Return (M, V) log-probabilities of the tokens that follow M sequences.

        They are where the model is; the host does not wait for them.
        """
        missing = self._missing(sequences)
        if len(self._rows) + len(missing) > self._most:
            self._rows = {}
            self._answers, self._kept = self._nothing()
            missing = self._missing(sequences)
        while missing:
            ready = [tokens for tokens in missing if not tokens or tokens[:-1] in self._rows]
            self._add(ready)
            missing = [tokens for tokens in missing if tokens not in self._rows]
        last = torch.tensor([self._rows[tokens][-1] for tokens in sequences], dtype=torch.int64)
        return self._answers[to_device(last, self._answers.device)]

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
        paths = [self._rows[tokens[:-1]] if tokens else () for tokens in sequences]
        width = max(map(len, paths))
        rows = [[*path, *[0] * (width - len(path))] for path in paths]
        before = to_device(torch.tensor(rows, dtype=torch.int64), device)
        last = [(tokens[-1] if tokens else ends, len(tokens)) for tokens in sequences]
        taken, places = to_device(torch.tensor(last), device).unbind(dim=1)
        past = (layer[before] for layer in self._kept)
        answers, news = self._model.step(taken, places, past)
        first = len(self._rows)
        self._grow(first + len(sequences))
        self._answers[first : first + len(sequences)] = answers
        for layer, new in zip(self._kept, news, strict=True):
            layer[first : first + len(sequences)] = new
        for row, (tokens, path) in enumerate(zip(sequences, paths, strict=True), start=first):
            self._rows[tokens] = (*path, row)

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
