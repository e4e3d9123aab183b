"""ONNX files for other programs: one length, no lengths, integers of 32 bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.speaking_model import FIRST, HEADS, SECOND
from zipasr.encoder.protocol import EncoderConfig
from zipasr.exporting.config import Shape
from zipasr.exporting.exporters import ExportJob, export_onnx, fit_utterances
from zipasr.exporting.parity import LOG_ZERO
from zipasr.model.build import build_model

pytest.importorskip("onnx", reason="export-requirements.txt is not installed")

VOCAB, FRAMES = 20, 121
FIXED = Shape(frames=FRAMES, is_fixed=True)
SHAPES = [
    Shape(frames=FRAMES),
    Shape(uses_int32=True),
    Shape(takes_lengths=False),
    FIXED,
    replace(FIXED, takes_lengths=False, uses_int32=True),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("config", [SECOND, FIRST], ids=["second", "first"])
def test_files_take_what_is_asked_for_and_give_what_the_model_gives(
    shape: Shape, config: EncoderConfig, tmp_path: Path
) -> None:
    import onnxruntime

    torch.manual_seed(0)
    model = build_model(config, HEADS, VOCAB).eval()
    utterances = [torch.randn(num, 80) * 3 - 9 for num in (60, 97, 150)]
    job = ExportJob(model, config, tmp_path, "", utterances, shape)
    checks = export_onnx(job, [""])
    assert all(check.ok for check in checks)
    for part in ("encoder", "model", "decoder", "joiner"):
        session = onnxruntime.InferenceSession(str(tmp_path / f"{part}.onnx"))
        inputs, outputs = session.get_inputs(), session.get_outputs()
        kind = "tensor(int32)" if shape.uses_int32 else "tensor(int64)"
        assert all(one.type in (kind, "tensor(float)") for one in inputs)
        assert all(isinstance(one.shape[0], int) == shape.is_fixed for one in inputs)
        if part in ("encoder", "model"):
            assert len(inputs) == len(outputs) == 1 + shape.takes_lengths
            assert (inputs[0].shape[1] == FRAMES) == shape.is_fixed
    # What the model itself gives, with silence up to the length of the file.
    features = torch.full((1, FRAMES, 80), LOG_ZERO)
    features[0, :97] = utterances[1]
    num = torch.tensor([97 if shape.takes_lengths else FRAMES])
    with torch.no_grad():
        encoded = model.encode(features, num)
        wanted = model.ctc_log_probs(encoded.frames)[0, : int(encoded.lens)]
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    given = {"x": features.numpy()}
    if shape.takes_lengths:
        given["x_lens"] = num.to(torch.int32 if shape.uses_int32 else torch.int64).numpy()
    found = torch.from_numpy(session.run(None, given)[0])[0, : len(wanted)]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-3)


CHUNK = 16
STREAMS = [
    replace(SECOND, causal=True, chunk_size=(CHUNK,), left_context_frames=(32,)),
    replace(FIRST, causal=True, num_left_chunks=2),
]


@pytest.mark.parametrize("config", STREAMS, ids=["second", "first"])
def test_files_of_chunks_take_one_stream_and_give_its_states_back(
    config: EncoderConfig, tmp_path: Path
) -> None:
    import onnxruntime

    torch.manual_seed(0)
    model = build_model(config, HEADS, VOCAB).eval()
    utterances = [torch.randn(num, 80) * 3 - 9 for num in (9, 97, 150)]
    shape = Shape(is_fixed=True, uses_int32=True)
    checks = export_onnx(ExportJob(model, config, tmp_path, "", utterances, shape), [""])
    assert [check.ok for check in checks] == [True, True]
    names = ["encoder", "model", "decoder", "joiner"]
    for path in sorted(tmp_path.glob("*.onnx")):
        session = onnxruntime.InferenceSession(str(path))
        values = [*session.get_inputs(), *session.get_outputs()]
        assert {value.type for value in values} <= {"tensor(float)", "tensor(int32)"}
        assert all(isinstance(size, int) for value in session.get_inputs() for size in value.shape)
        states = {f"new_{one.name}": one for one in session.get_inputs()[1:]}
        for one in session.get_outputs()[1:]:
            assert (one.type, one.shape) == (states[one.name].type, states[one.name].shape)
        names.remove(path.name.partition("-")[0].removesuffix(".onnx"))
    assert names == []


def test_utterances_are_cut_and_padded_to_what_files_take() -> None:
    utterances = [torch.zeros(num, 80) for num in (60, 200)]
    lengths = {
        Shape(): [60, 200],
        Shape(takes_lengths=False): [60, 60],
        FIXED: [60, FRAMES],
        replace(FIXED, takes_lengths=False): [FRAMES, FRAMES],
    }
    for shape, wanted in lengths.items():
        assert [len(one) for one in fit_utterances(shape, utterances)] == wanted
    padded = fit_utterances(replace(FIXED, takes_lengths=False), utterances)[0]
    assert (padded[60:] == LOG_ZERO).all()
    assert (padded[:60] == 0).all()
    assert len(replace(FIXED, takes_lengths=False, uses_int32=True).client_limits()) == 3
    assert not Shape(frames=FRAMES).client_limits()
