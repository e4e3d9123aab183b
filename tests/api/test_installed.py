"""The installed package transcribes in two lines, from a folder that knows nothing of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tones
from tests.package.wheel import InstalledWheel

PROGRAM = """
import sys, zipasr
print(zipasr.load_model({model!r}, **{settings!r}).transcribe({sound!r}).text)
print(zipasr.__file__)
print("torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("form", "settings"),
    [
        ("exp", {"epoch": 2, "avg": 1, "use_averaged_model": False}),
        ("plain.pt", {"tokens": "data/tones/lang_bpe/bpe.model"}),
        ("out/pretrained.pt", {}),
        ("out", {}),
    ],
)
def test_two_lines_from_another_folder(
    installed_wheel: InstalledWheel,
    whole: Path,
    sounds: list[Path],
    tmp_path: Path,
    form: str,
    settings: dict[str, object],
) -> None:
    if form == "out":
        pytest.importorskip("sherpa_onnx", reason="sherpa-onnx is not installed")
    if "tokens" in settings:
        settings = {"tokens": str(whole / str(settings["tokens"]))}
    words = {"model": str(whole / form), "settings": settings, "sound": str(sounds[0])}
    done = installed_wheel.program(tmp_path, PROGRAM.format(**words))
    tones.check(done)
    text, file, has_torch = done.stdout.splitlines()
    assert text
    assert Path(file).is_relative_to(installed_wheel.folder)
    assert has_torch == str(form != "out")
