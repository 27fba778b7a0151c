# SPDX-License-Identifier: MIT
"""The hash of templates and device code that tuned rows record, to tell stale rows from good.

Coarser than the key of one compiled kernel (compiler and flags are not in it): a row is about
timings, and those change with the source of any kernel of its target.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_SUFFIXES = (".j2", ".h", ".hip", ".cpp")
_CPU = "cpu"
_HOST_RUNTIME = "runtime"


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        name = f"{prefix}/{entry.name}"
        if entry.is_dir() and entry.name != _HOST_RUNTIME:
            yield from _walk(entry, name)
        elif entry.is_file() and entry.name.endswith(_SUFFIXES):
            yield name, entry


def _sources(target: str) -> Iterator[tuple[str, Traversable]]:
    is_cpu = target == _CPU
    for name, entry in _walk(files("aiter_moe.templates"), "templates"):
        if entry.name.startswith(_CPU) is is_cpu:
            yield name, entry
    csrc = files("aiter_moe.csrc")
    for folder in ("common", _CPU) if is_cpu else ("common", "hip", "cktile"):
        if csrc.joinpath(folder).is_dir():
            yield from _walk(csrc.joinpath(folder), f"csrc/{folder}")


@cache
def template_hash(target: str) -> str:
    """Return 16 hex digits over every template and header that makes kernels of `target`.

    Parameters
    ----------
    target : str
        ``cpu`` or an architecture; the GPU targets share one set of sources.
    """
    digest = hashlib.sha256()
    for name, entry in sorted(_sources(target), key=lambda pair: pair[0]):
        content = entry.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]
