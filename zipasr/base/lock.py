"""Lock of a folder: one run or one preparation at a time."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

from zipasr.base.errors import ResourceError
from zipasr.base.files import sweep

logger = logging.getLogger(__name__)

LOCK_FILE = "run.lock"


class _Held(NamedTuple):
    """What is held, the flag that chooses another one, and who holds it, for messages."""

    folder: Path
    flag: str
    user: str

    def refusal(self, holder: str) -> ResourceError:
        """Return the error of the second one that wants it."""
        who = f" ({holder})" if holder else ""
        return ResourceError(
            f"{f'{self.flag} {self.folder}'.strip()} is in use by another {self.user}{who}; two "
            "would write over one another.",
            f"wait for it, stop it, or choose another {self.flag}."
            if self.flag
            else "wait for it.",
        )


@contextmanager
def only_run_in(
    folder: Path,
    flag: str = "--exp-dir",
    *,
    user: str = "run",
    levels: int = 1,
    shown: Path | None = None,
) -> Iterator[None]:
    """Hold a folder as the only run that writes to it.

    The system gives the lock back when the process ends, in whatever way: what is left in the file
    by one that was killed stands in nobody's way. The file is there to say who holds it. Temporary
    files of those that were killed are removed.

    Args:
        folder: made when missing.
        flag: that chooses another folder; empty where there is none.
        user: what holds the folder, for messages.
        levels: of folders in which temporary files are looked for.
        shown: what is held, for messages; None: ``folder``.

    Raises:
        ResourceError: another run holds it; names its process and when that started.
    """
    path, held = folder / LOCK_FILE, _Held(shown or folder, flag, user)
    with _locked(path, held) as file:
        if before := _holder(file):
            logger.info("the last %s in %s (%s) was ended from outside", user, folder, before)
        sweep(folder, levels=levels)
        file.seek(0)
        file.truncate()
        started = datetime.now().isoformat(sep=" ", timespec="seconds")
        json.dump({"process": os.getpid(), "started": started}, file)
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def check_unused(folder: Path) -> None:
    """Refuse a folder that a run holds; changes nothing. See ``only_run_in``."""
    path = folder / LOCK_FILE
    if path.is_file():
        with path.open("r+", encoding="utf-8") as file:
            _lock(file, _Held(folder, "--exp-dir", "run"))


@contextmanager
def _locked(path: Path, held: _Held) -> Iterator[IO[str]]:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("a+", encoding="utf-8")
        except FileNotFoundError:  # the folder was removed by the one that held it
            continue
        with file:
            _lock(file, held)
            # The run that held it may have removed the file after it was opened here.
            if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                continue
            yield file
            return


def _lock(file: IO[str], held: _Held) -> None:
    try:
        # Of this process alone: what it forks to read data does not keep the lock alive.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as problem:
        raise held.refusal(_holder(file)) from problem
    except OSError:
        logger.warning("%s has no locks: take care that no other run uses it", held.folder)


def _holder(file: IO[str]) -> str:
    """Say which run wrote the file; empty when none did."""
    file.seek(0)
    try:
        about: dict[str, Any] = json.load(file)
        return f"process {about['process']}, started {about['started']}"
    except (ValueError, KeyError, TypeError):
        return ""
