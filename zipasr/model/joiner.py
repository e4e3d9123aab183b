"""Joiner: encoder frames and decoder outputs to logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zipasr.kernels.elementwise import TANH_OF_SUM, has_kernels
from zipasr.losses import tanh_of_pruned_sums
from zipasr.losses.config import RnntBackend
from zipasr.nn.layers import scaled_linear


class Joiner(nn.Module):
    """Sum of two projections, tanh, and a linear layer to the vocabulary.

    Args:
        encoder_dim: C of the encoder output.
        decoder_dim: C of the decoder output.
        joiner_dim: C in which both meet.
        vocab_size: V.
        gain: factor of the logits.
        bias_init: bound of the initial biases, see ``scaled_linear``.
    """

    def __init__(
        self,
        encoder_dim: int,
        decoder_dim: int,
        joiner_dim: int,
        vocab_size: int,
        gain: float = 1.0,
        bias_init: float = 0.1,
    ) -> None:
        super().__init__()
        self.gain = gain
        self.encoder_proj = scaled_linear(
            encoder_dim, joiner_dim, initial_scale=0.25, bias_scale=bias_init
        )
        self.decoder_proj = scaled_linear(
            decoder_dim, joiner_dim, initial_scale=0.25, bias_scale=bias_init
        )
        self.output_linear = nn.Linear(joiner_dim, vocab_size)

    def forward(
        self,
        encoder_out: Tensor,
        decoder_out: Tensor,
        project_input: bool = True,
        ranges: Tensor | None = None,
        backend: RnntBackend = "auto",
    ) -> Tensor:
        """Score the next token.

        Args:
            encoder_out: (..., encoder_dim), or (..., joiner_dim) if already projected.
            decoder_out: (..., decoder_dim), or (..., joiner_dim) if already projected; the
                leading axes broadcast with those of ``encoder_out``.
            project_input: False if ``encoder_proj`` and ``decoder_proj`` have been applied.
            ranges: (N, T, R) from ``get_rnnt_prune_ranges``: score only the labels that pruning
                keeps, of inputs (N, T, encoder_dim) and (N, S + 1, decoder_dim).
            backend: which code computes on a band, see ``losses.backend``.

        Returns:
            (..., V) logits; (N, T, R, V) with ``ranges``.

        Raises:
            ValueError: the inputs differ in their number of axes.
        """
        if encoder_out.dim() != decoder_out.dim():
            raise ValueError(
                f"the joiner needs equally many axes, got {tuple(encoder_out.shape)} "
                f"from the encoder and {tuple(decoder_out.shape)} from the decoder"
            )
        if project_input:
            # Before labels are repeated for each frame, which saves most of the work.
            encoder_out = self.encoder_proj(encoder_out)
            decoder_out = self.decoder_proj(decoder_out)
        if ranges is None:
            hidden = torch.tanh(encoder_out + decoder_out)
        else:
            hidden = tanh_of_pruned_sums(encoder_out, decoder_out, ranges, backend)
        logits: Tensor = self.output_linear(hidden)
        return logits if self.gain == 1.0 else self.gain * logits


class PreparedJoiner:
    """Joiner for searches, which call it for a few rows at a time: no more than its formula.

    A gain is multiplied into the weights as they are now: a model that goes on learning needs a
    new one.

    Args:
        joiner: its weights stay where they are.
    """

    @torch.no_grad()
    def __init__(self, joiner: Joiner) -> None:
        self.encoder_proj, self.decoder_proj = joiner.encoder_proj, joiner.decoder_proj
        output = joiner.output_linear
        self._weight, self._bias = output.weight.detach(), output.bias.detach()
        if joiner.gain != 1.0:
            self._weight, self._bias = joiner.gain * self._weight, joiner.gain * self._bias

    def __call__(
        self, encoder_out: Tensor, decoder_out: Tensor, project_input: bool = False
    ) -> Tensor:
        """Score the next token; see ``Joiner.forward``."""
        assert not project_input, "a search projects frames once"
        if has_kernels(encoder_out):
            (hidden,) = TANH_OF_SUM(encoder_out, decoder_out)
        else:
            hidden = torch.tanh(encoder_out + decoder_out)
        return F.linear(hidden, self._weight, self._bias)
