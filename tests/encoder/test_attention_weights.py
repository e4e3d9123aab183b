from __future__ import annotations

import pytest
import torch
from torch import Tensor

from zipasr.encoder.zipformer.attention import (
    RelPositionMultiheadAttentionWeights,
    compact_positions,
)


def weights_by_definition(
    module: RelPositionMultiheadAttentionWeights, x: Tensor, pos_emb: Tensor
) -> Tensor:
    """Return (N, H, T', T') with one loop for each index of the formula."""
    num_frames, num_utterances, _ = x.shape
    heads, q, p = module.num_heads, module.query_head_dim, module.pos_head_dim
    projected = module.in_proj(x)
    query = projected[..., : heads * q].view(num_frames, num_utterances, heads, q)
    key = projected[..., heads * q : 2 * heads * q].view(num_frames, num_utterances, heads, q)
    pos_query = projected[..., 2 * heads * q :].view(num_frames, num_utterances, heads, p)
    pos_key = module.linear_pos(pos_emb[0]).view(-1, heads, p)
    scores = torch.zeros(num_utterances, heads, num_frames, num_frames)
    for n in range(num_utterances):
        for h in range(heads):
            for i in range(num_frames):
                for j in range(num_frames):
                    content = query[i, n, h] @ key[j, n, h]
                    position = pos_query[i, n, h] @ pos_key[j - i + num_frames - 1, h]
                    scores[n, h, i, j] = content + position
    return scores.softmax(dim=-1)


@pytest.fixture
def module() -> RelPositionMultiheadAttentionWeights:
    torch.manual_seed(0)
    module = RelPositionMultiheadAttentionWeights(
        6, pos_dim=8, num_heads=2, query_head_dim=3, pos_head_dim=2
    )
    torch.nn.init.normal_(module.linear_pos.weight)
    return module.eval()


@torch.no_grad()
@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_against_the_definition(
    module: RelPositionMultiheadAttentionWeights, num_frames: int
) -> None:
    x = torch.randn(num_frames, 3, 6)
    pos_emb = compact_positions(num_frames, 8)[None]
    expected = weights_by_definition(module, x, pos_emb)
    torch.testing.assert_close(module(x, pos_emb).matrix, expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_masked_sources_get_exactly_nothing(module: RelPositionMultiheadAttentionWeights) -> None:
    mask = torch.tensor([[False, False, True], [True, True, True]])[:, None, None, :]
    weights = module(torch.randn(3, 2, 6), compact_positions(3, 8)[None], mask).matrix
    assert torch.equal(weights[0, ..., 2], torch.zeros(2, 3))
    torch.testing.assert_close(weights[1], torch.full((2, 3, 3), 1 / 3))
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 2, 3))
