"""Arrays of a large ARPA file: found again, made again where they are of another file."""

import logging
import os
from dataclasses import replace

import numpy as np
import pytest

from zipasr.base.errors import DataError
from zipasr.lm import ngram_file
from zipasr.lm.ngram import END, LN10
from zipasr.lm.ngram_file import open_ngrams
from zipasr.lm.ngram_table import ngram_table

from .dictionary import backoffs_of, log_probs_of
from .test_arpa import GOOD, READ_RIGHT, WAIT_UNTIL_TEN


@pytest.fixture
def arpa(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "lm" / "g.arpa"
    path.parent.mkdir()
    path.write_text(GOOD)
    return path


def not_read(*_):
    raise AssertionError("the text was read again")


def test_the_second_time_the_text_is_not_read(arpa, monkeypatch):
    arpa.write_text("token-table: abc\n" + READ_RIGHT["capitals"])
    first = open_ngrams(arpa, 0)
    monkeypatch.setattr(ngram_file, "read_arpa", not_read)
    again = open_ngrams(arpa, 0)
    assert log_probs_of(again) == log_probs_of(first)
    assert backoffs_of(again) == backoffs_of(first)
    assert (again.words, again.splits, again.token_table) == (first.words, first.splits, "abc")
    assert again.sentence(["WAIT", "UNTIL", "TEN"]) / LN10 == pytest.approx(WAIT_UNTIL_TEN)
    assert ngram_table(again, ["WAIT"]).end == again.number(END)
    assert sorted(path.name for path in arpa.parent.iterdir()) == ["g.arpa", "g.arpa.ngrams"]


def test_what_there_is_to_tell_is_told_each_time(arpa, caplog):
    arpa.write_text(READ_RIGHT["capitals"])
    with caplog.at_level(logging.WARNING):
        open_ngrams(arpa, 0)
        open_ngrams(arpa, 0)
    assert len(caplog.messages) == 2
    assert caplog.messages[0] == caplog.messages[1]


@pytest.mark.parametrize("change", ["content", "time", "arrays cut", "arrays of nothing"])
def test_arrays_of_something_else_are_made_again(arpa, change):
    open_ngrams(arpa, 0)
    arrays, about = arpa.with_name("g.arpa.ngrams"), arpa.stat()
    if change == "content":
        arpa.write_text(GOOD.replace("-0.5\t", "-0.6\t"))
        os.utime(arpa, ns=(about.st_mtime_ns, about.st_mtime_ns))
    elif change == "time":
        os.utime(arpa, ns=(0, 0))
    else:
        arrays.write_bytes(arrays.read_bytes()[:-100] if change == "arrays cut" else b"")
    want = WAIT_UNTIL_TEN - 0.1 * (change == "content")
    for _ in range(2):
        model = open_ngrams(arpa, 0)
        assert model.sentence(["WAIT", "UNTIL", "TEN"]) / LN10 == pytest.approx(want)
    assert arrays.stat().st_size > 500


def test_where_the_folder_takes_no_files_the_cache_does(arpa, monkeypatch, tmp_path):
    write = ngram_file._write

    def refused(path, *others):
        if path.parent == arpa.parent:
            raise PermissionError(13, "Permission denied")
        write(path, *others)

    monkeypatch.setattr(ngram_file, "_write", refused)
    open_ngrams(arpa, 0)
    assert [path.name for path in arpa.parent.iterdir()] == ["g.arpa"]
    assert len(list((tmp_path / "cache" / "zipasr").iterdir())) == 1
    monkeypatch.setattr(ngram_file, "read_arpa", not_read)
    assert open_ngrams(arpa, 0).order == 2


class Interrupted(np.ndarray):
    def tofile(self, *_):
        raise KeyboardInterrupt


def test_nothing_is_left_by_an_interruption_or_a_refusal(arpa, monkeypatch):
    model = open_ngrams(arpa)
    halfway = replace(model, after=model.after.view(Interrupted))
    with monkeypatch.context() as patch:
        patch.setattr(ngram_file, "read_arpa", lambda *_: (halfway, []))
        with pytest.raises(KeyboardInterrupt):
            open_ngrams(arpa, 0)
    arpa.write_text(GOOD.replace("2=3", "2=4"))
    with pytest.raises(DataError, match="are promised"):
        open_ngrams(arpa, 0)
    with pytest.raises(DataError, match="does not exist"):
        open_ngrams(arpa.with_name("none.arpa"), 0)
    assert [path.name for path in arpa.parent.iterdir()] == ["g.arpa"]


def test_small_files_leave_nothing(arpa):
    open_ngrams(arpa)
    assert [path.name for path in arpa.parent.iterdir()] == ["g.arpa"]
