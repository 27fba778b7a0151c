# SPDX-License-Identifier: MIT
"""Which files are searched, and which row serves a problem; reads files, writes nothing.

Files are merged in memory and kept by path, inode, time and size, so an exchanged file is seen.
Whether the kernels of a row can be used is `aiter_moe.plan`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from aiter_moe import env
from aiter_moe.configs.reader import read_tuned
from aiter_moe.configs.table import ConfigTable, Duplicate, Key, Row
from aiter_moe.errors import ConfigError
from aiter_moe.log import warn_once
from aiter_moe.problem import LARGE_TIER, MAX_TIER


@dataclass(frozen=True, slots=True)
class Stamp:
    """A file as it is now; equal stamps mean the same content."""

    path: str
    inode: int
    mtime_ns: int
    size: int


@dataclass(frozen=True, slots=True)
class Match:
    """A row found for a key, and how it was found where not by the key itself."""

    row: Row
    note: str = ""


def _stamp(path: str, origin: str) -> Stamp:
    try:
        status = os.stat(path)  # noqa: PTH116 - Path costs more than the call, on every look-up
    except OSError as error:
        raise ConfigError(
            f"{path}, named by {origin}: {error.strerror}; correct {origin} or create the file "
            "with `aiter-moe tune -i <untuned.csv> -o <file>`"
        ) from None
    return Stamp(path, status.st_ino, status.st_mtime_ns, status.st_size)


def stamps(config_file: str | Path | None = None) -> tuple[Stamp, ...]:
    """Return the files of the search path as they are now, first the one that wins.

    The argument, then AITER_MOE_CONFIG, then AITER_CONFIG_FMOE (path lists); a file named twice
    counts once.

    Parameters
    ----------
    config_file : str, pathlib.Path or None
        A path, or a list of paths separated as in PATH.

    Raises
    ------
    ConfigError
        If a named file does not exist.
    """
    argument = os.fspath(config_file) if config_file else ""
    named = _search_path(argument, env.CONFIG.text(), env.AITER_CONFIG_FMOE.text())
    return tuple(_stamp(path, origin) for path, origin in named)


@lru_cache(maxsize=64)
def _search_path(argument: str, ours: str, aiters: str) -> tuple[tuple[str, str], ...]:
    """Return (path, who named it) in order, each path once."""
    lists = (
        ("config_file", argument),
        (env.CONFIG.name, ours),
        (env.AITER_CONFIG_FMOE.name, aiters),
    )
    found: dict[str, str] = {}
    for origin, paths in lists:
        for path in paths.split(os.pathsep):
            if path:
                found.setdefault(path, origin)
    return tuple(found.items())


@lru_cache(maxsize=64)
def _rows(stamp: Stamp) -> tuple[Row, ...]:
    return read_tuned(stamp.path)


@lru_cache(maxsize=16)
def table_of(files: tuple[Stamp, ...]) -> ConfigTable:
    """Return the merged rows of `files`; duplicate keys are reported once, files left alone.

    Raises
    ------
    ConfigError
        If a file, a column or a cell is unusable.
    """
    table = ConfigTable.of(row for file in files for row in _rows(file))
    _report(table.duplicates)
    return table


def _report(duplicates: Sequence[Duplicate]) -> None:
    pairs: dict[tuple[str, str], list[Duplicate]] = {}
    for duplicate in duplicates:
        pair = (duplicate.repeated.file, duplicate.first.file)
        pairs.setdefault(pair, []).append(duplicate)
    for pair, found in pairs.items():
        example = found[0]
        warn_once(
            ("duplicate rows", pair),
            f"{pair[0]}: keys of {pair[1]} are repeated ({len(found)}); the first row counts "
            f"(e.g. {example.first.where}, not {example.repeated.where}); remove one of them",
        )


def _keys(key: Key, is_ep: bool) -> Iterator[tuple[Key, str]]:
    """Yield the keys that may serve `key`, in order, with a note on how they differ."""
    topks = [(key.topk, "")]
    if is_ep and key.topk > 1:
        # Expert-parallel callers of aiter append one masked slot to every token.
        topks.insert(0, (key.topk - 1, f"topk {key.topk - 1} of expert parallelism"))
    tokens = [(key.token, "")]
    if key.token == MAX_TIER:
        tokens.append((LARGE_TIER, f"tier {MAX_TIER} has no row, tier {LARGE_TIER} has"))
    for token, token_note in tokens:
        for topk, topk_note in topks:
            note = "; ".join(filter(None, (token_note, topk_note)))
            yield replace(key, token=token, topk=topk), note


def find(table: ConfigTable, key: Key, *, is_ep: bool = False) -> Match | None:
    """Return the row for `key`, or None.

    Exactly the key's tier serves it, so a prefill never runs with a decode row; the one
    exception is aiter's: tier 131072 also takes a row of tier 32768. Predicted rows serve where no
    measured one does.

    Parameters
    ----------
    table : ConfigTable
        Merged rows.
    key : Key
        Problem and device.
    is_ep : bool
        Also accept topk - 1, first, as aiter's expert-parallel look-up does.
    """
    predicted = None
    for candidate, note in _keys(key, is_ep):
        row = table.get(candidate)
        if row is not None and not row.predicted:
            return Match(row, note)
        if row is not None and predicted is None:
            predicted = Match(row, note)
    return predicted
