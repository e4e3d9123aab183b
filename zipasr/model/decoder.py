"""Stateless decoder (prediction network): sees the last few tokens only."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zipasr.encoder.protocol import HeadStyle
from zipasr.model.config import CHANNELS_PER_GROUP
from zipasr.nn.balancer import Balancer
from zipasr.text.config import BLANK_ID


class Decoder(nn.Module):
    """Token embedding and a convolution over the last ``context_size`` tokens.

    Args:
        vocab_size: V.
        decoder_dim: C of the result, a multiple of 4 unless ``context_size`` is 1.
        blank_id: id of the blank, which stands for the start of the utterance.
        context_size: number of tokens that it sees, at least 1.
        style: gain, initial size and balancers.

    Source: Ghodsi et al., "RNN-transducer with stateless prediction network", 2020.
    """

    def __init__(
        self,
        vocab_size: int,
        decoder_dim: int = 512,
        blank_id: int = BLANK_ID,
        context_size: int = 2,
        style: HeadStyle = HeadStyle(),
    ) -> None:
        super().__init__()
        balanced = style.decoder_balancers
        self.gain = style.decoder_gain
        self.vocab_size = vocab_size
        self.blank_id = blank_id
        self.context_size = context_size
        self.embedding = nn.Embedding(vocab_size, decoder_dim)
        if style.decoder_init != 1.0:
            with torch.no_grad():
                self.embedding.weight *= style.decoder_init
        self.balancer = _balancer(decoder_dim) if balanced else nn.Identity()
        if context_size > 1:
            self.conv = nn.Conv1d(
                decoder_dim,
                decoder_dim,
                kernel_size=context_size,
                groups=decoder_dim // CHANNELS_PER_GROUP,
                bias=False,
            )
            self.balancer2 = _balancer(decoder_dim) if balanced else nn.Identity()

    def forward(self, y: Tensor, need_pad: bool = True) -> Tensor:
        """Embed histories of tokens.

        Args:
            y: (N, U) token ids; a negative id stands for nothing and gives zeros.
            need_pad: put zeros before the first token, so that every token ends a history;
                if False, ``y`` is (N, context_size) and makes one history.

        Returns:
            (N, U, C), or (N, 1, C) if ``need_pad`` is False.

        Raises:
            ValueError: ``need_pad`` is False and U is not ``context_size``.
        """
        embedded: Tensor = self.embedding(y.clamp(min=0)) * (y >= 0).unsqueeze(-1)
        if self.gain != 1.0:
            embedded = self.gain * embedded
        embedded = self.balancer(embedded)
        if not need_pad and y.size(1) != self.context_size:
            raise ValueError(
                f"a history has {self.context_size} tokens, got {y.size(1)}: "
                "keep the last ones, or ask for padding"
            )
        return embedded if self.context_size == 1 else self._convolve(embedded, need_pad)

    def _convolve(self, embedded: Tensor, need_pad: bool) -> Tensor:
        channels_first = embedded.transpose(1, 2)
        if need_pad:
            padded = F.pad(channels_first, (self.context_size - 1, 0))
            convolved = self.conv(padded).transpose(1, 2)
        else:
            convolved = self.convolve_histories(channels_first)
        result: Tensor = self.balancer2(torch.relu(convolved))
        return result

    def convolve_histories(self, channels_first: Tensor) -> Tensor:
        """Convolve (N, C, context_size) to (N, 1, C) as a product for each group of channels.

        On a CPU the convolution of torch takes up to ten times longer.
        """
        num, channels, width = channels_first.shape
        groups = self.conv.groups
        inputs = channels_first.reshape(num, groups, CHANNELS_PER_GROUP * width).transpose(0, 1)
        weight = self.conv.weight.view(
            groups, CHANNELS_PER_GROUP, CHANNELS_PER_GROUP * width
        ).transpose(1, 2)
        return torch.bmm(inputs, weight).transpose(0, 1).reshape(num, 1, channels)


class CachedDecoder:
    """Decoder for searches, with a precomputed table of each token at each place of the context.

    The convolution of a history is a sum of one vector for each place, which depends on the token
    there alone: so it becomes a lookup, several times faster than the products. The tables are made
    from the weights as they are now: a model that goes on learning needs new ones.

    Args:
        decoder: its weights stay where they are.
    """

    @torch.no_grad()
    def __init__(self, decoder: Decoder) -> None:
        self.blank_id, self.context_size = decoder.blank_id, decoder.context_size
        # The row before that of token 0 stands for nothing.
        embedded = decoder.gain * F.pad(decoder.embedding.weight, (0, 0, 1, 0))
        tables = [embedded]
        if self.context_size > 1:
            # A token at one place of a history, and nothing at the others.
            places = torch.eye(self.context_size, device=embedded.device)
            tables = [
                decoder.convolve_histories(embedded[:, :, None] * place)[:, 0] for place in places
            ]
        self._table = torch.cat(tables)
        self._first_rows = 1 + len(embedded) * torch.arange(len(tables), device=embedded.device)
        self._starts: dict[int, Tensor] = {}

    def __call__(self, y: Tensor, need_pad: bool = False) -> Tensor:
        """Embed histories (N, context_size) as (N, 1, C); see ``Decoder.forward``.

        The id of nothing is -1.
        """
        assert not need_pad, "a search gives whole histories"
        rows = (y + self._first_rows).flatten()
        if len(y) not in self._starts:  # kept: a CUDA graph may read it
            starts = torch.arange(0, rows.numel(), self.context_size, device=y.device)
            self._starts[len(y)] = starts
        summed = F.embedding_bag(rows, self._table, self._starts[len(y)], mode="sum")
        return (summed if self.context_size == 1 else torch.relu(summed)).unsqueeze(1)


def _balancer(num_channels: int) -> Balancer:
    return Balancer(
        num_channels,
        channel_dim=-1,
        min_positive=0.0,
        max_positive=1.0,
        min_abs=0.5,
        max_abs=1.0,
        prob=0.05,
    )
