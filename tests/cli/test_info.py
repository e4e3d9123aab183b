"""The command that tells what a model is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.tones import ROOT
from zipasr.base.errors import CheckpointError
from zipasr.cli import info
from zipasr.cli.main import main as zipasr


def lines(text: str) -> dict[str, str]:
    return {line[:12].strip(): line[12:] for line in text.splitlines()}


def test_a_run_its_checkpoint_and_a_bare_state_dict(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exp = trained / "exp"
    assert info.main([str(exp)]) == 0
    run = lines(capsys.readouterr().out)
    assert run["file"].startswith(f"{exp}/epoch-2.pt (")
    assert run["model"].startswith("Zipformer with 1,1 layers of 32,40 channels")
    assert run["tokenizer"].split(", ")[0] == "18 tokens"
    assert run["trained"].startswith("epoch 2, ")
    assert {"command", "date", "machine", "data", "seed"} <= run.keys()

    assert info.main([str(exp / "epoch-1.pt"), "--json", "1"]) == 0
    (facts,) = json.loads(capsys.readouterr().out).values()
    assert facts["counters"]["cur_epoch"] == 1
    assert facts["settings"]["zipformer"]["encoder_dim"] == [32, 40]

    plain = tmp_path / "plain.pt"
    torch.save({"model": torch.load(exp / "epoch-2.pt", weights_only=True)["model"]}, plain)
    assert zipasr(["info", str(plain)]) == 0
    bare = lines(capsys.readouterr().out)
    assert bare["model"] == run["model"]
    assert "note" in bare  # what cannot be read off shapes is assumed, and told
    assert "tokenizer" not in bare


def test_an_exported_file_says_what_is_in_its_header(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", "T", 80])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", "T", 80])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [value], [out]))
    onnx.helper.set_model_props(model, {"model_type": "zipformer2", "vocab_size": "20"})
    onnx.save(model, tmp_path / "a.onnx")
    assert info.main([str(tmp_path / "a.onnx")]) == 0
    assert lines(capsys.readouterr().out)["model_type"] == "zipformer2"
    facts = info.facts_of(tmp_path / "a.onnx")
    (shapes,) = facts["shapes"].values()
    assert list(shapes["inputs"]["x"]) == ["N", "T", 80]


def test_damaged_files_are_one_line(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.onnx").write_bytes(b"x" * 99)
    checkpoint = torch.load(trained / "exp" / "epoch-2.pt", weights_only=True)
    torch.save({**checkpoint, "tokenizer": "bpe.model"}, tmp_path / "b.pt")
    for name, message in (("a.onnx", "is no ONNX file"), ("b.pt", "the tokenizer in the")):
        assert info.main([str(tmp_path / name)]) == CheckpointError.exit_code
        said = capsys.readouterr()
        assert (said.out, len(said.err.splitlines())) == ("", 1)
        assert message in said.err


def test_a_file_that_is_no_model_does_not_hide_the_others(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.pt").touch()
    epochs = [str(trained / "exp" / f"epoch-{epoch}.pt") for epoch in (1, 2)]
    words = [epochs[0], str(tmp_path / "a.pt"), epochs[1], str(tmp_path / "b.pt")]
    assert info.main(words) == CheckpointError.exit_code
    said = capsys.readouterr()
    found = [line for line in said.out.splitlines() if line.startswith("file ")]
    assert [line[12:].split(" (")[0] for line in found] == epochs
    empty, missing = said.err.splitlines()
    assert empty.startswith(f"error: {tmp_path}/a.pt is empty (0 bytes)")
    assert missing.startswith(f"error: {tmp_path}/b.pt does not exist")
    assert info.main([*words, "--json", "1"]) == CheckpointError.exit_code
    assert [*json.loads(capsys.readouterr().out)] == epochs


@pytest.mark.parametrize("name", ["README.md", "nothing.pt", "docs"])
def test_what_is_no_model_is_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert info.main([str(ROOT / name)]) == CheckpointError.exit_code
    said = capsys.readouterr()
    assert (said.out, len(said.err.splitlines())) == ("", 1)
    assert name in said.err
