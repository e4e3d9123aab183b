"""Commands whose output nobody reads to the end."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from zipasr.cli.entry import guarded


@pytest.mark.parametrize("text", ["a word", "many words\n" * 10000])
def test_a_reader_who_has_enough_ends_it_quietly(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        status = guarded(lambda _: out.write(text) and None)([])
        monkeypatch.undo()
    # Closing it wrote what was left, to nobody.
    assert status == 128 + signal.SIGPIPE
    assert capsys.readouterr().err == ""


def test_another_pipe_that_breaks_is_a_fault_of_the_program() -> None:
    def work(_: object) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        guarded(work)([])
