import datetime
import io
import os
import pickle
import resource
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from zipasr.base.errors import CheckpointError, ResourceError
from zipasr.checkpoint.checkpoint_file import (
    epoch_checkpoint,
    find_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from zipasr.checkpoint.retention import remove_old


def content() -> dict[str, Any]:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "sampler": {"epoch": 1, "seen": [1, 2, (3, None)], 5: True},
        "tokenizer": b"\x00\x01",
        "batch_idx_train": 7,
        "loss": 0.25,
    }


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "exp" / "checkpoint-7.pt"
    saved = content()
    save_checkpoint(path, saved)
    loaded = load_checkpoint(path)
    assert torch.equal(loaded["model"]["weight"], saved["model"]["weight"])
    assert isinstance(loaded["model"], OrderedDict)
    assert str(loaded["optimizer"]) == str(saved["optimizer"])
    for key in ("sampler", "tokenizer", "batch_idx_train", "loss"):
        assert loaded[key] == saved[key]
    assert names(path.parent) == ["checkpoint-7.pt"]


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": [1, {2, 3}]}, r"checkpoint\['x'\]\['a'\]\[1\] is a builtins.set"),
        (Path("exp"), "pathlib"),
        ({datetime.date(2020, 1, 1): 1}, "a key of .* is a datetime.date"),
    ],
)
def test_other_objects_are_refused_before_anything_is_written(
    tmp_path: Path, value: object, where: str
) -> None:
    with pytest.raises(CheckpointError, match=where):
        save_checkpoint(tmp_path / "a.pt", {"x": value})
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [RuntimeError("unexpected pos 704 vs 598"), OSError(28, "full")])
def test_failure_in_the_middle_leaves_the_previous_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = tmp_path / "epoch-1.pt"
    save_checkpoint(path, content())
    before = path.read_bytes()

    def broken_save(_: object, file: Path) -> None:
        Path(file).write_bytes(b"PK\x03\x04 half of it")
        raise error

    monkeypatch.setattr(torch, "save", broken_save)
    with pytest.raises(ResourceError, match="free on the disk"):
        save_checkpoint(path, content())
    assert path.read_bytes() == before
    assert names(tmp_path) == ["epoch-1.pt"]


def test_interruption_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object, file: Path) -> None:
        Path(file).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path / "epoch-1.pt", content())
    assert names(tmp_path) == []


def test_file_that_was_cut_while_writing_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_save = torch.save

    def lossy_save(value: object, file: Path) -> None:
        whole_save(value, file)
        os.truncate(file, Path(file).stat().st_size // 2)

    monkeypatch.setattr(torch, "save", lossy_save)
    with pytest.raises(ResourceError, match="Cannot write"):
        save_checkpoint(tmp_path / "epoch-1.pt", content())
    assert names(tmp_path) == []


def test_full_disk_leaves_the_previous_file(tmp_path: Path) -> None:
    path = tmp_path / "epoch-1.pt"
    save_checkpoint(path, {"model": {"w": torch.ones(3)}})
    before = path.read_bytes()
    # A limit on the size of files fails in the same calls as a full disk does.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(ResourceError, match="earlier checkpoints are untouched"):
            save_checkpoint(path, {"model": {"w": torch.ones(1_000_000)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert names(tmp_path) == ["epoch-1.pt"]


class Foreign:
    """Something that only the program that wrote it knows."""


def foreign_file() -> bytes:
    file = io.BytesIO()
    torch.save({"model": {}, "thing": Foreign()}, file)
    return file.getvalue()


def whole_file(legacy: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(content(), file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (POINTER, rf"is a git-lfs pointer \({len(POINTER)} bytes\)\. Fix: run git lfs pull"),
        (whole_file()[:-100], rf"is cut: it has {len(whole_file()) - 100} bytes"),
        (whole_file()[:1000], "is cut: it has 1000 bytes"),
        (foreign_file(), r"holds objects other than tensors.*Foreign"),
        (b"<html>not found</html>", "is a web page"),
        (b"not found", r"is not a checkpoint: it begins with b'not found'\."),
        (pickle.dumps({"model": {}}, protocol=4)[:-1], "is not a checkpoint|cannot be read"),
        (b"\x80\x02}q", "is not a checkpoint|cannot be read"),
    ],
    ids=["empty", "pointer", "cut", "cut-short", "foreign", "html", "text", "new", "pickle"],
)
def test_broken_files_are_recognised(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "epoch-3.pt"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=message) as info:
        load_checkpoint(path)
    assert str(path) in str(info.value)
    assert "\n" not in str(info.value)
    assert info.value.exit_code == 4


def test_a_folder_says_what_to_give(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "epoch-2.pt").write_bytes(whole_file())
    with pytest.raises(CheckpointError, match=r"run is a folder, not a checkpoint; .* has epoch-2"):
        load_checkpoint(run)
    with pytest.raises(CheckpointError, match=r"Fix: give a \.pt file in it, or the .* --exp-dir"):
        load_checkpoint(run)
    (run / "epoch-2.pt").rename(run / "encoder.onnx")
    with pytest.raises(CheckpointError, match=r"Fix: give it to \./transcribe\.py with --model"):
        load_checkpoint(run)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_cut_anywhere_is_called_cut(legacy: bool, tmp_path: Path) -> None:
    whole, path = whole_file(legacy), tmp_path / "pretrained.pt"
    path.write_bytes(whole)
    assert load_checkpoint(path)["batch_idx_train"] == 7
    step = max(1, len(whole) // 300)
    for size in [*range(1, len(whole), step), *range(len(whole) - 30, len(whole))]:
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=f"pretrained.pt is cut: it has {size} bytes"):
            load_checkpoint(path)


def test_an_archive_without_its_middle_is_called_cut(tmp_path: Path) -> None:
    whole = whole_file()
    (tmp_path / "a.pt").write_bytes(whole[:100] + whole[-100:])
    with pytest.raises(CheckpointError, match="is cut"):
        load_checkpoint(tmp_path / "a.pt")


def test_foreign_objects_in_an_old_file_are_named(tmp_path: Path) -> None:
    torch.save({"thing": Foreign()}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"holds objects other than tensors.*Foreign"):
        load_checkpoint(tmp_path / "a.pt")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_an_exported_model_is_named_and_not_run(tmp_path: Path) -> None:
    torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)).save(str(tmp_path / "cpu_jit.pt"))
    with pytest.raises(CheckpointError, match=r"is a TorchScript model.*such as pretrained\.pt"):
        load_checkpoint(tmp_path / "cpu_jit.pt")


def test_missing_file_says_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "epoch-2.pt").touch()
    with pytest.raises(CheckpointError, match=r"does not exist; .* has epoch-2\.pt"):
        load_checkpoint(tmp_path / "epoch-3.pt")
    with pytest.raises(CheckpointError, match="does not exist either"):
        load_checkpoint(tmp_path / "nowhere" / "epoch-3.pt")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "pretrained.pt").touch()
    with pytest.raises(CheckpointError, match=r"no checkpoints but .*other/pretrained.pt, which"):
        epoch_checkpoint(tmp_path / "other", 30)


