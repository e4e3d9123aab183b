"""Downloads from a server that behaves, and from one that does not."""

from __future__ import annotations

import errno
import gzip
import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.corpora.server import Site, serve
from tests.peers import needed
from zipasr.base.errors import DownloadError, ResourceError
from zipasr.corpora import download, openslr
from zipasr.corpora.config import DownloadConfig
from zipasr.corpora.download import RetryPolicy, fetch, missing_bytes
from zipasr.corpora.openslr import PARTS, RemoteFile

CONTENT = gzip.compress(random.Random(0).randbytes(3_000_000), 1)
FILE = RemoteFile("speech.tar.gz", "12", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
UNKNOWN = RemoteFile("speech.tar.gz", "12", 5, None, is_exact=False)
PATH = "/12/speech.tar.gz"


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "*")
    with serve(Site({PATH: CONTENT})) as server:
        yield server


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def patience(pauses: list[float]) -> RetryPolicy:
    return RetryPolicy(attempts=3, timeout=5.0, pause=pauses.append)


def asked(site: Site) -> list[str | None]:
    return [wanted for path, wanted in site.requests if path == PATH]


def test_a_file_is_fetched_checked_and_not_fetched_again(
    site: Site, tmp_path: Path, patience: RetryPolicy
) -> None:
    folder = tmp_path / "new"
    assert missing_bytes(FILE, folder) == len(CONTENT)
    for _ in range(2):
        path = fetch(FILE, folder, mirror=site.url, patience=patience)
        assert path.read_bytes() == CONTENT
    assert site.requests == [(PATH, None)]
    assert list(folder.iterdir()) == [path]
    assert missing_bytes(FILE, folder) == 0


def test_a_broken_connection_is_resumed_where_it_broke(
    site: Site, tmp_path: Path, patience: RetryPolicy, pauses: list[float]
) -> None:
    site.faults = ["cut", 503, "cut"]
    path = fetch(FILE, tmp_path, mirror=site.url, patience=patience)
    assert path.read_bytes() == CONTENT
    half = len(CONTENT) // 2
    rest = half + (len(CONTENT) - half) // 2
    assert asked(site) == [None, f"bytes={half}-", f"bytes={half}-", f"bytes={rest}-"]
    assert pauses == [1.0, 2.0, 1.0]


def test_a_second_call_goes_on_with_what_the_first_has_left(
    site: Site, tmp_path: Path, patience: RetryPolicy
) -> None:
    (tmp_path / "speech.tar.gz.part").write_bytes(CONTENT[:1000])
    assert missing_bytes(FILE, tmp_path) == len(CONTENT) - 1000
    assert fetch(FILE, tmp_path, mirror=site.url, patience=patience).read_bytes() == CONTENT
    assert asked(site) == ["bytes=1000-"]


def test_a_server_without_ranges_sends_all_of_it(
    site: Site, tmp_path: Path, patience: RetryPolicy
) -> None:
    (tmp_path / "speech.tar.gz.part").write_bytes(b"x" * 1000)
    site.faults = ["whole"]
    assert fetch(FILE, tmp_path, mirror=site.url, patience=patience).read_bytes() == CONTENT
    assert asked(site) == ["bytes=1000-"]


@pytest.mark.parametrize("file", [FILE, UNKNOWN])
def test_a_call_that_ended_before_the_last_byte_got_its_name(
    file: RemoteFile, site: Site, tmp_path: Path, patience: RetryPolicy
) -> None:
    (tmp_path / "speech.tar.gz.part").write_bytes(CONTENT)
    assert fetch(file, tmp_path, mirror=site.url, patience=patience).read_bytes() == CONTENT
    assert asked(site) == ([] if file is FILE else [f"bytes={len(CONTENT)}-"])


