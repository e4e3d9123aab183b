"""When one process of a group fails, all end within seconds, and one of them says why."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from torch.distributed import Store  # type: ignore[attr-defined]

from zipasr.base.errors import UserError

FAULT = "fault"
WATCH_SECONDS = 1.0
# A process whose neighbour failed gives it this long to be the first to end: the parent, and
# torchrun, take the first for the cause.
PATIENCE_SECONDS = 3.0
# One that does not notice by itself, because it waits on a GPU for the neighbour, gets longer.
HANGING_SECONDS = 6.0


@contextmanager
def faults_shared(store: Store) -> Iterator[None]:
    """Tell the other processes of a failure in this block; end this one after a failure elsewhere.

    The first process that fails lets its exception out, to be told. In the others an exception is
    most likely a consequence, such as a connection that broke, so they end without a word; and
    those that wait for an answer that will not come are ended from a thread.

    Args:
        store: shared by the group.
    """
    over = threading.Event()
    threading.Thread(target=_watch, args=(store, over), daemon=True).start()
    try:
        yield
    except Exception as error:
        over.set()
        if not _is_first_fault(store):
            time.sleep(PATIENCE_SECONDS)
            os._exit(error.exit_code if isinstance(error, UserError) else 1)
        raise
    except KeyboardInterrupt:
        _is_first_fault(store)
        raise
    finally:
        over.set()


@contextmanager
def said_once() -> Iterator[None]:
    """Let only the first process on each machine speak of a user's mistake in this block.

    For what all find alike before there is a group; a launcher such as ``torchrun`` numbers them.
    """
    try:
        yield
    except UserError as error:
        if os.environ.get("LOCAL_RANK", "0") != "0":
            raise SystemExit(error.exit_code) from None
        raise


def _is_first_fault(store: Store) -> bool:
    try:
        return store.add(FAULT, 1) == 1
    except RuntimeError:  # the process that kept the store is gone: so it was the first
        return False


def _watch(store: Store, over: threading.Event) -> None:
    while not over.wait(WATCH_SECONDS):
        try:
            failed = store.check([FAULT])
        except RuntimeError:
            failed = True
        if failed and not over.wait(HANGING_SECONDS):
            os._exit(1)
