"""Exported folders that are damaged, or mixed of two exports, are refused in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import zipasr
from zipasr.base.errors import CheckpointError
from zipasr.cli import info, transcribe
from zipasr.recognition.export_check import FILES, SAMPLE, SETTINGS, TABLE, stored_stamps

pytest.importorskip("sherpa_onnx", reason="sherpa-onnx is not installed")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole / "out", tmp_path / "out")
    return tmp_path / "out"


def the(pattern: str, folder: Path) -> Path:
    (path,) = (one for one in folder.glob(pattern) if not one.stem.endswith((".int8", ".fp16")))
    return path


def cut(folder: Path) -> Path:
    path = the("encoder*.onnx", folder)
    path.write_bytes(path.read_bytes()[:-1])
    return path


def turn_a_bit(folder: Path) -> Path:
    path = the("joiner*.onnx", folder)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path


def take_tokens_of_another(folder: Path) -> Path:
    path = folder / TABLE
    first, *lines = path.read_text(encoding="utf-8").splitlines()
    pieces = [line.split()[0] for line in lines]
    numbered = (f"{piece} {number}" for number, piece in enumerate(pieces[::-1], 1))
    path.write_text("\n".join([first, *numbered]) + "\n", encoding="utf-8")
    return path


def take_the_decoder_of_another(folder: Path) -> Path:
    path = the("decoder*.onnx", folder)
    return path.rename(folder / "decoder-epoch-7-avg-1.onnx")


def damage_settings(folder: Path) -> Path:
    path = folder / SETTINGS
    path.write_text(path.read_text()[:100])
    return path


FAULTS = {
    "bytes, and its export wrote": cut,
    "its hash is not the one": turn_a_bit,
    "hash": take_tokens_of_another,
    "is not of the export in config.json": take_the_decoder_of_another,
    "is damaged": damage_settings,
}


@pytest.mark.parametrize(("said", "harm"), FAULTS.items(), ids=FAULTS)
def test_a_folder_with_other_files_is_refused_with_the_name_of_one(
    said: str, harm: Callable[[Path], Path], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = harm(folder)
    with pytest.raises(CheckpointError, match=f"{path} .*{said}.* Fix: copy the whole folder"):
        zipasr.load_model(folder)
    sound = str(folder / SAMPLE)
    for run, words in ((transcribe.main, ["--model", str(folder), sound]), (info.main, [folder])):
        assert run([str(word) for word in words]) == CheckpointError.exit_code
        out, error = capsys.readouterr()
        assert out == ""
        assert len(error.splitlines()) == 1
        assert path.name in error


def test_files_that_are_not_used_may_be_deleted_and_folders_of_before_load(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {*stored_stamps(folder)}
    assert names == {
        *(path.name for kind in ("*.onnx", "*.pt", "bpe.*", TABLE) for path in folder.glob(kind)),
        *(path.name for path in folder.glob("training_sound.json")),
    }
    wanted = zipasr.load_model(folder).transcribe(folder / SAMPLE).text
    (folder / "pretrained.pt").unlink()
    assert info.main([str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = [line for line in lines if line.startswith("check ")]
    assert (
        found[0]
        == f"{'check':<12}{len(names) - 1} of {len(names)} files are there, as they were exported"
    )
    assert found[1].startswith(f"{'check':<12}{folder / SAMPLE}: {wanted} (")
    path = folder / SETTINGS
    settings = json.loads(path.read_text())
    del settings[FILES]
    path.write_text(json.dumps(settings))
    take_the_decoder_of_another(folder)
    assert zipasr.load_model(folder).transcribe(folder / SAMPLE).text == wanted
    path.unlink()
    assert zipasr.load_model(folder).transcribe(folder / SAMPLE).text == wanted


def test_a_large_file_of_the_right_size_is_found_by_info(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("zipasr.recognition.export_check._QUICKLY_HASHED", 0)
    path = turn_a_bit(folder)
    zipasr.load_model(folder)
    assert info.main([str(folder)]) == CheckpointError.exit_code
    assert f"{folder}: {path.name} is damaged or of another export" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["pretrained.pt", "jit_script.pt"])
def test_folders_without_onnx_files_are_checked_too(name: str, folder: Path) -> None:
    kept = sorted(folder.glob("jit_script*.pt"))[0] if name != "pretrained.pt" else folder / name
    for path in [*folder.glob("*.onnx"), *folder.glob("*.pt")]:
        if path != kept:
            path.unlink()
    assert zipasr.load_model(folder)
    kept.write_bytes(kept.read_bytes() + b"\0")
    with pytest.raises(CheckpointError, match=f"{kept} has "):
        zipasr.load_model(folder)
