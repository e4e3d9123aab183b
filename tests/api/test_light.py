"""Recognition of one file imports what it uses, and reads each file once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.other_process import ROOT
from zipasr.checkpoint import checkpoint_file
from zipasr.recognition.exported_files import files_in, runs_in_sherpa
from zipasr.recognition.torch_model import TorchModel

HEAVY = {
    "charset_normalizer",
    "jinja2",
    "lhotse",
    "llvmlite",
    "matplotlib",
    "numba",
    "onnx",
    "onnxruntime",
    "tensorboard",
    "torch._dynamo",
    "torch.utils.data",
    "yaml",
    "zipasr.lm.ngram_file",
    "zipasr.losses.numba_backend",
    "zipasr.search.lattice",
    "zipasr.search.rescoring",
    "zipasr.training.loop",
}


def run(folder: Path, *words: object) -> tuple[list[str], set[str]]:
    """Run transcribe.py in a process of its own; return its lines, and what was imported."""
    program = (
        "import sys\nfrom zipasr.cli.entry import start\n"
        f"status = start('transcribe.py', {[str(word) for word in words]!r})\n"
        "assert status == 0, status\nprint(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *lines, modules = done.stdout.splitlines()
    return lines, {*modules.split()}


def plain_torch() -> set[str]:
    """Return what ``import torch`` imports by itself."""
    program = "import sys, torch; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return {*done.stdout.split()}


@pytest.fixture
def flags(whole: Path) -> list[str]:
    return ["--recipe", str(whole / "tones")]


def test_a_run_folder_needs_torch_and_little_else(
    whole: Path, sounds: list[Path], flags: list[str]
) -> None:
    rest = ["--exp-dir", whole / "exp", "--epoch", "2", "--avg", "1", "--use-averaged-model", "0"]
    lines, modules = run(whole, *flags, *rest, sounds[0])
    assert any(lines)
    assert "torch" in modules
    assert HEAVY & (modules - plain_torch()) == set()


@pytest.mark.parametrize("method", ["greedy_search", "modified_beam_search", "ctc-greedy-search"])
def test_an_exported_folder_needs_no_torch(
    whole: Path, sounds: list[Path], flags: list[str], method: str
) -> None:
    pytest.importorskip("sherpa_onnx", reason="sherpa-onnx is not installed")
    lines, modules = run(
        whole, *flags, "--model", whole / "out", "--decoding-method", method, sounds[0]
    )
    assert any(lines)
    assert (HEAVY | {"torch"}) & modules == set()


def test_what_sherpa_does_not_do_is_done_by_our_own_search(
    whole: Path, sounds: list[Path], flags: list[str]
) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model = [*flags, "--model", whole / "out"]
    ctc_times = ["--decoding-method", "ctc-greedy-search", "--format", "srt"]
    for more in (["--temperature", "2"], ctc_times):
        lines, modules = run(whole, *model, *more, sounds[0])
        assert any(lines)
        assert "torch" in modules


def test_files_that_would_end_the_process_are_left_to_our_own_search(
    whole: Path, tmp_path: Path
) -> None:
    found, table = files_in(whole / "out", prefers_ctc=False), whole / "out" / "tokens.txt"
    assert runs_in_sherpa(found, table)
    assert runs_in_sherpa(files_in(whole / "out", prefers_ctc=True), table)
    short = tmp_path / "tokens.txt"
    short.write_text("\n".join(table.read_text(encoding="utf-8").splitlines()[:-1]) + "\n")
    assert not runs_in_sherpa(found, short)
    assert not runs_in_sherpa(found, tmp_path / "lost.txt")
    damaged = tmp_path / "encoder.onnx"
    damaged.write_bytes(found[0].read_bytes()[:1000])
    assert not runs_in_sherpa([damaged, *found[1:]], table)


def test_bfloat16_of_a_recipe_is_about_its_checkpoints(
    whole: Path, sounds: list[Path], tmp_path: Path
) -> None:
    """The recipe of the embedded corpus trains and decodes in bfloat16."""
    pytest.importorskip("sherpa_onnx", reason="sherpa-onnx is not installed")
    lines, _ = run(
        tmp_path, "--recipe", ROOT / "egs" / "espeak", "--model", whole / "out", sounds[0]
    )
    assert any(lines)


def test_each_checkpoint_is_read_once(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zipasr

    read: list[Path] = []
    load = torch.load

    def counted(path: Path, **how: object) -> object:
        read.append(path)
        return load(path, **how)

    monkeypatch.setattr(checkpoint_file.torch, "load", counted)
    model = zipasr.load_model(whole / "exp", avg=1)
    assert isinstance(model, TorchModel)
    assert len(read) == len({*read}) == 2


def test_a_legacy_file_is_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    assert torch.equal(checkpoint_file.reader_of_parts()(path)["a"], torch.ones(2))
