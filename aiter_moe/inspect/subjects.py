# SPDX-License-Identifier: MIT
"""From what a user names to kernels: instances by name or pattern, and files of code objects."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path

from aiter_moe.codegen.catalogue import by_name
from aiter_moe.codegen.instance import Instance
from aiter_moe.errors import ArgumentError
from aiter_moe.inspect.inspection import Inspection, inspect_file, inspect_instance
from aiter_moe.inspect.machine import MACHINES

PREFIX = "aiter_moe_"
SUGGESTIONS = 5


def require_target(target: str) -> None:
    """Refuse what is no GPU whose code can be read.

    Raises
    ------
    ArgumentError
        If it is none.
    """
    if target not in MACHINES:
        raise ArgumentError(f"--target {target}: give one of {', '.join(MACHINES)}")


def inspections_of(names: Sequence[str], target: str) -> list[Inspection]:
    """Return the kernels that names, patterns and paths stand for, each once, in their order.

    Parameters
    ----------
    names : sequence of str
        A path of a code object, the name of an instance or a part of it, or a pattern with
        ``*`` or ``?``.
    target : str
        Where to look for instances; a whole name that begins with ``aiter_moe_gfx942_`` and code
        objects of other GPUs are found as well.

    Raises
    ------
    ArgumentError
        If one of them stands for nothing.
    """
    found: dict[str, Inspection] = {}
    for name in names:
        for inspection in _of(name, target):
            found.setdefault(inspection.name, inspection)
    return list(found.values())


def _of(name: str, target: str) -> list[Inspection]:
    path = Path(name)
    if path.is_file():
        return inspect_file(path)
    return [i for instance in instances_of(name, target) for i in inspect_instance(instance)]


def instances_of(name: str, target: str) -> list[Instance]:
    """Return the instances a name or pattern stands for.

    Raises
    ------
    ArgumentError
        If there are none: the nearest names, and the command that lists all.
    """
    for other in MACHINES:
        if name in by_name(other):
            return [by_name(other)[name]]
    known = by_name(target)
    patterns = (name, PREFIX + name) if set(name) & set("*?[") else (f"*{name}*",)
    found = [i for n, i in known.items() if any(fnmatchcase(n, p) for p in patterns)]
    if not found:
        raise ArgumentError(_unknown(name, list(known), target))
    return found


def _unknown(name: str, known: Sequence[str], target: str) -> str:
    whole = name if name.startswith(PREFIX) else PREFIX + name
    near = get_close_matches(whole, known, n=SUGGESTIONS, cutoff=0.5)
    hint = f"; nearest are {', '.join(near)}" if near else ""
    return (
        f"no kernel of {target} and no file {name}{hint}; `aiter-moe build --target {target} "
        "--plan` lists the kernels"
    )
