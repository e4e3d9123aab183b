"""ONNX files: names, order and metadata as clients read them, and what a search gets from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.speaking_model import FIRST, HEADS, SECOND
from zipasr.encoder.protocol import EncoderConfig
from zipasr.model.build import build_model
from zipasr.model.transducer import AsrModel
from zipasr.search.transducer_step import TransducerSteps

pytest.importorskip("onnx", reason="export-requirements.txt is not installed")

VOCAB = 20
FREE = {0: "N"}


def model_of(config: EncoderConfig) -> AsrModel:
    torch.manual_seed(0)
    return build_model(config, HEADS, VOCAB).eval()


@pytest.mark.parametrize(("config", "kind"), [(SECOND, "zipformer2"), (FIRST, "zipformer")])
def test_files_for_whole_utterances(config: EncoderConfig, kind: str) -> None:
    from zipasr.exporting.onnx_files import ctc_graph, transducer_graphs

    model = model_of(config)
    parts = transducer_graphs(model, config.export_layout())
    encoder, decoder, joiner = (parts[name] for name in ("encoder", "decoder", "joiner"))
    about = {"version": "1", "model_author": "zipasr"}
    assert encoder.metadata == {**about, "model_type": kind, "comment": f"non-streaming {kind}"}
    assert (encoder.inputs, encoder.outputs) == (
        ("x", "x_lens"),
        ("encoder_out", "encoder_out_lens"),
    )
    assert decoder.metadata == {"vocab_size": str(VOCAB), "context_size": "2"}
    assert (decoder.inputs, decoder.outputs) == (("y",), ("decoder_out",))
    assert decoder.example[0].dtype == torch.int64
    assert joiner.metadata == {"joiner_dim": "32"}
    assert (joiner.inputs, joiner.outputs) == (("encoder_out", "decoder_out"), ("logit",))
    ctc = ctc_graph(model, config.export_layout())
    assert ctc.metadata["model_type"] == "zipformer2_ctc"
    assert (ctc.inputs, ctc.outputs) == (("x", "x_lens"), ("log_probs", "log_probs_len"))


def test_a_file_for_speech_as_it_comes() -> None:
    from zipasr.exporting.onnx_files import transducer_graphs

    config = replace(SECOND, causal=True, chunk_size=(16,), left_context_frames=(32,))
    encoder = transducer_graphs(model_of(config), config.export_layout())["encoder"]
    kinds = ("key", "nonlin_attn", "val1", "val2", "conv1", "conv2")
    states = [f"cached_{kind}_{layer}" for layer in range(2) for kind in kinds]
    states += ["embed_states", "processed_lens"]
    assert encoder.inputs == ("x", *states)
    assert encoder.outputs == ("encoder_out", *(f"new_{name}" for name in states))
    assert [encoder.axes[name] for name in states[:7]] == [{1: "N"}] * 4 + [FREE] * 2 + [{1: "N"}]
    assert encoder.axes["x"] == encoder.axes["embed_states"] == FREE
    assert encoder.metadata == {
        "model_type": "zipformer2",
        "version": "1",
        "model_author": "zipasr",
        "comment": "streaming zipformer2",
        "decode_chunk_len": "32",
        "T": "45",
        "num_encoder_layers": "1,1",
        "encoder_dims": "32,40",
        "cnn_module_kernels": "7,7",
        "left_context_len": "32,16",
        "query_head_dims": "8,8",
        "value_head_dims": "8,8",
        "num_heads": "2,2",
    }


@torch.no_grad()
@pytest.mark.parametrize("config", [SECOND, FIRST])
def test_less_than_an_encoder_takes_is_padded_inside(config: EncoderConfig, tmp_path: Path) -> None:
    from zipasr.exporting.onnx_files import transducer_graphs, write_onnx
    from zipasr.exporting.torchscript import scripted
    from zipasr.recognition.onnx_runtime import OnnxGraph

    model = model_of(config)
    write_onnx(
        tmp_path / "encoder.onnx", transducer_graphs(model, config.export_layout())["encoder"]
    )
    onnx, torchscript = OnnxGraph(tmp_path / "encoder.onnx"), scripted(model, False)
    shortest = model.geometry.min_frames
    for num in (1, shortest - 1, shortest, shortest + 1, 50):
        features, lens = torch.randn(2, num, 80), torch.tensor([num, max(1, num - 2)])
        padded = torch.nn.functional.pad(
            features, (0, 0, 0, max(0, shortest - num)), value=-23.025851
        )
        wanted, counts = model.encode(padded, lens.clamp(min=shortest))
        frames, num_frames = torchscript.encoder(features, lens)
        torch.testing.assert_close(frames, wanted, atol=1e-4, rtol=1e-4)
        assert num_frames.tolist() == counts.tolist()
        projected, found = onnx(features, lens)
        torch.testing.assert_close(
            projected, model.joiner.encoder_proj(wanted), atol=1e-4, rtol=1e-4
        )
        assert found.tolist() == counts.tolist()


@torch.no_grad()
def test_a_search_may_ask_about_several_frames_at_once(tmp_path: Path) -> None:
    from zipasr.exporting.onnx_files import transducer_graphs, write_onnx
    from zipasr.recognition.onnx_runtime import onnx_steps

    model = model_of(SECOND)
    assert model.decoder is not None
    assert model.joiner is not None
    parts = transducer_graphs(model, SECOND.export_layout())
    for name in ("decoder", "joiner"):
        write_onnx(tmp_path / f"{name}.onnx", parts[name])
    ours = TransducerSteps(model.decoder, model.joiner)
    theirs = onnx_steps(tmp_path / "decoder.onnx", tmp_path / "joiner.onnx", 2)
    contexts = torch.tensor([[-1, 0], [0, 5], [7, 19]])
    predictions = theirs.predict(contexts)
    torch.testing.assert_close(predictions, ours.predict(contexts))
    frames = torch.randn(3, 4, 32)
    scores = theirs.next_scores(frames, predictions.unsqueeze(1))
    torch.testing.assert_close(scores, ours.next_scores(frames, predictions.unsqueeze(1)))
