"""The script from nothing to a word error rate: the commands that it gives."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests import tones

SAY = '#!/bin/sh\necho "$(basename "$0") $*"\n'


@pytest.mark.parametrize(
    ("words", "recipe", "world"), [((), "espeak", "[12]"), (("--demo",), "digits", "1")]
)
def test_the_demonstration_is_the_same_with_another_recipe(
    words: tuple[str, ...], recipe: str, world: str, tmp_path: Path
) -> None:
    script = tmp_path / "egs" / "espeak" / "run.sh"
    for name in ("local/install.sh", "prepare.sh", "venv/bin/python"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SAY)
        path.chmod(0o755)
    script.parent.mkdir(parents=True)
    shutil.copy(tones.ROOT / "egs" / "espeak" / "run.sh", script)
    done = subprocess.run(
        [str(script), *words, "--seed", "7"],
        env=tones.environment() | {"VENV": str(tmp_path / "venv")},
        capture_output=True,
        text=True,
        check=True,
    )
    install, prepare, train, *decode = done.stdout.partition("\n\n")[0].splitlines()
    assert install == "install.sh requirements.txt egs/espeak/requirements.txt"
    assert prepare == f"prepare.sh --recipe {recipe}"
    assert train.startswith(f"python train.py --recipe {recipe} --world-size ")
    assert train.endswith(" --seed 7")
    assert train.split()[5] in world
    methods = ("greedy_search", "modified_beam_search")
    flags = f"python decode.py --recipe {recipe} --decoding-method"
    assert decode == [f"{flags} {method} --calibrate 1" for method in methods]
    assert f"\nreport                  exp/{recipe}/report.html\n" in done.stdout