@pytest.mark.parametrize("left", [b"x" * 1000, CONTENT + b"x", b"x" * len(CONTENT)])
def test_what_was_left_by_something_else_is_thrown_away(
    left: bytes, site: Site, tmp_path: Path, patience: RetryPolicy
) -> None:
    (tmp_path / "speech.tar.gz.part").write_bytes(left)
    assert fetch(FILE, tmp_path, mirror=site.url, patience=patience).read_bytes() == CONTENT
    assert asked(site)[-1] is None


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ([403, 403], "the server answers 403 Forbidden"),
        ([404], "the server answers 404 Not Found"),
        (["page"], "a web page comes instead; perhaps the network asks for a login"),
        ([500] * 3, "the server answers 500 Internal Server Error, 3 times in a row"),
    ],
)
def test_a_server_that_does_not_give_it_is_explained(
    faults: list[int | str], message: str, site: Site, tmp_path: Path, patience: RetryPolicy
) -> None:
    site.faults = list(faults)
    part = tmp_path / "speech.tar.gz.part"
    part.write_bytes(CONTENT[:1000])
    with pytest.raises(DownloadError) as raised:
        fetch(FILE, tmp_path, mirror=f"{site.url}/", patience=patience)
    assert raised.value.exit_code == 7
    assert f"{site.url}{PATH}: {message}" in raised.value.what
    assert f"{site.url}/speech.tar.gz: the server answers 404" in raised.value.what
    assert f"put it at {tmp_path / 'speech.tar.gz'}, and give the same command" in raised.value.fix
    assert "--mirror" in raised.value.fix
    # What had arrived is as it was, for the next time.
    assert part.read_bytes() == CONTENT[:1000]
    assert list(tmp_path.iterdir()) == [part]


def test_a_mirror_may_keep_its_files_in_one_folder(
    site: Site, tmp_path: Path, patience: RetryPolicy
) -> None:
    site.files = {"/speech.tar.gz": CONTENT}
    assert fetch(FILE, tmp_path, mirror=site.url, patience=patience).read_bytes() == CONTENT


def test_a_page_that_calls_itself_an_archive_is_seen_through(
    site: Site, tmp_path: Path, patience: RetryPolicy
) -> None:
    site.files[PATH] = b"<html>" + b"x" * (len(CONTENT) - 6)
    with pytest.raises(DownloadError, match="what comes is no gzip file; perhaps the network"):
        fetch(FILE, tmp_path, mirror=site.url, patience=patience)
    assert not list(tmp_path.iterdir())


def test_a_wrong_checksum_is_told_and_nothing_is_left(
    site: Site, tmp_path: Path, patience: RetryPolicy
) -> None:
    wrong = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    site.files[PATH] = wrong
    with pytest.raises(DownloadError) as raised:
        fetch(FILE, tmp_path, mirror=site.url, patience=patience)
    digest = hashlib.sha256(wrong).hexdigest()
    assert f"its sha256 is {digest}, published is {FILE.sha256}" in raised.value.what
    assert not list(tmp_path.iterdir())


def test_another_size_than_the_published_one_is_not_even_fetched(
    site: Site, tmp_path: Path, patience: RetryPolicy
) -> None:
    site.files[PATH] = CONTENT + b"x"
    with pytest.raises(DownloadError, match="the published file has"):
        fetch(FILE, tmp_path, mirror=site.url, patience=patience)


def test_a_file_placed_by_hand_is_checked_and_never_deleted(
    site: Site, tmp_path: Path, patience: RetryPolicy
) -> None:
    path = tmp_path / "speech.tar.gz"
    path.write_bytes(b"something else")
    with pytest.raises(DownloadError, match=rf"{path}: its sha256 is .*Fix: delete it"):
        fetch(FILE, tmp_path, mirror=site.url, patience=patience)
    assert path.read_bytes() == b"something else"
    assert not site.requests


def md5_list(digest: str) -> bytes:
    return f"{'0' * 32}  other.tar.gz\n{digest}  ./{FILE.name}\n".encode()


