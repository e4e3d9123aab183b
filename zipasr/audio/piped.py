"""Sound that commands write to their standard output, taken again when it would be another."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

from zipasr.base.errors import DataError
from zipasr.base.files import atomic_path

_RECORD = ".made-from.json"


def run_command(target: Path, command: str) -> str:
    """Let a command write a file; return why it could not, or nothing.

    Args:
        target: of its standard output.
        command: for the shell, as in Kaldi's ``wav.scp``: a line of the user's own.
    """
    made_from = _made_from(command)
    record = _record(target)
    record.unlink(missing_ok=True)
    try:
        with atomic_path(target) as temporary:
            with temporary.open("wb") as out:
                done = subprocess.run(
                    command, shell=True, stdout=out, stderr=subprocess.PIPE, check=False
                )
            if done.returncode != 0:
                said = " ".join(done.stderr.decode("utf-8", "replace").split())[:200]
                raise DataError(f"the command {command!r} ended with {done.returncode}: {said}")
    except DataError as problem:
        return problem.what
    with atomic_path(record) as temporary:
        temporary.write_text(json.dumps(made_from))
    return ""


def is_written(target: Path, command: str) -> bool:
    """Say whether a file is what the command wrote, from the files that are there now."""
    try:
        known = json.loads(_record(target).read_text())
    except (OSError, ValueError):
        return False
    return target.is_file() and known == _made_from(command)


def _record(target: Path) -> Path:
    return target.with_name(target.name + _RECORD)


def _made_from(command: str) -> dict[str, Any]:
    """Return the command, and size and time of each file that it names."""
    try:
        words = shlex.split(command)
    except ValueError:  # a quotation mark alone: the shell will say so
        words = command.split()
    files: dict[str, list[int]] = {}
    for word in words:
        try:
            status = Path(word).stat()
        except (OSError, ValueError):
            continue
        files[word] = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    return {"command": command, "files": files}
