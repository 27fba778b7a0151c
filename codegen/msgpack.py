# SPDX-License-Identifier: MIT
"""A bounds-checked MessagePack decoder for the metadata of code objects.

Reads what LLVM writes (nil, booleans, numbers, text, binary, arrays, maps); extension types are
refused. It never writes.
"""

from __future__ import annotations

import struct
from typing import Any

MAX_DEPTH = 64

_NUMBERS = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
# Type byte -> (kind, format of the length that follows).
_SIZED = {
    0xC4: ("binary", ">B"), 0xC5: ("binary", ">H"), 0xC6: ("binary", ">I"),
    0xD9: ("text", ">B"), 0xDA: ("text", ">H"), 0xDB: ("text", ">I"),
    0xDC: ("array", ">H"), 0xDD: ("array", ">I"),
    0xDE: ("map", ">H"), 0xDF: ("map", ">I"),
}  # fmt: skip


def decode(data: bytes) -> Any:  # noqa: ANN401  # the value's type is the data's
    """Return the one value `data` holds.

    Raises
    ------
    ValueError
        If the data end early, go on after the value, or use an unknown type.
    """
    reader = _Reader(data)
    value = reader.value(0)
    if reader.at != len(data):
        raise ValueError(f"{len(data) - reader.at} bytes follow the metadata")
    return value


class _Reader:
    """A position in MessagePack data."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise ValueError(f"metadata end at byte {len(self.data)}, in the middle of a value")
        taken = self.data[self.at : self.at + count]
        self.at += count
        return taken

    def number(self, form: str) -> Any:  # noqa: ANN401  # int or float by format
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def value(self, depth: int) -> Any:  # noqa: ANN401  # the value's type is the data's
        if depth > MAX_DEPTH:
            raise ValueError(f"metadata are nested more than {MAX_DEPTH} deep")
        kind = self.take(1)[0]
        if kind < 0x80:
            return kind
        if kind >= 0xE0:
            return kind - 0x100
        if kind in _CONSTANTS:
            return _CONSTANTS[kind]
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind in _SIZED:
            name, form = _SIZED[kind]
            return self.sized(name, self.number(form), depth)
        if kind < 0xC0:
            name = "map" if kind < 0x90 else "array" if kind < 0xA0 else "text"
            return self.sized(name, kind & (0x1F if name == "text" else 0x0F), depth)
        raise ValueError(f"metadata use the unknown type 0x{kind:02x}")

    def sized(self, name: str, count: int, depth: int) -> Any:  # noqa: ANN401  # by `name`
        if name == "text":
            return self.take(count).decode()
        if name == "binary":
            return self.take(count)
        if name == "array":
            return [self.value(depth + 1) for _ in range(count)]
        pairs = [(self.value(depth + 1), self.value(depth + 1)) for _ in range(count)]
        try:
            return dict(pairs)
        except TypeError:
            raise ValueError("metadata use a list or map as a map's key") from None
