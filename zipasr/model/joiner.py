"""The joiner: what the encoder hears and the decoder remembers, as scores of tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zipasr.losses import tanh_of_pruned_sums
from zipasr.losses.backend import RnntBackend
from zipasr.nn.linear import scaled_linear


class Joiner(nn.Module):
    """Add two projections, squash, and score the vocabulary.

    Args:
        encoder_dim: C of the encoder output.
        decoder_dim: C of the decoder output.
        joiner_dim: C in which both meet.
        vocab_size: V.
    """

    def __init__(
        self, encoder_dim: int, decoder_dim: int, joiner_dim: int, vocab_size: int
    ) -> None:
        super().__init__()
        self.encoder_proj = scaled_linear(encoder_dim, joiner_dim, initial_scale=0.25)
        self.decoder_proj = scaled_linear(decoder_dim, joiner_dim, initial_scale=0.25)
        self.output_linear = nn.Linear(joiner_dim, vocab_size)

    def forward(
        self, encoder_out: Tensor, decoder_out: Tensor, project_input: bool = True
    ) -> Tensor:
        """Score the next token.

        Args:
            encoder_out: (..., encoder_dim), or (..., joiner_dim) if already projected.
            decoder_out: (..., decoder_dim), or (..., joiner_dim) if already projected; the
                leading axes broadcast with those of ``encoder_out``.
            project_input: False if ``encoder_proj`` and ``decoder_proj`` have been applied.

        Returns:
            (..., V) logits.

        Raises:
            ValueError: the inputs differ in their number of axes.
        """
        if encoder_out.dim() != decoder_out.dim():
            raise ValueError(
                f"the joiner needs equally many axes, got {tuple(encoder_out.shape)} "
                f"from the encoder and {tuple(decoder_out.shape)} from the decoder"
            )
        if project_input:
            encoder_out = self.encoder_proj(encoder_out)
            decoder_out = self.decoder_proj(decoder_out)
        logits: Tensor = self.output_linear(torch.tanh(encoder_out + decoder_out))
        return logits

    def on_band(
        self,
        encoder_out: Tensor,
        decoder_out: Tensor,
        ranges: Tensor,
        backend: RnntBackend = "auto",
    ) -> Tensor:
        """Score the labels that pruning keeps.

        Args:
            encoder_out: (N, T, encoder_dim).
            decoder_out: (N, S + 1, decoder_dim).
            ranges: (N, T, R) from ``get_rnnt_prune_ranges``.
            backend: which code computes, see ``losses.backend``.

        Returns:
            (N, T, R, V) logits.
        """
        # Projecting before the positions are multiplied saves most of the work.
        am, lm = self.encoder_proj(encoder_out), self.decoder_proj(decoder_out)
        logits: Tensor = self.output_linear(tanh_of_pruned_sums(am, lm, ranges, backend))
        return logits
