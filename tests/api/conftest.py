"""Models in every form that ``zipasr.load_model`` takes, all of the same weights."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests import speaking_model
from zipasr.checkpoint.checkpoint_file import load_checkpoint, save_checkpoint
from zipasr.cli import export

#: The flags of the export, and the settings that load the same model from the run.
CHUNK = 32
SETTINGS = {"epoch": 2, "avg": 1, "use_averaged_model": False}


def exported(folder: Path, *flags: str) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        model = str(folder / "exp" / "epoch-2.pt")
        words = ["--recipe", str(folder / "tones"), "--checkpoint", model, "--jit", "1", *flags]
        assert export.main([*words, "--output-dir", str(folder / "out")]) == 0
    return folder


@pytest.fixture(scope="session")
def whole(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run in ``exp`` and its exports in ``out``."""
    pytest.importorskip("onnx", reason="onnx is not installed")
    folder = tmp_path_factory.mktemp("api") / "run"
    shutil.copytree(trained, folder)
    speaking_model.make_talkative(folder)
    # As icefall writes it: weights, no settings, no tokenizer.
    stored = load_checkpoint(folder / "exp" / "epoch-2.pt")
    save_checkpoint(folder / "plain.pt", {"model": stored["model"]})
    return exported(folder)


def untrained(prepared: Path, folder: Path) -> Path:
    """Write a run of a causal model with random weights into a new folder."""
    pytest.importorskip("onnx", reason="onnx is not installed")
    shutil.copytree(prepared, folder)
    bpe = folder / "data" / "tones" / "lang_bpe" / "bpe.model"
    encoder = replace(
        speaking_model.SECOND,
        causal=True,
        chunk_size=(CHUNK,),
        left_context_frames=(32,),
        embed_channels=(8, 32, 128),
    )
    path = folder / "exp" / "epoch-2.pt"
    speaking_model.write_untrained(path, encoder, bpe, speaking_model.HEADS)
    return folder


@pytest.fixture(scope="session")
def causal(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a causal model with random weights."""
    folder = untrained(prepared, tmp_path_factory.mktemp("api-causal") / "run")
    speaking_model.make_talkative(folder)
    return exported(folder)


@pytest.fixture(scope="session")
def pausing(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal model that says nothing in silence, and its exports."""
    folder = untrained(prepared, tmp_path_factory.mktemp("api-pausing") / "run")
    speaking_model.make_pausing(folder)
    return exported(folder)


@pytest.fixture(scope="session")
def sounds(whole: Path) -> list[Path]:
    """Recordings of the test set."""
    return sorted((whole / "source" / "test").glob("*.flac"))[:4]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
