"""Initial weights of each encoder and combination of heads: the order of random numbers is fixed.

``python -m tests.model.test_initial_weights`` records them anew. Processors with other instructions
draw numbers that differ in the last bit: values are compared by weighted sums, not by a hash.
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


def summary_of(case: str) -> tuple[str, list[float]]:
    """Return a hash of names and shapes; and sums of values, and the random numbers that follow."""
    encoder, heads = case.split(", ")
    torch.manual_seed(7)
    model = build_model(ENCODERS[encoder], HEADS[heads], vocab_size=11)
    state = model.state_dict()
    layout = [f"{name} {tuple(tensor.shape)} {tensor.dtype}" for name, tensor in state.items()]
    values = torch.cat([tensor.double().reshape(-1) for tensor in state.values()])
    place = torch.arange(len(values), dtype=torch.float64)
    sums = [float((values * torch.cos(rate * place)).sum()) for rate in (0.0, 0.7, 1.9, 3.1)]
    digest = hashlib.sha256("".join(layout).encode()).hexdigest()[:16]
    return digest, [*sums, *torch.rand(4).tolist()]


@pytest.mark.parametrize("case", CASES)
def test_initial_weights(case: str) -> None:
    layout, values = summary_of(case)
    recorded = json.loads(FILE.read_text())[case]
    assert layout == recorded["layout"]
    assert values == pytest.approx(recorded["values"], abs=1e-3)


if __name__ == "__main__":
    found = {case: dict(zip(("layout", "values"), summary_of(case), strict=True)) for case in CASES}
    FILE.write_text(json.dumps(found, indent=1) + "\n")
