"""What clients read from the files of each encoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.speaking_model import FIRST, HEADS, SECOND
from zipasr.encoder.protocol import EncoderConfig
from zipasr.encoder.zipformer.config import ZipformerConfig
from zipasr.encoder.zipformer.construction import CLIENT_CHANNELS
from zipasr.encoder.zipformer1.config import Zipformer1Config
from zipasr.exporting.folder_files import client_limits
from zipasr.model.build import build_model
from zipasr.recognition.config import KINDS
from zipasr.recognition.exported_files import in_kind, kind_of

CAUSAL = replace(SECOND, causal=True, chunk_size=(16,), left_context_frames=(64,))
FIRST_CAUSAL = replace(FIRST, causal=True)


def test_sizes_of_the_published_streaming_model_of_the_first() -> None:
    assert Zipformer1Config(causal=True).export_layout().streaming_metadata == {
        "decode_chunk_len": "32",
        "T": "39",
        "num_encoder_layers": "2,4,3,2,4",
        "encoder_dims": "384,384,384,384,384",
        "attention_dims": "192,192,192,192,192",
        "cnn_module_kernels": "31,31,31,31,31",
        "left_context_len": "64,32,16,8,32",
    }


def test_sizes_of_the_second() -> None:
    config = ZipformerConfig(causal=True, chunk_size=(16,), left_context_frames=(70,))
    found = config.export_layout().streaming_metadata
    assert (found["decode_chunk_len"], found["T"]) == ("32", "45")
    assert found["left_context_len"] == "64,32,16,8,16,32"
    assert "attention_dims" not in found


@pytest.mark.parametrize("config", [CAUSAL, FIRST_CAUSAL])
def test_states_go_to_a_file_and_back(config: EncoderConfig) -> None:
    model = build_model(config, HEADS, 20)
    chunks = model.chunk_encoder
    states = [torch.randn(t.shape).to(t.dtype) for t in model.init_state(3)]
    layout = config.export_layout()
    names, there = layout.state_names, layout.to_file(states)
    assert len(names) == len(set(names)) == len(there) == len(chunks.batch_dims())
    assert all(t.size(dim) == 3 for t, dim in zip(there, chunks.batch_dims(), strict=True))
    for before, after in zip(states, layout.from_file(there), strict=True):
        assert torch.equal(before, after)
    by_name = dict(zip(names, there, strict=True))
    if config is CAUSAL:
        assert by_name["embed_states"].shape == (3, CLIENT_CHANNELS, 3, 19)
        assert by_name["processed_lens"].dtype == torch.int64


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (SECOND, ""),
        (FIRST, ""),
        (CAUSAL, ""),
        (replace(CAUSAL, embed_channels=(8, 32, 160)), "at most 128 channels, this one has 160"),
        (FIRST_CAUSAL, "does not stream the CTC head"),
        (replace(CAUSAL, embed_channels=(8, 32, 160), chunk_size=(-1,)), ""),
    ],
)
def test_what_the_client_does_not_do_is_said(config: EncoderConfig, says: str) -> None:
    lines = client_limits(config.export_layout(), HEADS)
    assert len(lines) == bool(says)
    assert says in "".join(lines)
    more = client_limits(config.export_layout(), replace(HEADS, use_attention_decoder=True))
    assert "attention decoder is in pretrained.pt alone" in more[0]
    assert more[1:] == lines
    assert "CTC" not in "".join(
        client_limits(config.export_layout(), replace(HEADS, use_ctc=False))
    )


def test_precisions_are_read_off_names() -> None:
    path = Path("encoder-epoch-9.5-avg-1.onnx")
    names = [in_kind(path, kind).name for kind in KINDS]
    assert names[1:] == ["encoder-epoch-9.5-avg-1.int8.onnx", "encoder-epoch-9.5-avg-1.fp16.onnx"]
    assert [kind_of(name) for name in names] == list(KINDS)
