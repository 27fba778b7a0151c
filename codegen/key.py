# SPDX-License-Identifier: MIT
"""What makes two cached kernels different: the inputs of an artifact's key.

The key is a SHA-256 over the rendered source, the contents of every header it includes, the
commands with their flags, the compiler's version text and the target. No path and no time
enters: the commands carry tokens such as ``{csrc}`` where a path will stand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from aiter_moe.codegen.unit import BuildUnit

# Raised when the meaning of a key or the contents of an entry change.
KEY_FORMAT = 1

# Things that can be hashed; every value is preceded by its type and length.
Hashable = str | bytes | int | Sequence["Hashable"]


@dataclass(frozen=True, slots=True)
class KeyInputs:
    """Everything that makes an artifact what it is.

    Attributes
    ----------
    unit : BuildUnit
        Source text, flags and target; its name stands in the source already.
    headers : tuple of (str, bytes)
        Relative path and contents of every header (`codegen.includes`).
    recipe : tuple of tuple of str
        The compile commands, with tokens for paths.
    compiler : str
        Version text of the compiler, or of each program the recipe runs.
    """

    unit: BuildUnit
    headers: tuple[tuple[str, bytes], ...]
    recipe: tuple[tuple[str, ...], ...]
    compiler: str


def source_key(unit: BuildUnit, headers: tuple[tuple[str, bytes], ...]) -> str:
    """Return the key of what is compiled, whoever compiles it.

    It finds prebuilt artifacts on a machine without a compiler (64 hex digits).
    """
    return _digest(["source", KEY_FORMAT, unit.target, unit.source, unit.flags, headers])


def artifact_key(inputs: KeyInputs) -> str:
    """Return the key of an artifact, 64 hex digits."""
    source = source_key(inputs.unit, inputs.headers)
    return _digest(["artifact", KEY_FORMAT, source, inputs.recipe, inputs.compiler])


def _digest(value: Hashable) -> str:
    hasher = hashlib.sha256()
    for chunk in _encoded(value):
        hasher.update(chunk)
    return hasher.hexdigest()


def _encoded(value: Hashable) -> list[bytes]:
    """Return `value` as type-tagged, length-prefixed chunks, so no two values look alike."""
    if isinstance(value, bytes):
        return [b"b%d:" % len(value), value]
    if isinstance(value, str):
        data = value.encode()
        return [b"s%d:" % len(data), data]
    if isinstance(value, int):
        return [b"i%d;" % value]
    chunks = [b"l%d:" % len(value)]
    for item in value:
        chunks += _encoded(item)
    return chunks
