# SPDX-License-Identifier: MIT
"""Which source line an instruction of a code object came from, where it was compiled with ``-g``.

Reads the line tables of DWARF 4 and 5 as clang writes them. A file without them, or with tables
of another kind, has no lines; nothing here raises for what a file says.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

EXECUTABLE, LOAD = 1, 1

# How the entries of a table of names are written (DW_FORM_*), and what they say (DW_LNCT_*).
STRING, LINE_STRP, STRP, UDATA, BLOCK = 0x08, 0x1F, 0x0E, 0x0F, 0x09
FIXED = {0x0B: 1, 0x05: 2, 0x06: 4, 0x07: 8, 0x1E: 16}
PATH, DIRECTORY = 1, 2

# Opcodes of a line program.
COPY, ADVANCE_PC, ADVANCE_LINE, SET_FILE = 1, 2, 3, 4
CONST_ADD_PC, FIXED_ADVANCE_PC = 8, 9
END_SEQUENCE, SET_ADDRESS = 1, 2


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A file and a line in it, counted from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        """Return ``file:line``."""
        return f"{self.file}:{self.line}"


def source_line(code_object: bytes, pc: int) -> SourceLine | None:
    """Return where the instruction at a byte offset in the text came from, if it is known."""
    starts, rows = _table(code_object)
    at = bisect_right(starts, pc) - 1
    return rows[at] if at >= 0 else None


@lru_cache(maxsize=8)
def _table(code_object: bytes) -> tuple[list[int], list[SourceLine | None]]:
    """Return the offsets at which lines begin, in order, and the lines; None ends a sequence."""
    try:
        sections, text = _sections(code_object), _text_address(code_object)
        rows = sorted(_rows(sections), key=lambda row: row[0])
    except (struct.error, LookupError, ValueError, ArithmeticError):
        return [], []
    last = {address - text: line for address, line in rows}
    return list(last), list(last.values())


def _sections(data: bytes) -> dict[str, bytes]:
    """Return the contents of every section of an ELF file by name."""
    if data[:4] != b"\x7fELF":
        raise ValueError("no ELF file")
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count, names = struct.unpack_from("<HHH", data, 58)
    headers = [struct.unpack_from("<II16xQQ", data, table + n * size) for n in range(count)]
    base = headers[names][2]
    found = {}
    for name, _, offset, length in headers:
        end = data.index(b"\0", base + name)
        found[data[base + name : end].decode()] = data[offset : offset + length]
    return found


def _text_address(data: bytes) -> int:
    """Return the address of the executable segment, from which pcs count."""
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    for n in range(count):
        kind, flags, _, address = struct.unpack_from("<IIQQ", data, table + n * size)
        if kind == LOAD and flags & EXECUTABLE:
            return int(address)
    raise ValueError("no executable segment")


class _Cursor:
    """A place in bytes, read from the front."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def unsigned(self, size: int) -> int:
        self.at += size
        if self.at > len(self.data):
            raise IndexError("the table ends early")
        return int.from_bytes(self.data[self.at - size : self.at], "little")

    def uleb(self) -> int:
        value = shift = 0
        while True:
            byte = self.unsigned(1)
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    def sleb(self) -> int:
        start = self.at
        value = self.uleb()
        bits = 7 * (self.at - start)
        return value - (1 << bits) if value >> bits - 1 else value

    def string(self) -> str:
        end = self.data.index(b"\0", self.at)
        text = self.data[self.at : end].decode(errors="replace")
        self.at = end + 1
        return text


@dataclass(slots=True)
class _Program:
    """A line program: its header, and a cursor at its first opcode."""

    cursor: _Cursor
    end: int
    step: int  # bytes an instruction takes at least
    line_base: int
    line_range: int
    lengths: list[int]  # operands of each standard opcode, from opcode 1 on
    files: dict[int, str]


def _rows(sections: dict[str, bytes]) -> Iterator[tuple[int, SourceLine | None]]:
    data = sections.get(".debug_line", b"")
    start = 0
    while start < len(data):
        cursor = _Cursor(data, start)
        end = cursor.unsigned(4) + cursor.at
        program = _header(cursor, end, sections)
        if program is not None:
            yield from _run(program)
        start = end


