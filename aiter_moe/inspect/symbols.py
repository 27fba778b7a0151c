# SPDX-License-Identifier: MIT
"""Where in a code object's text each kernel lies, by its symbols.

Offsets count from the executable segment, as those of `aiter_moe.targets.disassembler` do.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from aiter_moe.errors import LaunchError

LOAD, EXECUTABLE = 1, 1
SYMBOL_TABLES = (2, 11)  # .symtab and .dynsym
FUNCTION = 2
# A kernel descriptor holds the distance from itself to the code.
DESCRIPTOR_SUFFIX, ENTRY_OFFSET = ".kd", 16

Range = tuple[int, int | None]
"""First byte and end; None where the end of the text is the end."""


@dataclass(frozen=True, slots=True)
class _Section:
    kind: int
    address: int
    offset: int
    size: int
    link: int


@dataclass(frozen=True, slots=True)
class _Symbol:
    name: str
    kind: int
    address: int
    size: int


def code_ranges(data: bytes, origin: str = "the code object") -> dict[str, Range]:
    """Return where each function and kernel lies.

    Parameters
    ----------
    data : bytes
        A code object.
    origin : str
        What to call it in an error.

    Raises
    ------
    LaunchError
        If its tables lie outside of it.
    """
    try:
        return _ranges(data)
    except (struct.error, IndexError, ValueError) as error:
        raise LaunchError(f"{origin}: its symbols cannot be read ({error})") from error


def _ranges(data: bytes) -> dict[str, Range]:
    sections = list(_sections(data))
    text = _text_address(data)
    symbols = {s.name: s for s in _symbols(data, sections)}
    starts: dict[str, int] = {}
    sizes: dict[str, int] = {}
    for symbol in symbols.values():
        if symbol.kind == FUNCTION:
            starts[symbol.name] = symbol.address - text
            sizes[symbol.name] = symbol.size
        elif symbol.name.endswith(DESCRIPTOR_SUFFIX):
            name = symbol.name.removesuffix(DESCRIPTOR_SUFFIX)
            starts.setdefault(name, _entry(data, sections, symbol) - text)
    places = sorted(set(starts.values()))
    return {
        name: (start, start + sizes[name] if sizes.get(name) else _next(places, start))
        for name, start in starts.items()
    }


def _next(places: list[int], start: int) -> int | None:
    return next((place for place in places if place > start), None)


def _sections(data: bytes) -> Iterator[_Section]:
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    for index in range(count):
        _, kind, _, address, offset, length, link = struct.unpack_from(
            "<IIQQQQI", data, table + index * size
        )
        yield _Section(kind, address, offset, length, link)


def _text_address(data: bytes) -> int:
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    for index in range(count):
        kind, flags, _, address = struct.unpack_from("<IIQQ", data, table + index * size)
        if kind == LOAD and flags & EXECUTABLE:
            return int(address)
    raise ValueError("no executable segment")


def _symbols(data: bytes, sections: list[_Section]) -> Iterator[_Symbol]:
    for section in sections:
        if section.kind not in SYMBOL_TABLES:
            continue
        names = sections[section.link].offset
        for at in range(section.offset, section.offset + section.size, 24):
            name, info, _, _, address, size = struct.unpack_from("<IBBHQQ", data, at)
            end = data.index(b"\0", names + name)
            yield _Symbol(data[names + name : end].decode(), info & 15, address, size)


def _entry(data: bytes, sections: list[_Section], descriptor: _Symbol) -> int:
    """Return the address of the code that a kernel descriptor points to."""
    address = descriptor.address
    for section in sections:
        if section.address and section.address <= address < section.address + section.size:
            at = section.offset + address - section.address + ENTRY_OFFSET
            return address + int(struct.unpack_from("<q", data, at)[0])
    raise ValueError(f"{descriptor.name} lies in no section")
