"""What commands write is taken again when the command or its files are others."""

from __future__ import annotations

import os
from pathlib import Path

from zipasr.corpora.custom.kaldi import is_written, run_command


def test_a_command_runs_again_when_it_or_its_files_change(tmp_path: Path) -> None:
    source, target = tmp_path / "a.wav", tmp_path / "out" / "b.wav"
    source.write_bytes(b"one")
    command = f"cat {source} |cat"
    assert not is_written(target, command)
    assert run_command(target, command) == ""
    assert is_written(target, command)
    assert target.read_bytes() == b"one"
    assert not is_written(target, command + " -")
    source.write_bytes(b"two")
    os.utime(source, (10**9, 10**9))  # older than what was written
    assert not is_written(target, command)
    assert run_command(target, command) == ""
    assert (target.read_bytes(), is_written(target, command)) == (b"two", True)
    target.unlink()
    assert not is_written(target, command)


def test_a_command_that_fails_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "b.wav"
    assert run_command(target, "echo no >&2; false") == (
        "the command 'echo no >&2; false' ended with 1: no"
    )
    assert not list(tmp_path.iterdir())
    assert run_command(target, "echo 'x") != ""
    assert not is_written(target, "echo 'x")


def test_a_file_without_a_record_is_written_again(tmp_path: Path) -> None:
    target = tmp_path / "b.wav"
    target.write_bytes(b"half")
    assert not is_written(target, "cat a.wav")
    (tmp_path / "b.wav.made-from.json").write_text("[")
    assert not is_written(target, "cat a.wav")
