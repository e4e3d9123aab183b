"""Initial weights of each encoder and combination of heads: the order of random numbers is fixed.

``python -m tests.model.test_initial_weights`` records the hashes anew.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
import torch

from tests.encoder.published import GOLDEN
from tests.encoder.sizes import small_config
from zipasr.encoder.zipformer1.config import Zipformer1Config
from zipasr.model.build import build_model
from zipasr.model.config import ModelConfig

FILE = GOLDEN / "model" / "initial_weights.json"
FIRST: dict[str, Any] = {
    "num_encoder_layers": (1, 2),
    "feedforward_dims": (16, 24),
    "nhead": (2, 2),
    "encoder_dims": (16, 24),
    "attention_dims": (8, 16),
    "encoder_unmasked_dims": (8, 16),
    "zipformer_downsampling_factors": (1, 2),
    "cnn_module_kernels": (5, 7),
}
ENCODERS = {
    "zipformer": small_config(),
    "zipformer causal": small_config(causal=True, chunk_size=(8,), left_context_frames=(16,)),
    "zipformer1": Zipformer1Config(**FIRST),
    "zipformer1 causal": Zipformer1Config(**FIRST, causal=True),
}
SIZES: dict[str, Any] = {"decoder_dim": 12, "joiner_dim": 16}
ATTENTION: dict[str, Any] = {
    "use_attention_decoder": True,
    "attention_decoder_dim": 12,
    "attention_decoder_num_layers": 2,
    "attention_decoder_attention_dim": 8,
    "attention_decoder_num_heads": 2,
    "attention_decoder_feedforward_dim": 16,
}
HEADS = {
    "transducer": ModelConfig(**SIZES),
    "transducer of one token": ModelConfig(**SIZES, context_size=1),
    "ctc": ModelConfig(use_ctc=True, use_transducer=False),
    "both": ModelConfig(**SIZES, use_ctc=True),
    "ctc and attention decoder": ModelConfig(use_ctc=True, use_transducer=False, **ATTENTION),
    "all": ModelConfig(**SIZES, use_ctc=True, own_heads="giga", **ATTENTION),
}
CASES = [f"{encoder}, {heads}" for encoder in ENCODERS for heads in HEADS]


def hash_of(case: str) -> str:
    """Return a hash of names, shapes and values, and of the random numbers that come next."""
    encoder, heads = case.split(", ")
    torch.manual_seed(7)
    model = build_model(ENCODERS[encoder], HEADS[heads], vocab_size=11)
    found = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.contiguous().numpy().tobytes())
    found.update(torch.rand(4).numpy().tobytes())
    return found.hexdigest()[:16]


@pytest.mark.parametrize("case", CASES)
def test_initial_weights(case: str) -> None:
    assert hash_of(case) == json.loads(FILE.read_text())[case]


if __name__ == "__main__":
    FILE.write_text(json.dumps({case: hash_of(case) for case in CASES}, indent=1) + "\n")
