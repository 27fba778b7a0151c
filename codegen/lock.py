# SPDX-License-Identifier: MIT
"""One advisory lock per cache key, so that two processes do not compile the same kernel.

An optimisation only: entries appear by one rename, so a missing, useless or overstayed lock
costs a double compile and nothing else. The operating system frees it when its holder dies.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from aiter_moe.log import info_once, logger, warn_once

if TYPE_CHECKING:
    import filelock

SAY_AFTER_SECONDS = 2.0
WAIT_SECONDS = 900.0


@contextlib.contextmanager
def key_lock(folder: Path, key: str, what: str, wait: float = WAIT_SECONDS) -> Iterator[bool]:
    """Hold the lock of `key`, waiting at most `wait` seconds for its holder.

    Parameters
    ----------
    folder : Path
        Where lock files lie; made if missing.
    what : str
        Name of the kernel, for messages.

    Yields
    ------
    bool
        Whether the lock is held; without it the caller goes on all the same.
    """
    import filelock

    with contextlib.ExitStack() as stack:
        lock = filelock.FileLock(folder / f"{key}.lock", fallback_to_soft=False)
        holder = folder / f"{key}.holder"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held = _acquire(lock, holder, what, wait)
        except OSError as error:
            info_once(("no locks", str(folder)), f"no locks in {folder} ({error}); going without")
            held = False
        if held:
            stack.callback(_release, lock)
            stack.enter_context(_named(holder))
        yield held


def _release(lock: filelock.BaseFileLock) -> None:
    """Remove the lock file, then release it: who waits for the removed file makes a new one."""
    path = Path(lock.lock_file)
    with contextlib.suppress(OSError):
        path.unlink()
    lock.release()
    with contextlib.suppress(OSError):
        path.parent.rmdir()


def _acquire(lock: filelock.BaseFileLock, holder: Path, what: str, wait: float) -> bool:
    import filelock

    for seconds, patience in ((min(SAY_AFTER_SECONDS, wait), True), (wait, False)):
        try:
            lock.acquire(timeout=seconds)
        except filelock.Timeout:
            state = f"{what} is being compiled by {_holder_text(holder)}"
            if patience:
                logger.info("%s; waiting up to %.0f s", state, wait)
            else:
                warn_once(("lock", what), f"{state}; done waiting, compiling a copy of it")
        else:
            return True
    return False


@contextlib.contextmanager
def _named(holder: Path) -> Iterator[None]:
    """Leave a note of who holds the lock and since when, for those who wait."""
    note = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
    with contextlib.suppress(OSError):
        holder.write_text(json.dumps(note))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink()


def _holder_text(holder: Path) -> str:
    try:
        note = json.loads(holder.read_text())
        seconds = time.time() - float(note["since"])
        return f"process {note['pid']} on {note['host']} for {seconds:.0f} s"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
