# SPDX-License-Identifier: MIT
"""The headers a source pulls in from csrc/, transitively, for the key of an artifact.

Not a preprocessor: every ``#include`` counts, whatever ``#if`` stands around it, and one written
in a way that only a preprocessor could follow is refused rather than guessed.
"""

from __future__ import annotations

import importlib.util
import re
from functools import cache, lru_cache
from pathlib import Path

from aiter_moe.errors import BuildError

# Headers that come with the compiler itself; its identity stands for their contents.
COMPILER_HEADERS = frozenset(
    {"stdint.h", "stddef.h", "float.h", "limits.h", "immintrin.h", "arm_neon.h", "arm_bf16.h"}
)

_COMMENT_OR_LITERAL = re.compile(
    r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""", re.DOTALL
)
_DIRECTIVE = re.compile(r"^[ \t]*#[ \t]*(include_next|include|import|embed)\b(.*)$", re.MULTILINE)
_TARGET = re.compile(r"""[ \t]*(?:"([^"<>\n]+)"|<([^"<>\n]+)>)[ \t]*$""")


@cache
def csrc_root() -> Path:
    """Return the folder of the package's C++ sources."""
    spec = importlib.util.find_spec("aiter_moe.csrc")
    if spec is None or not spec.submodule_search_locations:
        raise BuildError("aiter_moe.csrc is not installed; reinstall the package aiter_moe")
    return Path(next(iter(spec.submodule_search_locations))).resolve()


def headers_of(source: str, root: Path, name: str = "source") -> tuple[tuple[str, bytes], ...]:
    """Return every header under `root` that `source` includes, directly or not.

    Parameters
    ----------
    source : str
        Text of a source file that lies outside `root`.
    root : Path
        The include folder.
    name : str
        What to call the source in error messages.

    Returns
    -------
    tuple of (str, bytes)
        Path relative to `root` with forward slashes, and contents; sorted by path.

    Raises
    ------
    BuildError
        If an include is missing, is written in a non-standard way, leaves `root`, or is part
        of a cycle.
    """
    found: dict[str, bytes] = {}
    for include in _includes(source, name):
        header = _resolve(include, root, None, name)
        if header is not None:
            _visit(header, root, found, (name,))
    return tuple(sorted(found.items()))


def _visit(header: str, root: Path, found: dict[str, bytes], trail: tuple[str, ...]) -> None:
    """Add `header` and what it includes to `found`; `trail` is how it was reached."""
    if header in trail:
        cycle = " -> ".join((*trail[trail.index(header) :], header))
        raise BuildError(f"headers include each other in a cycle: {cycle}; break it")
    if header in found:
        return
    contents, includes = _read(root / header, header)
    for include in includes:
        inner = _resolve(include, root, header, header)
        if inner is not None:
            _visit(inner, root, found, (*trail, header))
    found[header] = contents


def _read(path: Path, name: str) -> tuple[bytes, tuple[str, ...]]:
    stat = path.stat()
    return _parsed(path, name, stat.st_ino, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=1024)
def _parsed(
    path: Path, name: str, inode: int, mtime_ns: int, size: int
) -> tuple[bytes, tuple[str, ...]]:
    """Read and parse one header; the file's stat tells when a memo no longer holds."""
    contents = path.read_bytes()
    return contents, _includes(contents.decode(), name)


def _includes(text: str, name: str) -> tuple[str, ...]:
    """Return the include targets of a text as written, with their quotes or brackets."""
    spliced = text.replace("\\\r\n", "").replace("\\\n", "")
    plain = _COMMENT_OR_LITERAL.sub(_blank_comment, spliced)
    targets = []
    for kind, rest in _DIRECTIVE.findall(plain):
        match = _TARGET.match(rest.rstrip())
        if kind != "include" or match is None:
            raise BuildError(
                f'{name}: "#{kind}{rest}" cannot be followed without a preprocessor; '
                'write #include "path/under/csrc.h"'
            )
        targets.append(rest.strip())
    return tuple(targets)


def _blank_comment(match: re.Match[str]) -> str:
    """Keep literals (an include's path is one) and reduce a comment to a blank."""
    text = match.group()
    return " " if text.startswith("/") else text


def _resolve(include: str, root: Path, includer: str | None, name: str) -> str | None:
    """Return the header's path relative to `root`, or None for a header of the compiler."""
    path = include[1:-1]
    if include.startswith("<") and path in COMPILER_HEADERS:
        return None
    folders = [root]
    if includer is not None and include.startswith('"'):
        folders.insert(0, (root / includer).parent)
    for folder in folders:
        candidate = (folder / path).resolve()
        if candidate.is_file() and candidate.is_relative_to(root):
            return candidate.relative_to(root).as_posix()
    allowed = ", ".join(f"<{h}>" for h in sorted(COMPILER_HEADERS))
    raise BuildError(
        f"{name}: #include {include} is neither under csrc/ nor one of the compiler's {allowed}"
    )