def test_file_without_named_entries_is_refused(tmp_path: Path) -> None:
    torch.save(torch.ones(3), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="holds a Tensor instead"):
        load_checkpoint(tmp_path / "a.pt")


def test_paths_and_types_in_published_checkpoints_are_harmless(tmp_path: Path) -> None:
    flags = {"exp_dir": Path("zipformer/exp"), "dtype": torch.float16, "seed": 42}
    torch.save({"model": {"w": torch.ones(2)}, **flags}, tmp_path / "a.pt")
    assert load_checkpoint(tmp_path / "a.pt")["exp_dir"] == Path("zipformer/exp")


def test_find_and_remove(tmp_path: Path) -> None:
    for number in (100, 2000, 300, 40):
        (tmp_path / f"checkpoint-{number}.pt").touch()
    others = ["best-valid-loss.pt", "checkpoint-7.pt.tmp", "checkpoint-old.pt", "epoch-1.pt"]
    for name in others:
        (tmp_path / name).touch()

    def numbers(iteration: int = 0) -> list[int]:
        return [int(p.stem.split("-")[1]) for p in find_checkpoints(tmp_path, iteration)]

    assert numbers() == [2000, 300, 100, 40]
    assert numbers(300) == [300, 100, 40]
    assert numbers(299) == [100, 40]
    with pytest.raises(ValueError, match="keep-last-k"):
        remove_old(tmp_path, 0)
    removed = remove_old(tmp_path, 2)
    assert [path.name for path in removed] == ["checkpoint-100.pt", "checkpoint-40.pt"]
    assert remove_old(tmp_path, 2) == []
    assert names(tmp_path) == sorted(["checkpoint-2000.pt", "checkpoint-300.pt", *others])
    assert find_checkpoints(tmp_path / "nowhere") == []


def test_epoch_checkpoint_explains_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no checkpoints"):
        epoch_checkpoint(tmp_path, 1)
    for epoch in (1, 2, 10):
        (tmp_path / f"epoch-{epoch}.pt").touch()
    (tmp_path / "epoch-2-avg-1.pt").touch()
    assert epoch_checkpoint(tmp_path, 10) == tmp_path / "epoch-10.pt"
    with pytest.raises(CheckpointError, match=r"has epoch-1\.pt, epoch-2\.pt, epoch-10\.pt\."):
        epoch_checkpoint(tmp_path, 3)
