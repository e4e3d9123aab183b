"""From archives to a folder that is whole or not there; and whether there is room for it."""

from __future__ import annotations

import gzip
import io
import logging
import shutil
import tarfile
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from tests.corpora import libri
from tests.corpora.server import Site, serve
from zipasr.base.errors import DataError, DownloadError, ResourceError
from zipasr.corpora import published
from zipasr.corpora.config import DownloadConfig
from zipasr.corpora.download import unpack
from zipasr.corpora.openslr import RemoteFile
from zipasr.corpora.published import Download, bytes_needed, fetch_corpus

PART = PurePosixPath("LibriSpeech/dev-clean-2")
NOTES = {"LibriSpeech/README.TXT": b"read me"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("source")
    libri.write_part(folder / "LibriSpeech", "dev-clean-2")
    return libri.tar_of(folder, [str(PART)], NOTES)


@pytest.fixture
def site(archive: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "*")
    with serve(Site({"/31/dev-clean-2.tar.gz": archive, "/11/words.txt": b"A\n"})) as server:
        yield server


def downloads(folder: Path, size: int = 1000) -> list[Download]:
    part = RemoteFile("dev-clean-2.tar.gz", "31", size, is_exact=False)
    words = RemoteFile("words.txt", "11", 2, is_exact=False)
    return [Download(part, folder, PART), Download(words, folder / "lm")]


@pytest.mark.parametrize("keep", [True, False])
def test_what_is_missing_is_fetched_and_unpacked(keep: bool, site: Site, tmp_path: Path) -> None:
    wanted = downloads(tmp_path)
    for _ in range(2):
        fetch_corpus(wanted, DownloadConfig(mirror=site.url, keep_archives=keep))
    chapter = tmp_path / PART / "121" / "121726"
    assert sorted(path.suffix for path in chapter.iterdir()) == [".flac"] * 3 + [".txt"]
    assert (tmp_path / "LibriSpeech" / "README.TXT").read_bytes() == b"read me"
    assert (tmp_path / "lm" / "words.txt").read_text() == "A\n"
    assert (tmp_path / "dev-clean-2.tar.gz").exists() is keep
    names = {path.name for path in tmp_path.iterdir()}
    assert names - {"dev-clean-2.tar.gz"} == {"LibriSpeech", "lm"}
    # Once each, and once for the list of checksums that this server lacks.
    assert [path for path, _ in site.requests if not path.endswith("md5sum.txt")] == [
        "/31/dev-clean-2.tar.gz",
        "/11/words.txt",
    ]


def test_what_lies_near_by_is_not_downloaded_again(site: Site, tmp_path: Path) -> None:
    libri.write_part(tmp_path / "LibriSpeech", "dev-clean-2")
    wanted = downloads(tmp_path / "LibriSpeech")
    with pytest.raises(DataError) as raised:
        fetch_corpus(wanted, DownloadConfig(mirror=site.url))
    assert raised.value.what.startswith(f"{tmp_path / 'LibriSpeech'} lacks {PART}")
    assert raised.value.fix.startswith(f"give --dl-dir {tmp_path}; ")
    assert not site.requests


def test_nothing_is_unpacked_that_was_not_verified(site: Site, tmp_path: Path) -> None:
    site.files["/31/dev-clean-2.tar.gz"] = site.files["/31/dev-clean-2.tar.gz"][:-20]
    with pytest.raises(DownloadError, match="the archive is damaged"):
        fetch_corpus(downloads(tmp_path), DownloadConfig(mirror=site.url))
    assert not list(tmp_path.iterdir())


def test_unpacking_that_is_interrupted_leaves_nothing(
    archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(archive)
    copied = shutil.copyfileobj

    def interrupted(*args: object) -> None:
        copied(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", interrupted)
        with pytest.raises(KeyboardInterrupt):
            unpack(path, tmp_path, PART)
    assert list(tmp_path.iterdir()) == [path]
    assert unpack(path, tmp_path, PART) == tmp_path / PART


def test_an_archive_of_something_else_is_refused(archive: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(archive)
    with pytest.raises(DataError, match="does not hold the folder LibriSpeech/dev-clean"):
        unpack(path, tmp_path, PurePosixPath("LibriSpeech/dev-clean"))
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_written_outside_of_the_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name in ("../evil", "/evil", "musan/../../evil", "other/evil", "./musan/good"):
            tar.addfile(tarfile.TarInfo(name))
        link = tarfile.TarInfo("musan/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(link)
    path = tmp_path / "in" / "x.tar.gz"
    path.parent.mkdir()
    path.write_bytes(content.getvalue())
    folder = unpack(path, path.parent, PurePosixPath("musan"))
    assert [item.name for item in folder.iterdir()] == ["good"]
    assert [item.name for item in tmp_path.iterdir()] == ["in"]
    assert len([line for line in caplog.messages if "left out" in line]) == 5


def test_room_is_counted_at_its_fullest(tmp_path: Path) -> None:
    one, words = downloads(tmp_path, size=1000)
    two = Download(RemoteFile("b.tar.gz", "31", 2000), tmp_path, PurePosixPath("b"))
    assert bytes_needed([one, two, words], keep=True) == 1000 + 1150 + 2000 + 2300 + 2
    assert bytes_needed([one, two, words], keep=False) == 1150 + 2000 + 2300
    (tmp_path / "b.tar.gz.part").write_bytes(b"x" * 500)
    assert bytes_needed([two], keep=True) == 1500 + 2300


def test_too_little_room_is_told_before_the_first_byte(
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(published.shutil, "disk_usage", lambda _: usage(3_000_000_000))
    caplog.set_level(logging.INFO)
    wanted = downloads(tmp_path, size=2_000_000_000)
    with pytest.raises(ResourceError) as raised:
        fetch_corpus(wanted, DownloadConfig(mirror=site.url))
    assert raised.value.exit_code == 5
    assert "has 3.0 GB free, 4.3 GB are needed" in raised.value.what
    assert "--dl-dir" in raised.value.fix
    assert "2.0 GB to download; 4.3 GB of disk needed, 3.0 GB free" in caplog.text
    assert not site.requests


def test_a_gzip_file_may_consist_of_several(tmp_path: Path) -> None:
    from zipasr.corpora.download import check_gzip

    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b"a") + gzip.compress(b"b"))
    check_gzip(path)