def test_without_a_known_checksum_the_list_of_the_publisher_counts(
    site: Site, tmp_path: Path, patience: RetryPolicy
) -> None:
    site.files["/12/md5sum.txt"] = md5_list("f" * 32)
    with pytest.raises(DownloadError, match=f"its md5 is .*published is {'f' * 32}"):
        fetch(UNKNOWN, tmp_path, mirror=site.url, patience=patience)
    site.files["/12/md5sum.txt"] = md5_list(hashlib.md5(CONTENT).hexdigest())
    assert fetch(UNKNOWN, tmp_path, mirror=site.url, patience=patience).read_bytes() == CONTENT


@pytest.mark.parametrize("content", [CONTENT[:-100], CONTENT[:-5] + b"wrong"])
def test_without_any_checksum_an_archive_has_to_be_intact(
    content: bytes, site: Site, tmp_path: Path, patience: RetryPolicy
) -> None:
    site.files[PATH] = content
    with pytest.raises(DownloadError, match="the archive is damaged"):
        fetch(UNKNOWN, tmp_path, mirror=site.url, patience=patience)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_keeps_what_has_arrived(
    site: Site, tmp_path: Path, patience: RetryPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*_: object) -> None:
        (tmp_path / "speech.tar.gz.part").write_bytes(CONTENT[:1000])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(download, "_copy", write)
        with pytest.raises(ResourceError, match="is full") as raised:
            fetch(FILE, tmp_path, mirror=site.url, patience=patience)
    assert raised.value.exit_code == 5
    assert fetch(FILE, tmp_path, mirror=site.url, patience=patience).read_bytes() == CONTENT
    assert asked(site)[-1] == "bytes=1000-"


def test_a_server_that_nobody_knows_is_not_asked_again(
    tmp_path: Path, patience: RetryPolicy, pauses: list[float]
) -> None:
    with pytest.raises(DownloadError, match="the name of the server is not known here"):
        fetch(FILE, tmp_path, mirror="http://nowhere.invalid", patience=patience)
    assert pauses == []


def test_a_server_that_does_not_answer_is_asked_several_times(
    site: Site, tmp_path: Path, patience: RetryPolicy, pauses: list[float]
) -> None:
    with serve(Site({})) as gone:
        pass
    with pytest.raises(DownloadError, match="refused, 3 times in a row"):
        fetch(FILE, tmp_path, mirror=gone.url, patience=patience)
    assert pauses[:2] == [2.0, 4.0]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("nowhere", "3 times in a row"),
        ("no-length", "the server says that the file has 'many' bytes"),
        ("drip", r"only \d+ bytes a second arrive, 3 times in a row"),
    ],
)
def test_servers_that_misbehave_are_given_up(
    fault: str, said: str, site: Site, tmp_path: Path, patience: RetryPolicy
) -> None:
    site.faults.extend([fault] * 30)
    hasty = patience._replace(timeout=0.2)
    with pytest.raises(DownloadError, match=said):
        fetch(FILE, tmp_path, mirror=site.url, patience=hasty)
    site.faults.clear()
    assert fetch(FILE, tmp_path, mirror=site.url, patience=patience).read_bytes() == CONTENT


def test_a_mirror_is_an_address() -> None:
    assert DownloadConfig(mirror="http://x/resources").mirror
    with pytest.raises(ValueError, match="it begins with https://"):
        DownloadConfig(mirror="example.org")


def test_the_checksums_of_the_parts_are_those_that_torchaudio_knows() -> None:
    known = needed("torchaudio.datasets.librispeech")._CHECKSUMS
    ours = {file.addresses()[0]: file.sha256 for file in PARTS.values() if file.sha256}
    assert {url.replace("http://", "https://"): digest for url, digest in known.items()} == ours
    assert openslr.LM_TEXT.addresses("https://x/")[0] == "https://x/11/librispeech-lm-norm.txt.gz"
    assert set(PARTS) == set(openslr.UTTERANCES)
