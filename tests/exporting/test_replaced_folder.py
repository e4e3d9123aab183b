"""An export takes the place of the one before it: killed, failing or twice at once, one is left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import tones
from zipasr.base.errors import ResourceError
from zipasr.exporting.folder_files import SETTINGS, whole_folder

# Kills itself at the rename of the given number, before it or after it.
KILLED = """
import os, signal, sys
from pathlib import Path
from zipasr.exporting.folder_files import SETTINGS, whole_folder

place, count, after = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "after"
rename, done = Path.rename, []

def killing(path, target):
    done.append(path)
    if len(done) == count and not after:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(path, target)
    if len(done) == count:
        os.kill(os.getpid(), signal.SIGKILL)

Path.rename = killing
with whole_folder(place) as folder:
    (folder / SETTINGS).write_text('{"by": "killed", "checks": []}')
"""

WAITING = """
import sys
from pathlib import Path
from zipasr.exporting.folder_files import SETTINGS, whole_folder
with whole_folder(Path(sys.argv[1])) as folder:
    (folder / SETTINGS).write_text('{"by": "the other", "checks": []}')
    print("begun", flush=True)
    sys.stdin.read()
"""


def export_to(place: Path, name: str) -> None:
    with whole_folder(place) as folder:
        (folder / SETTINGS).write_text(f'{{"by": "{name}", "checks": []}}')


def fail_in(place: Path) -> None:
    with whole_folder(place) as folder:
        (folder / SETTINGS).write_text("half")
        raise RuntimeError("no such model")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("count", [1, 2])
def test_an_export_that_was_killed_and_one_that_fails_leave_the_first(
    count: int, when: str, tmp_path: Path
) -> None:
    place = tmp_path / "out"
    export_to(place, "first")
    killed = [sys.executable, "-c", KILLED, str(place), str(count), when]
    assert subprocess.run(killed, cwd=tones.ROOT, check=False).returncode == -9
    with pytest.raises(RuntimeError, match="no such model"):
        fail_in(place)
    expected = "killed" if (count, when) == (2, "after") else "first"
    assert f'"{expected}"' in (place / SETTINGS).read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    export_to(place, "second")
    assert '"second"' in (place / SETTINGS).read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_exports_at_once(tmp_path: Path) -> None:
    place = tmp_path / "out"
    export_to(place, "first")
    other = subprocess.Popen(
        [sys.executable, "-c", WAITING, str(place)],
        cwd=tones.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "begun\n"
    with pytest.raises(ResourceError, match=rf"--output-dir {place} is in use by another export"):
        export_to(place, "second")
    assert '"first"' in (place / SETTINGS).read_text()
    other.communicate("")
    assert other.returncode == 0
    assert '"the other"' in (place / SETTINGS).read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