def _header(cursor: _Cursor, end: int, sections: dict[str, bytes]) -> _Program | None:
    """Return the program of a unit in the 32-bit format; None for a version unknown here."""
    version = cursor.unsigned(2)
    if version not in (4, 5):
        return None
    if version == 5:
        cursor.unsigned(2)  # sizes of addresses and of segment selectors
    begin = cursor.unsigned(4) + cursor.at
    step = cursor.unsigned(1)
    cursor.unsigned(2)  # operations an instruction; whether rows are statements
    line_base = (cursor.unsigned(1) ^ 0x80) - 0x80
    line_range = cursor.unsigned(1)
    lengths = [cursor.unsigned(1) for _ in range(cursor.unsigned(1) - 1)]
    files = _names(cursor, sections) if version == 5 else _old_names(cursor)
    cursor.at = begin
    return _Program(cursor, end, step, line_base, line_range, lengths, files)


def _names(cursor: _Cursor, sections: dict[str, bytes]) -> dict[int, str]:
    """Return the files of a DWARF 5 header by number."""
    directories = [str(entry.get(PATH, "")) for entry in _entries(cursor, sections)]
    files = {}
    for number, entry in enumerate(_entries(cursor, sections)):
        files[number] = _joined(directories[int(entry.get(DIRECTORY, 0))], str(entry[PATH]))
    return files


def _entries(cursor: _Cursor, sections: dict[str, bytes]) -> list[dict[int, str | int]]:
    formats = [(cursor.uleb(), cursor.uleb()) for _ in range(cursor.unsigned(1))]
    count = cursor.uleb()
    if not formats:
        return []  # entries without a byte: no end of the data would stop a count that is wrong
    return [{kind: _value(cursor, form, sections) for kind, form in formats} for _ in range(count)]


def _value(cursor: _Cursor, form: int, sections: dict[str, bytes]) -> str | int:
    if form == STRING:
        return cursor.string()
    if form in (LINE_STRP, STRP):
        pool = sections[".debug_line_str" if form == LINE_STRP else ".debug_str"]
        return _Cursor(pool, cursor.unsigned(4)).string()
    if form == UDATA:
        return cursor.uleb()
    if form == BLOCK:
        return cursor.unsigned(cursor.uleb())
    return cursor.unsigned(FIXED[form])


def _old_names(cursor: _Cursor) -> dict[int, str]:
    """Return the files of a DWARF 4 header by number; directory 0 is unknown there."""
    directories = [""]
    while directory := cursor.string():
        directories.append(directory)
    files: dict[int, str] = {}
    while name := cursor.string():
        files[len(files) + 1] = _joined(directories[cursor.uleb()], name)
        cursor.uleb(), cursor.uleb()  # time and size
    return files


def _joined(directory: str, name: str) -> str:
    return name if name.startswith("/") or not directory else f"{directory}/{name}"


@dataclass(slots=True)
class _Row:
    """The registers of a line program."""

    address: int = 0
    file: int = 1
    line: int = 1


def _run(program: _Program) -> Iterator[tuple[int, SourceLine | None]]:
    """Yield (address, line) for every row; None where a sequence ends."""
    cursor, row, standard = program.cursor, _Row(), len(program.lengths)
    while cursor.at < program.end:
        opcode = cursor.unsigned(1)
        if opcode > standard:
            steps, lines = divmod(opcode - standard - 1, program.line_range)
            row.address += steps * program.step
            row.line += program.line_base + lines
        elif opcode == 0:
            if _ends(cursor, row):
                yield row.address, None
                row = _Row()
            continue
        elif opcode != COPY:
            _move(program, opcode, row)
            continue
        yield row.address, SourceLine(program.files.get(row.file, "?"), row.line)


def _ends(cursor: _Cursor, row: _Row) -> bool:
    """Run an extended opcode; return whether the sequence ends."""
    length = cursor.uleb()
    after, kind = cursor.at + length, cursor.unsigned(1)
    if kind == SET_ADDRESS:
        row.address = cursor.unsigned(length - 1)
    cursor.at = after
    return kind == END_SEQUENCE


def _move(program: _Program, opcode: int, row: _Row) -> None:
    """Run a standard opcode that makes no row."""
    cursor = program.cursor
    if opcode == ADVANCE_PC:
        row.address += cursor.uleb() * program.step
    elif opcode == ADVANCE_LINE:
        row.line += cursor.sleb()
    elif opcode == SET_FILE:
        row.file = cursor.uleb()
    elif opcode == CONST_ADD_PC:
        row.address += (254 - len(program.lengths)) // program.line_range * program.step
    elif opcode == FIXED_ADVANCE_PC:
        row.address += cursor.unsigned(2)
    else:
        for _ in range(program.lengths[opcode - 1]):
            cursor.uleb()
