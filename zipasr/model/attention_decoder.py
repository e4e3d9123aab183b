"""Attention decoder: a transformer over tokens with cross-attention to all encoder frames."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zipasr.model.config import AttentionDecoderConfig
from zipasr.nn.gradients import penalize_abs_values_gt
from zipasr.nn.masks import make_pad_mask
from zipasr.nn.numerics import at_least_float32, no_autocast, to_device

#: Share of the target distribution that is spread evenly over the vocabulary.
LABEL_SMOOTHING = 0.1

#: Target of positions beyond a transcript; it has no loss.
IGNORE_ID = -1

DROPOUT = 0.1

# Scores of attention beyond the limit are pulled back, whatever they contribute to the loss.
_SCORE_LIMIT = 50.0
_SCORE_PENALTY = 1e-4


class AttentionDecoderModel(nn.Module):
    """Score transcripts given the frames of the encoder.

    A transcript is preceded and followed by the same token, the end of a sentence.

    Args:
        vocab_size: V.
        memory_dim: C of the encoder output.
        config: sizes.
        sentence_ends_id: id of the token around transcripts.

    Source: Vaswani et al., "Attention is all you need", 2017, with the normalisation before each
    block and none at the end.
    """

    def __init__(
        self,
        vocab_size: int,
        memory_dim: int,
        config: AttentionDecoderConfig,
        sentence_ends_id: int,
    ) -> None:
        super().__init__()
        self.sentence_ends_id = sentence_ends_id
        # The names below are fixed by published checkpoints.
        self.decoder = TransformerDecoder(vocab_size, memory_dim, config)

    def calc_att_loss(
        self, memory: Tensor, memory_lens: Tensor, ys: Sequence[Sequence[int]]
    ) -> Tensor:
        """Cross-entropy against smoothed transcripts.

        The target of a position is 0.9 of its token and 0.1 spread over all V tokens.

        Args:
            memory: (N, T', C) encoder frames.
            memory_lens: (N,) number of valid frames, at least 1.
            ys: transcripts, ids below V; may be empty.

        Returns:
            A scalar in nats, float32: the sum over all tokens and the N ends.
        """
        logits, targets = self._logits_and_targets(memory, memory_lens, ys)
        with no_autocast(logits):
            return F.cross_entropy(
                logits.flatten(0, 1),
                targets.flatten(),
                ignore_index=IGNORE_ID,
                reduction="sum",
                label_smoothing=LABEL_SMOOTHING,
            )

    def nll(
        self, memory: Tensor, memory_lens: Tensor, token_ids: Sequence[Sequence[int]]
    ) -> Tensor:
        """Negative log-likelihood of each token, without smoothing.

        To compare several transcripts of an utterance, repeat its frames.

        Args:
            memory: (N, T', C) encoder frames.
            memory_lens: (N,) number of valid frames, at least 1.
            token_ids: transcripts, ids below V; may be empty.

        Returns:
            (N, S + 1) in nats, float32, S the length of the longest transcript: the tokens and
            then the end; 0 beyond. The sum over a row is that of the whole transcript.
        """
        logits, targets = self._logits_and_targets(memory, memory_lens, token_ids)
        with no_autocast(logits):
            return F.cross_entropy(
                logits.transpose(1, 2), targets, ignore_index=IGNORE_ID, reduction="none"
            )

    def _logits_and_targets(
        self, memory: Tensor, memory_lens: Tensor, ys: Sequence[Sequence[int]]
    ) -> tuple[Tensor, Tensor]:
        """Return (N, U, V) logits, float32, and the (N, U) tokens that they should name."""
        ends = self.sentence_ends_id
        width = 1 + max(len(ids) for ids in ys)
        inputs = [[ends, *ids, *[ends] * (width - 1 - len(ids))] for ids in ys]
        targets = [[*ids, ends, *[IGNORE_ID] * (width - 1 - len(ids))] for ids in ys]
        logits = self.decoder(
            to_device(torch.tensor(inputs), memory.device),
            memory,
            make_pad_mask(memory_lens, memory.size(1), memory.device),
        )
        return at_least_float32(logits), to_device(torch.tensor(targets), memory.device)


class TransformerDecoder(nn.Module):
    """Token ids and encoder frames -> scores of the next token.

    Args:
        vocab_size: V.
        memory_dim: C of the encoder output.
        config: sizes.
    """

    def __init__(self, vocab_size: int, memory_dim: int, config: AttentionDecoderConfig) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, config.dim)
        self.dropout = nn.Dropout(DROPOUT)
        self.layers = nn.ModuleList(
            DecoderLayer(memory_dim, config) for _ in range(config.num_layers)
        )
        self.output_layer = nn.Linear(config.dim, vocab_size)

    def forward(self, tokens: Tensor, memory: Tensor, memory_padding: Tensor) -> Tensor:
        """Score what follows each token; a position sees itself and those before it.

        Args:
            tokens: (N, U) ids. Padding at the end needs no mask: nothing before it sees it.
            memory: (N, T', C) encoder frames.
            memory_padding: (N, T'), True at padding; no row may be all True.

        Returns:
            (N, U, V) logits.
        """
        num_tokens, dim = tokens.size(1), self.embed.embedding_dim
        x: Tensor = self.embed(tokens) * math.sqrt(dim)
        x = self.dropout(x + sinusoids(num_tokens, dim, x.device).to(x.dtype))
        later = torch.ones(num_tokens, num_tokens, dtype=torch.bool, device=x.device).triu(1)
        for layer in self.layers:
            x = layer(x, later, memory, memory_padding[:, None, None, :])
        logits: Tensor = self.output_layer(x)
        return logits


class DecoderLayer(nn.Module):
    """Attention to earlier tokens, attention to the frames, and a feed-forward block.

    Args:
        memory_dim: C of the encoder output.
        config: sizes.
    """

    def __init__(self, memory_dim: int, config: AttentionDecoderConfig) -> None:
        super().__init__()
        dim, inner, heads = config.dim, config.attention_dim, config.num_heads
        self.norm_self_attn = nn.LayerNorm(dim)
        self.self_attn = MultiHeadAttention(dim, dim, inner, heads)
        self.norm_src_attn = nn.LayerNorm(dim)
        self.src_attn = MultiHeadAttention(dim, memory_dim, inner, heads)
        self.norm_ff = nn.LayerNorm(dim)
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, config.feedforward_dim),
            nn.SiLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(config.feedforward_dim, dim),
        )
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor, later: Tensor, memory: Tensor, memory_padding: Tensor) -> Tensor:
        """Add what each of the three blocks makes of its input.

        Args:
            x: (N, U, C).
            later: (U, U), True where the second position is after the first.
            memory: (N, T', C of the encoder).
            memory_padding: (N, 1, 1, T'), True at padding.

        Returns:
            (N, U, C).
        """
        y = self.norm_self_attn(x)
        x = x + self.dropout(self.self_attn(y, y, later))
        x = x + self.dropout(self.src_attn(self.norm_src_attn(x), memory, memory_padding))
        x = x + self.dropout(self.feed_forward(self.norm_ff(x)))
        return x  # noqa: RET504 - three lines of one shape


class MultiHeadAttention(nn.Module):
    """Attention with scaled products; large scores are penalized.

    Args:
        query_dim: C of what asks, and of the result.
        source_dim: C of what is looked at.
        attention_dim: channels of all heads together.
        num_heads: H.
    """

    def __init__(self, query_dim: int, source_dim: int, attention_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.linear_q = nn.Linear(query_dim, attention_dim)
        self.linear_k = nn.Linear(source_dim, attention_dim)
        self.linear_v = nn.Linear(source_dim, attention_dim)
        self.out_proj = nn.Linear(attention_dim, query_dim)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor) -> Tensor:
        """Look at ``source`` from each position of ``x``.

        Args:
            x: (N, U, C).
            source: (N, T, C).
            mask: broadcasts to (N, H, U, T), True at what must not be seen.

        Returns:
            (N, U, C).
        """
        query, key, value = (
            linear(y).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for linear, y in (
                (self.linear_q, x),
                (self.linear_k, source),
                (self.linear_v, source),
            )
        )
        scores = (query / math.sqrt(query.size(-1))) @ key.transpose(-2, -1)
        # Masked first: scores that are not used are not penalized either.
        scores = scores.masked_fill(mask, -math.inf)
        scores = penalize_abs_values_gt(scores, _SCORE_LIMIT, _SCORE_PENALTY)
        weights = at_least_float32(scores).softmax(-1).to(value.dtype)
        seen: Tensor = self.out_proj((weights @ value).transpose(1, 2).flatten(2))
        return seen


def sinusoids(num_positions: int, dim: int, device: torch.device | None = None) -> Tensor:
    """Return (num_positions, dim) positional encodings, float32; ``dim`` is even.

    Column 2m holds sines and column 2m + 1 cosines, with a wavelength of 2 pi 10000^(2m / dim).
    """
    positions = torch.arange(num_positions, dtype=torch.float32, device=device)
    rates = 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float32, device=device) / dim)
    angles = positions[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
