"""An exported language model says of sentences what the model says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from zipasr.lm.config import LmSizes, RnnLmConfig, TransformerLmConfig
from zipasr.lm.neural import build_lm

pytest.importorskip("onnx", reason="export-requirements.txt is not installed")

RNN = RnnLmConfig(rnn_lm_embedding_dim=8, rnn_lm_hidden_dim=8, rnn_lm_num_layers=2)
TRANSFORMER = TransformerLmConfig(
    transformer_lm_num_layers=1,
    transformer_lm_encoder_dim=16,
    transformer_lm_embedding_dim=16,
    transformer_lm_dim_feedforward=24,
    transformer_lm_nhead=2,
)


@pytest.mark.parametrize("sizes", [RNN, TRANSFORMER])
def test_the_file_says_the_same_of_sentences(sizes: LmSizes, tmp_path: Path) -> None:
    from zipasr.exporting.exporters import LM_LENGTHS, export_lm

    torch.manual_seed(0)
    model = build_lm(20, sizes, 1).eval()
    check = export_lm(tmp_path, model)
    assert check.ok, check
    assert check.same_tokens == len(LM_LENGTHS)
    assert (tmp_path / check.name).is_file()
