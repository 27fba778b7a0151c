# SPDX-License-Identifier: MIT
"""Files that appear whole: written beside their place, flushed to the disk, renamed.

A crash leaves the old file or the new one. Who may write at a time is the caller's business.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def draft_of(path: Path) -> Path:
    """Return a new hidden name beside `path`, for what will take its place."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")


def try_draft(path: Path) -> None:
    """Make the folder of `path`, and a draft in it that goes again; OSError if that cannot be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    draft = draft_of(path)
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    draft.unlink()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a draft to write; it takes the place of `path` at the end, and goes on an error."""
    draft = draft_of(path)
    try:
        yield draft
        flush_file(draft)
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
    flush_folder(path.parent)


def flush_file(path: Path) -> None:
    """Wait until the disk holds the contents of a file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Wait until the disk holds the names in a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
