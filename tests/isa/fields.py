# SPDX-License-Identifier: MIT
"""Where each encoding keeps its opcode and its register numbers.

The bit positions are those of the published CDNA3 and CDNA4 instruction formats.
"""

from __future__ import annotations

# Letters of a row's operand text, see csrc/emulator/isa/opcode.h.
_SOURCES = ("a", "b", "c")
SCALED = 0x80  # added to the code of an MFMA that follows the word pair of its scales
LOAD_SCALE = 0x2C


def bits(word: int, high: int, low: int) -> int:
    """Return bits `high` to `low` of a word."""
    return word >> low & ((1 << (high - low + 1)) - 1)


def format_of(word: int) -> str:
    """Return the encoding a first word belongs to."""
    if word >> 31 == 0:
        return {0x3E: "vopc", 0x3F: "vop1"}.get(word >> 25, "vop2")
    if word >> 30 == 2:
        if word >> 28 != 0b1011:
            return {0x17D: "sop1", 0x17E: "sopc", 0x17F: "sopp"}.get(word >> 23, "sop2")
        return {0x17D: "sop1", 0x17E: "sopc", 0x17F: "sopp"}.get(word >> 23, "sopk")
    if word >> 26 == 0x34:
        return "vop3p" if bits(word, 25, 23) == 0b111 else "vop3"
    if word >> 26 == 0x37:
        return ("flat", "scratch", "global", "unknown")[bits(word, 15, 14)]
    return {0x30: "smem", 0x36: "ds", 0x38: "mubuf", 0x3A: "mtbuf"}.get(word >> 26, "unknown")


_CODE_BITS = {
    "sop1": (15, 8), "sop2": (29, 23), "sopk": (27, 23), "sopc": (22, 16), "sopp": (22, 16),
    "smem": (25, 18), "vop1": (16, 9), "vop2": (30, 25), "vopc": (24, 17), "vop3": (25, 16),
    "vop3p": (22, 16), "ds": (24, 17), "mubuf": (24, 18), "mtbuf": (18, 15), "flat": (24, 18),
    "global": (24, 18), "scratch": (24, 18),
}  # fmt: skip


def code_of(words: tuple[int, ...]) -> int:
    """Return the number of the opcode in its encoding."""
    fmt = format_of(words[0])
    code = bits(words[0], *_CODE_BITS[fmt])
    if fmt == "vop3p" and code == LOAD_SCALE and len(words) == 4:
        return bits(words[2], *_CODE_BITS[fmt]) + SCALED
    return code


def registers_of(words: tuple[int, ...]) -> dict[str, int]:  # noqa: PLR0911
    """Return letter of operand -> register number in that field, for 4- and 8-byte encodings."""
    if len(words) == 4:  # scale operands are the sources of the first pair
        scales = registers_of(words[:2])
        return registers_of(words[2:]) | {"u": scales["a"], "w": scales["b"]}
    low, high = words[0], words[1] if len(words) > 1 else 0
    match format_of(low):
        case "sop1":
            return {"s": bits(low, 22, 16), "a": bits(low, 7, 0)}
        case "sop2":
            return {"s": bits(low, 22, 16), "a": bits(low, 7, 0), "b": bits(low, 15, 8)}
        case "sopc":
            return {"a": bits(low, 7, 0), "b": bits(low, 15, 8)}
        case "sopk":
            return {"s": bits(low, 22, 16)}
        case "smem":
            scalar = bits(high, 31, 25) if bits(low, 14, 14) else bits(high, 6, 0)
            return {"s": bits(low, 12, 6), "r": bits(low, 5, 0) * 2, "o": scalar}
        case "vop1":
            return {"d": bits(low, 24, 17), "a": bits(low, 7, 0)}
        case "vop2":
            return {"d": bits(low, 24, 17), "a": bits(low, 7, 0), "b": bits(low, 16, 9)}
        case "vopc":
            return {"a": bits(low, 7, 0), "b": bits(low, 16, 9)}
        case "vop3" | "vop3p":
            sources = zip(_SOURCES, (0, 9, 18), strict=True)
            return {"d": bits(low, 7, 0), "S": bits(low, 14, 8)} | {
                letter: bits(high, shift + 7, shift) for letter, shift in sources
            }
        case "ds":
            fields = zip("pxyd", (0, 8, 16, 24), strict=True)
            return {letter: bits(high, shift + 7, shift) for letter, shift in fields}
        case "mubuf" | "mtbuf":
            return {
                "p": bits(high, 7, 0), "x": bits(high, 15, 8), "r": bits(high, 20, 16) * 4,
                "o": bits(high, 31, 24),
            }  # fmt: skip
        case "flat" | "global" | "scratch":
            return {
                "p": bits(high, 7, 0), "x": bits(high, 15, 8), "r": bits(high, 22, 16),
                "d": bits(high, 31, 24),
            }  # fmt: skip
    return {}
