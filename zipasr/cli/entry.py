"""Start of a command: flags are read before anything heavy is imported; mistakes are one line."""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from importlib import import_module

from zipasr.base.errors import Interrupted, ResourceError, UserError, is_not_writable
from zipasr.base.log import is_first
from zipasr.cli.command_flags import COMMANDS, read
from zipasr.cli.flags import Command
from zipasr.cli.preparation_commands import IMPORT
from zipasr.cli.recipes import with_recipe
from zipasr.cli.verbs import as_typed

Main = Callable[[Sequence[str] | None], int]
Work = Callable[[Sequence[str] | None], object]

INTERRUPTED = "interrupted; no file is half written, give the same command again\n"


def guarded(work: Work, speaker: str = "error") -> Main:
    """Make a command of a function: mistakes are one line on the error stream and an exit status.

    Args:
        work: takes the flags; what it returns is the exit status if it is a number.
        speaker: what the line begins with.
    """

    @wraps(work)
    def safe_main(argv: Sequence[str] | None = None) -> int:
        try:
            result = work(argv)
            if sys.stdout is not None:  # as it is in a program without one
                sys.stdout.flush()
            return result if isinstance(result, int) else 0
        except UserError as error:
            tell(error, argv, speaker)
            return error.exit_code
        except OSError as problem:
            return _status_of(problem, speaker)
        except Interrupted as stop:
            if is_first():
                sys.stderr.write(f"{stop}\n")
            return 130
        except KeyboardInterrupt:
            sys.stderr.write(INTERRUPTED)
            return 130

    return safe_main


def tell(error: UserError, argv: Sequence[str] | None, speaker: str = "error") -> None:
    """Write a mistake to the error stream, in one line.

    Args:
        error: what is wrong, and what to do.
        argv: the words of the command; None reads the process's own.
        speaker: what the line begins with.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    sys.stderr.write(as_typed(f"{speaker}: {with_recipe(str(error), words)}\n"))


def _status_of(problem: OSError, speaker: str) -> int:
    """Return the exit status where files cannot be written; raise faults of the program."""
    if isinstance(problem, BrokenPipeError) and _output_is_closed():
        return 128 + signal.SIGPIPE
    if not is_not_writable(problem) and problem.errno != errno.ENOTDIR:
        raise problem
    sys.stderr.write(f"{speaker}: {problem.filename or 'a file'}: {problem.strerror}.\n")
    return ResourceError.exit_code


def _output_is_closed() -> bool:
    """Say whether nobody reads the standard output any more, as in ``| head``."""
    output = sys.stdout.fileno()
    poll = select.poll()
    poll.register(output, 0)
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
        return False
    # What is left in the buffer must not fail once more when the interpreter ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True


def start(name: str, argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status.

    Help and mistakes in flags end here, in a fraction of the time that it takes to import torch.
    Of the processes that a launcher starts on a machine one says so; the others find them again.

    Args:
        name: of the command.
        argv: the words after it; None reads the process's own.
    """
    (command,) = (one for one in (*COMMANDS, IMPORT) if one.name == name)
    if os.environ.get("LOCAL_RANK", "0") == "0":
        status = _check_flags(command)(argv)
        if status:
            return status
    module, _, function = command.main.partition(":")
    try:
        main: Main = getattr(import_module(f"zipasr.cli.{module}"), function)
    except KeyboardInterrupt:  # it takes seconds to import torch
        sys.stderr.write(INTERRUPTED)
        return 130
    return main(argv)


def _check_flags(command: Command) -> Main:
    @guarded
    def check(argv: Sequence[str] | None) -> int:
        read(command, argv, tells=False)
        return 0

    return check
