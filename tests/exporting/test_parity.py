"""A model that differs is refused; a folder is whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from zipasr.base.errors import NumericError, UserError
from zipasr.encoder.protocol import Geometry
from zipasr.exporting.folder_files import LICENCE_NOTE, SETTINGS, whole_folder
from zipasr.exporting.parity import (
    ParityMode,
    compare,
    made_up_utterances,
    refuse_differences,
    table,
)
from zipasr.search.protocol import Utterance


def way(shift: float = 0.0, token: int = 1, extra: int = 0) -> ParityMode:
    def encode(features: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        return features + shift, lens + extra

    return ParityMode(encode, lambda frames, lens: [Utterance([token], [0], 0.0)] * len(lens))


@pytest.mark.parametrize(
    "other", [way(shift=0.01), way(token=2), way(extra=-1), way(shift=float("nan"))]
)
def test_what_differs_is_refused(other: ParityMode) -> None:
    check = compare("x.onnx", other, way(), made_up_utterances(Geometry()), True)
    assert "x.onnx" in table([check])
    with pytest.raises(NumericError, match=r"x\.onnx differs"):
        refuse_differences([check])


def test_what_is_the_same_passes_and_eight_bits_may_differ() -> None:
    same = compare("x.onnx", way(), way(), made_up_utterances(Geometry()), True)
    small = compare("x.int8.onnx", way(shift=0.5), way(), made_up_utterances(Geometry()), False)
    refuse_differences([same, small])
    broken = compare(
        "x.int8.onnx", way(shift=torch.nan), way(), made_up_utterances(Geometry()), False
    )
    assert not broken.ok


def fail_in(place: Path) -> None:
    with whole_folder(place) as folder:
        (folder / SETTINGS).write_text("broken")
        raise RuntimeError("full")


def export_to(place: Path, name: str) -> None:
    with whole_folder(place) as folder:
        (folder / SETTINGS).write_text(f'{{"checkpoint": "{name}", "checks": []}}')
        (folder / LICENCE_NOTE).write_text("to be filled in")


def test_a_failed_export_leaves_the_old_folder(tmp_path: Path) -> None:
    place = tmp_path / "out"
    export_to(place, "old")
    (place / LICENCE_NOTE).write_text("CC BY 4.0")
    export_to(place, "new")
    with pytest.raises(RuntimeError, match="full"):
        fail_in(place)
    assert "new" in (place / SETTINGS).read_text()
    assert (place / LICENCE_NOTE).read_text() == "CC BY 4.0"  # what somebody wrote is kept
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"thesis.tex": "mine"}, r"it holds thesis\.tex"),
        ({SETTINGS: "{}", "epoch-1.pt": "weights"}, r"it holds epoch-1\.pt"),  # of a training
        ({SETTINGS: '{"checks": []}', ".git/HEAD": "main"}, r"it holds \.git/HEAD"),
        ({SETTINGS: '{"architectures": []}', "model.onnx": "x"}, "was not made by export.py"),
        ({"README.md": "mine"}, "was not made by export.py"),
    ],
)
def test_a_folder_of_somebody_else_is_left_alone(
    files: dict[str, str], message: str, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message), whole_folder(tmp_path):
        pass
    assert all((tmp_path / name).read_text() == text for name, text in files.items())
    with pytest.raises(UserError, match="is a file"), whole_folder(tmp_path / next(iter(files))):
        pass
