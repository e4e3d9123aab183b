"""The recurrent language model: what token follows, from all before it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zipasr.lm.config import RnnLmConfig
from zipasr.lm.perplexity import NextTokenModel


class RnnLm(NextTokenModel):
    """Embedding, LSTM layers, and scores of the next token.

    A sentence is preceded and followed by the same token, the end of a sentence.

    Args:
        vocab_size: V.
        config: sizes.
        sentence_ends_id: id of the token around sentences.

    Source: Mikolov et al., "Recurrent neural network based language model", 2010, with the cells of
    Hochreiter and Schmidhuber, "Long short-term memory", 1997.
    """

    def __init__(self, vocab_size: int, config: RnnLmConfig, sentence_ends_id: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.sentence_ends_id = sentence_ends_id
        # The names below are fixed by published checkpoints.
        self.input_embedding = nn.Embedding(vocab_size, config.rnn_lm_embedding_dim)
        self.rnn = nn.LSTM(
            config.rnn_lm_embedding_dim,
            config.rnn_lm_hidden_dim,
            config.rnn_lm_num_layers,
            batch_first=True,
        )
        self.output_linear = nn.Linear(config.rnn_lm_hidden_dim, vocab_size)
        if config.rnn_lm_tie_weights:
            self.output_linear.weight = self.input_embedding.weight

    def logits(self, tokens: Tensor) -> Tensor:
        """Score what follows each token: (N, U) ids to (N, U, V)."""
        output, _ = self.rnn(self.input_embedding(tokens))
        scores: Tensor = self.output_linear(output)
        return scores

    def start(self, num: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Begin ``num`` sentences; see ``step`` for what it returns."""
        shape = (num, self.rnn.num_layers, self.rnn.hidden_size)
        nothing = torch.zeros(shape, device=device)
        if num == 0:
            return torch.zeros(0, self.vocab_size, device=device), nothing, nothing
        ends = torch.full((num,), self.sentence_ends_id, device=device)
        return self.step(ends, nothing, nothing)

    @torch.no_grad()
    def step(self, tokens: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take one token of each of M sentences.

        Args:
            tokens: (M,) ids.
            hidden: (M, layers, H) before it.
            cell: (M, layers, H) before it.

        Returns:
            (M, V) log-probabilities of the tokens that follow; (M, layers, H) and (M, layers, H).
        """
        state = hidden.transpose(0, 1).contiguous(), cell.transpose(0, 1).contiguous()
        output, (hidden, cell) = self.rnn(self.input_embedding(tokens[:, None]), state)
        log_probs = self.output_linear(output[:, 0]).log_softmax(dim=-1)
        return log_probs, hidden.transpose(0, 1), cell.transpose(0, 1)
