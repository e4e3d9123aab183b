"""How probable whole sentences are to a model that scores the next token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zipasr.nn.numerics import to_device

#: Target of positions beyond a sentence; it has no loss.
IGNORE_ID = -1


def sentences_nll(
    logits: Callable[[Tensor], Tensor],
    sentences: Sequence[Sequence[int]],
    sentence_ends_id: int,
    device: torch.device,
) -> Tensor:
    """Negative log-likelihood of each token.

    Args:
        logits: (N, U) tokens to the (N, U, V) scores of what follows each; what stands behind a
            token has no effect.
        sentences: token ids, at least one sentence; sentences may be empty.
        sentence_ends_id: id of the token before and after a sentence.
        device: where the model is.

    Returns:
        (N, S + 1) in nats, S the length of the longest one: the tokens and then the end; 0 beyond.
    """
    ends, width = sentence_ends_id, 1 + max(map(len, sentences))
    inputs = [[ends, *ids, *[ends] * (width - 1 - len(ids))] for ids in sentences]
    targets = [[*ids, ends, *[IGNORE_ID] * (width - 1 - len(ids))] for ids in sentences]
    return F.cross_entropy(
        logits(to_device(torch.tensor(inputs), device)).float().transpose(1, 2),
        to_device(torch.tensor(targets), device),
        ignore_index=IGNORE_ID,
        reduction="none",
    )


class NextTokenModel(nn.Module):
    """A model that scores the next token; a sentence has the same token before and after it."""

    sentence_ends_id: int
    output_linear: nn.Linear

    def forward(self, sentences: Sequence[Sequence[int]]) -> Tensor:
        """Return the sum over all tokens and ends of the negative log-likelihood, in nats."""
        return self.nll(sentences).sum()

    def nll(self, sentences: Sequence[Sequence[int]]) -> Tensor:
        """Negative log-likelihood (N, S + 1) of each token and the ends; see ``sentences_nll``."""
        device = self.output_linear.weight.device
        return sentences_nll(self.logits, sentences, self.sentence_ends_id, device)

    def logits(self, tokens: Tensor) -> Tensor:
        """Score what follows each token: (N, U) ids to (N, U, V)."""
        raise NotImplementedError
