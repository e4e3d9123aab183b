"""Blocks of Python in the documents about the API: each runs as it stands, in a folder of a user.

The folder has a trained run, a causal one, an exported model and recordings, all of the corpus of
tones: words and epochs of a page stand for those of it.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import soundfile

import zipasr
from tests import tones

BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
#: Output that a page shows, in a comment behind the call.
SHOWN = re.compile(r"^ *print\((?:error\.what)\)  # (.+)$", re.M)
PAGES = ("README.md", "docs/quick_start.md", "docs/python_api.md", "docs/streaming.md")
BLOCKS = [
    pytest.param(block, id=f"{page}-{number}")
    for page in PAGES
    for number, block in enumerate(BLOCK.findall((tones.ROOT / page).read_text(encoding="utf-8")))
]
#: What the pages say -> what the folder has.
STANDS_FOR = {
    "TURN ON THE LIGHT": "LOW HIGH TOP",
    "NEW YORK": "HIGH TOP",
    "epoch-5.pt": "epoch-2.pt",
    "num_epochs=6": "num_epochs=2",
    "talk.mp3": "talk.wav",
}


def make_recipe(folder: Path) -> None:
    """Make the recipe ``tones`` and its data those of one that is called ``espeak``."""
    recipe = folder / "egs" / "espeak"
    shutil.copytree(folder / "tones", recipe)
    text = (recipe / "recipe.toml").read_text(encoding="utf-8")
    text = text.replace('exp-dir = "exp"', 'exp-dir = "exp/espeak"').replace("epoch = 2\n", "")
    (recipe / "recipe.toml").write_text(text, encoding="utf-8")
    for path in (folder / "data" / "tones" / "fbank").glob("tones_*"):
        copy = path.with_name(path.name.replace("tones_", "espeak_", 1))
        (shutil.copytree if path.is_dir() else shutil.copy)(path, copy)


@pytest.fixture(scope="module")
def user(whole: Path, causal: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sherpa_onnx", reason="sherpa-onnx is not installed")
    folder = tmp_path_factory.mktemp("user") / "work"
    shutil.copytree(whole, folder, ignore=shutil.ignore_patterns("exp"))
    make_recipe(folder)
    shutil.copytree(whole / "exp", folder / "exp" / "espeak")
    (folder / "exp" / "espeak-causal").mkdir()
    shutil.copy(causal / "exp" / "epoch-2.pt", folder / "exp" / "espeak-causal" / "epoch-1.pt")
    (folder / "out").rename(folder / "exported")
    shutil.copy(folder / "plain.pt", folder / "pretrained.pt")
    shutil.copy(folder / "exported" / "tokens.txt", folder)
    (folder / "recordings").mkdir()
    for number, path in enumerate(sorted((folder / "source" / "test").glob("*.flac"))[:3]):
        samples, rate = soundfile.read(path)
        soundfile.write(folder / "recordings" / f"{number}.wav", samples, rate)
    shutil.copy(folder / "recordings" / "0.wav", folder / "talk.wav")
    return folder


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_runs(
    block: str, user: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(user)
    for documented, here in STANDS_FOR.items():
        block = block.replace(documented, here)
    exec(compile(block, "example", "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out.splitlines()
    assert printed
    assert [line for line in SHOWN.findall(block) if line not in printed] == []


def test_the_pages_use_every_function() -> None:
    text = "\n".join(param.values[0] for param in BLOCKS)
    functions = {name for name in zipasr.__all__ if name.islower() and not name.startswith("_")}
    assert {name for name in functions if f"zipasr.{name}(" in text} == functions
    for method in ("transcribe", "transcribe_many", "encode", "align", "stream", "finish"):
        assert f".{method}(" in text
