import subprocess
import sys
from pathlib import Path

import pytest

from tests import tones
from zipasr.base import files
from zipasr.base.errors import ResourceError
from zipasr.base.files import FolderIdentity, atomic_path, digest_of, sweep


def test_the_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("all of it")
        assert not path.exists()
    assert path.read_text() == "all of it"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def write_half(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half of")
        raise OSError("disk full")


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="disk full"):
        write_half(path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="No space") as problem,
        atomic_path(tmp_path / "file.txt"),
        Path("/dev/full").open("w") as full,
    ):
        full.write("all of it")
    assert problem.value.filename == str(tmp_path / "file.txt")
    assert not list(tmp_path.iterdir())


WRITE = """
import sys
from pathlib import Path
from zipasr.base.files import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("half of")
    print("written", flush=True)
    sys.stdin.read()
"""


def test_temporary_files_of_the_dead_are_removed_those_of_the_living_stay(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITE, str(tmp_path / "in" / name)],
            cwd=tones.ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("dead.pt", "alive.pt")
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
    dead, alive = writers
    dead.kill()
    dead.communicate()
    old = tmp_path / "in" / ".tmp-99999-of-another-version.pt"
    old.write_text("half of")
    assert sweep(tmp_path) == []
    names = {path.name for path in sweep(tmp_path, levels=2)}
    assert names == {f".tmp-{dead.pid}-dead.pt", old.name}
    alive.communicate("")
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["alive.pt"]


def test_a_file_that_is_swept_before_it_is_locked_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, swept = files._lock, []

    def after_a_sweep(descriptor: int) -> None:
        if not swept:
            swept.extend(sweep(tmp_path))
        lock(descriptor)

    monkeypatch.setattr(files, "_lock", after_a_sweep)
    with atomic_path(tmp_path / "a") as temporary:
        assert swept == [temporary]
        temporary.write_text("all")
    assert (tmp_path / "a").read_text() == "all"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


@pytest.mark.parametrize("name", ["n" * 247 + ".json.gz", "ü" * 123 + ".json.gz"])
def test_a_name_as_long_as_the_system_takes(name: str, tmp_path: Path) -> None:
    with atomic_path(tmp_path / name) as temporary:
        assert temporary.name.endswith(".json.gz")
        temporary.write_text("all of it")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_that_was_replaced_is_another_one(tmp_path: Path) -> None:
    folder = tmp_path / "exp"
    folder.mkdir()
    held = FolderIdentity(folder)
    held.check()
    folder.rename(tmp_path / "moved")
    with pytest.raises(ResourceError, match="was deleted or renamed while a run wrote to it"):
        held.check()
    folder.mkdir()
    assert not held.is_same()


def test_checksums_of_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12")
    before, whole = digest_of(tmp_path / "a"), digest_of(tmp_path)
    assert digest_of(tmp_path / "a") == before
    (tmp_path / "a").rename(tmp_path / "b")
    assert digest_of(tmp_path / "b") == before
    assert digest_of(tmp_path) != whole
