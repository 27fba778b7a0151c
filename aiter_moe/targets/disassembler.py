# SPDX-License-Identifier: MIT
"""Code objects of gfx950 and gfx942 as assembly text, by the emulator's decoder.

The text is LLVM's, except that branches show the byte offset they go to. Words that are no
instruction read ``unknown instruction``. Not here: source lines (`aiter_moe.targets.source_lines`).
"""

from __future__ import annotations

import ctypes
from ctypes import c_char_p, c_long, c_uint, c_ulong
from dataclasses import dataclass
from pathlib import Path

from aiter_moe.errors import LaunchError
from aiter_moe.targets.emulator_library import Library, emulator

# Characters a word of code takes as text, more than it does on average.
_GUESS = 32


@dataclass(frozen=True, slots=True)
class Line:
    """An instruction: its byte offset in the text section, and its assembly text."""

    pc: int
    text: str


def disassemble(code_object: Path | bytes, library: Library | None = None) -> list[Line]:
    """Return the instructions of a code object in address order.

    Parameters
    ----------
    code_object : Path or bytes
        What a GPU would load.
    library : Library, optional
        Where the decoder is; by default the emulator, built on first use.

    Raises
    ------
    LaunchError
        If it is no code object of an architecture the emulator knows.
    """
    data = code_object.read_bytes() if isinstance(code_object, Path) else code_object
    return _lines(data, 0, library)


def disassemble_words(words: bytes, arch: str, library: Library | None = None) -> list[Line]:
    """Return the instructions that bare words of ``gfx942`` or ``gfx950`` encode."""
    return _lines(words, int(arch.removeprefix("gfx")), library)


def _lines(data: bytes, arch: int, library: Library | None) -> list[Line]:
    function = (library or emulator().library).function(
        "aiter_moe_emulator_disassemble", c_long, c_char_p, c_ulong, c_uint, c_char_p, c_long
    )
    capacity = 256 + _GUESS * len(data) // 4
    while True:
        out = ctypes.create_string_buffer(capacity)
        length = function(data, len(data), arch, out, capacity)
        if length < 0:
            raise LaunchError(f"cannot read the code object: {out.value.decode()}")
        if length <= capacity:
            break
        capacity = length
    text = ctypes.string_at(out, length).decode()
    split = (line.split(" ", 1) for line in text.splitlines())
    return [Line(int(pc, 16), instruction) for pc, instruction in split]
