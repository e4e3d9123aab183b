"""What may change when a run goes on, and what would turn its weights into another model."""

from __future__ import annotations

import logging
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.short import train
from zipasr.base.config import to_dict
from zipasr.base.errors import CheckpointError
from zipasr.checkpoint.checkpoint_file import load_checkpoint, save_checkpoint
from zipasr.encoder.zipformer.config import ZipformerConfig
from zipasr.encoder.zipformer1.config import Zipformer1Config
from zipasr.model.build import build_model
from zipasr.model.config import ModelConfig
from zipasr.training.resume_checks import changed_settings, check_continues

# As many channels of queries, positions and values as two heads of 8, 4 and 8.
SAME_SHAPES = "--num-heads 4 --query-head-dim 4 --pos-head-dim 2 --value-head-dim 4"


@pytest.fixture(scope="module")
def begun(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch."""
    exp_dir = tmp_path_factory.mktemp("begun") / "exp"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(prepared)
        train(exp_dir, "")
    return exp_dir


@pytest.fixture
def exp_dir(begun: Path, tmp_path: Path) -> Path:
    """A copy of ``begun`` to go on with."""
    return shutil.copytree(begun, tmp_path / "exp")


def test_lists_are_compared_in_full_and_unknown_fields_are_left_out() -> None:
    stored = {
        "ZipformerConfig": {"downsampling_factor": [1, 2], "num_heads": [2], "gone": 1},
        "TrainConfig": {"seed": 1},
        "Gone": {"x": 1},
    }
    now = {
        "zipformer": {"downsampling_factor": [1, 2], "num_heads": [2, 2], "new": 5},
        "TrainConfig": {"seed": 2, "use_fp16": True},
    }
    (change,) = changed_settings(stored, now)
    assert str(change) == "--seed 1 -> 2"
    assert not change.is_of_model


# What can change while the same weights stay the same model; all else of a model cannot.
FREE = {
    ZipformerConfig: {
        "encoder_unmasked_dim": [8] * 6,
        "dropout": 0.2,
        "chunk_size": [16],
        "left_context_frames": [64],
    },
    Zipformer1Config: {
        "encoder_unmasked_dims": [8] * 5,
        "dropout": 0.2,
        "short_chunk_size": 40,
        "decode_chunk_len": 64,
        "num_left_chunks": 2,
        "mask_unfilled_cache": True,
    },
    ModelConfig: {"use_cr_ctc": True},
}


@pytest.mark.parametrize(
    ("cls", "name"), [(cls, field.name) for cls in FREE for field in fields(cls)]
)
@pytest.mark.parametrize("version", ["now", "former"])
def test_only_what_leaves_the_weights_their_meaning_may_change(
    cls: Any, name: str, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    now = {cls.schema: to_dict(cls())}
    schema = cls.schema if version == "now" else cls.former_schemas[0]
    stored = {schema: now[cls.schema] | {name: FREE[cls].get(name, "another")}}
    tokenizer: Any = None  # the checkpoint has none to compare it with
    if name in FREE[cls]:
        check_continues({"configs": stored}, now, tokenizer, Path("epoch-1.pt"))
        assert f"changed since epoch-1.pt: --{name.replace('_', '-')} " in caplog.text
    else:
        with pytest.raises(CheckpointError, match="would mean something else"):
            check_continues({"configs": stored}, now, tokenizer, Path("epoch-1.pt"))


@pytest.mark.parametrize("encoder", [ZipformerConfig, Zipformer1Config])
def test_what_may_change_leaves_the_shapes_alone(encoder: Any) -> None:
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in FREE[encoder].items()}
    assert {*values} == {*encoder.free_on_resume}
    with torch.device("meta"):
        before, after = (
            build_model(encoder(causal=True, **changed), ModelConfig(), 20).state_dict()
            for changed in ({}, values)
        )
    assert {n: t.shape for n, t in before.items()} == {n: t.shape for n, t in after.items()}


@pytest.mark.usefixtures("here")
def test_another_period_of_the_average_counts_its_models(
    exp_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = load_checkpoint(exp_dir / "epoch-1.pt")
    assert first["models_averaged"] == first["batch_idx_train"] // 2
    # As an older version wrote it: without the count.
    save_checkpoint(
        exp_dir / "epoch-1.pt", {k: v for k, v in first.items() if k != "models_averaged"}
    )
    caplog.set_level(logging.INFO)
    # The log of a run replaces the handlers of the root.
    second = train(exp_dir, "--num-epochs 2 --average-period 3 --base-lr 0.03")
    done, all_done = first["batch_idx_train"], second["batch_idx_train"]
    new = sum(batch % 3 == 0 for batch in range(done + 1, all_done + 1))
    assert second["models_averaged"] == first["models_averaged"] + new
    log = max((exp_dir / "log").iterdir()).read_text()
    (line,) = [line for line in log.splitlines() if "changed since" in line]
    for change in ("--average-period 2 -> 3", "--num-epochs 1 -> 2", "--base-lr 0.045 -> 0.03"):
        assert change in line


@pytest.mark.usefixtures("here")
def test_heads_of_another_size_in_the_same_shapes_are_refused(exp_dir: Path) -> None:
    with pytest.raises(CheckpointError) as info:
        train(exp_dir, f"--num-epochs 2 {SAME_SHAPES}")
    said = str(info.value)
    assert said.startswith("--num-heads 4 --query-head-dim 4 --value-head-dim 4 --pos-head-dim 2 ")
    assert "epoch-1.pt was trained with --num-heads 2 --query-head-dim 8 " in said
    assert "would mean something else. Fix: --num-heads 2" in said
    assert not (exp_dir / "epoch-2.pt").exists()


@pytest.mark.usefixtures("here")
def test_another_tokenizer_of_the_same_size_is_refused(exp_dir: Path) -> None:
    path = exp_dir / "epoch-1.pt"
    checkpoint: dict[str, Any] = load_checkpoint(path)
    other = bytes(checkpoint["tokenizer"].tolist()).replace(b"LOW", b"WOL")
    checkpoint["tokenizer"] = torch.frombuffer(bytearray(other), dtype=torch.uint8)
    save_checkpoint(path, checkpoint)
    with pytest.raises(CheckpointError, match=r"is not the tokenizer that .* was trained with"):
        train(exp_dir, "--num-epochs 2")
