# SPDX-License-Identifier: MIT
"""Derives csrc/emulator/isa/opcodes.inc by assembling.

Every mnemonic the assembler knows is tried with operands of every plausible kind; what it accepts
is read back: the opcode's number, which field took which operand and how wide it is, and which
modifiers there are. Run ``python tests/isa/table.py`` to write the file again.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from isa.assembler import Encoded, assemble, candidate_mnemonics, known_mnemonics
from isa.fields import code_of, format_of, registers_of
from isa.kinds import kind_of
from isa.templates import Operand, Operands, narrow_templates, texts, wide_templates

ARCHS = ("gfx942", "gfx950")
HEADER = (
    "// SPDX-License-Identifier: MIT",
    "// Every opcode of gfx942 and gfx950 the assembler knows. Written by tests/isa/table.py and",
    "// checked against the assembler by its test; the columns are those of opcode.h.",
)
TABLE = Path(__file__).parents[2] / "csrc" / "emulator" / "isa" / "opcodes.inc"
_FORM = re.compile(r"_(e32|e64|dpp|sdwa|e64_dpp)$")
# Registers that an opcode names by its meaning, where no field says that it is an accumulation one.
_ACCUMULATION = {
    "v_accvgpr_read_b32": {"a": "A"},
    "v_accvgpr_write_b32": {"d": "E"},
    "v_accvgpr_mov_b32": {"d": "E", "a": "A"},
}
_FIXED = {"vcc": "V", "0x1234": "k", "0x35": "i", "0x5": "i", "7": "b1", "hwreg(HW_REG_MODE)": "h"}
# Other names of what the table has already.
_ALIASES = {"v_mul_lo_i32"}
# The destination of these is their third source too.
_TIED = re.compile(r"^v_(mac|fmac|pk_fmac|dot\d+c)_")


# What an opcode takes besides operands: bits as in csrc/emulator/isa/opcode.h, which says what
# they mean. Bits 0 to 2 are for the negation of a source, 3 to 5 for its absolute value.
CLAMP, OMOD, OP_SEL, OP_SEL_HI, PACKED, SDWA, DPP, TIED, MATRIX = (1 << n for n in range(6, 15))
BITOP3, BOUND, LONG_OP_SEL, LDS = (1 << n for n in range(15, 19))


@dataclass(frozen=True, slots=True)
class Row:
    """One opcode; `archs` has a bit for each of ARCHS."""

    format: str
    code: int
    name: str
    archs: int
    operands: str
    traits: int

    def text(self) -> str:
        """Return the row as a line of opcodes.inc."""
        return (
            f'AITER_MOE_OPCODE({self.format}, 0x{self.code:x}, "{self.name}", {self.archs}, '
            f'{kind_of(self.format, self.name)}, "{self.operands}", 0x{self.traits:x})'
        )


@dataclass(frozen=True, slots=True)
class Accepted:
    """A line the assembler took, with the operands it was made of."""

    operands: Operands
    encoded: Encoded

    @property
    def name(self) -> str:
        """The mnemonic as the table has it."""
        return _FORM.sub("", self.encoded.mnemonic)

    @property
    def key(self) -> tuple[str, int]:
        """Encoding and number of the opcode."""
        words = self.encoded.words
        return format_of(words[0]), code_of(words)


def accepted(arch: str, mnemonics: Iterable[str]) -> list[Accepted]:
    """Return for every encoding of every mnemonic the first operands the assembler takes."""
    asked = [m for m in mnemonics if not _FORM.search(m) and m not in _ALIASES]
    asked += [f"{m}_{form}" for m in asked if m.startswith("v_") for form in ("e32", "e64")]
    asked = sorted(known_mnemonics(asked, arch))
    found = _first_accepted(arch, {m: narrow_templates(m) for m in asked})
    missing = [m for m in asked if m not in found]
    return [*found.values(), *_first_accepted(arch, _wide(missing)).values()]


def _wide(mnemonics: list[str]) -> dict[str, list[Operands]]:
    return {m: wide_templates(m) for m in mnemonics}


def _first_accepted(arch: str, tries: dict[str, list[Operands]]) -> dict[str, Accepted]:
    jobs = [(m, operands) for m, choices in tries.items() for operands in choices]
    done = assemble([f"{m} {texts(operands)}" for m, operands in jobs], arch)
    found: dict[str, Accepted] = {}
    for (mnemonic, operands), encoded in zip(jobs, done, strict=True):
        if encoded is not None and mnemonic not in found and _is_complete(operands, encoded):
            found[mnemonic] = Accepted(operands, encoded)
    return found


def _is_complete(operands: Operands, encoded: Encoded) -> bool:
    """Say whether nothing was filled in or optional: VCC, an offset of zero."""
    if format_of(encoded.words[0])[:4] == "vop3" and any(o.kind == "vcc" for o in operands):
        return False  # these have a field for it
    _, _, printed = encoded.text.partition(" ")
    return len(operands) == (printed.count(", ") + 1 if printed else 0)


def operand_text(line: Accepted) -> str:
    """Return the operands as letters of the fields that took them, with widths in words."""
    fields = registers_of(line.encoded.words)
    shown = enumerate(line.operands)
    return " ".join(_letter(line, place, operand, fields) for place, operand in shown)


def _letter(line: Accepted, place: int, operand: Operand, fields: dict[str, int]) -> str:
    if not operand.width:
        if operand.kind == "off":
            return "p1" if line.key[0] in ("mubuf", "mtbuf") else "r2"
        return _FIXED.get(operand.kind, "i")
    number = operand.number(place)
    letter = next(name for name, value in fields.items() if value == number)
    if letter == "d" and operand.kind == "s":
        letter = "s"
    letter = _ACCUMULATION.get(line.name, {}).get(letter, letter)
    return f"{letter}{operand.width}"


def _variants(line: Accepted) -> list[tuple[int, str]]:
    """Return (trait, line that the assembler takes only where the opcode has it)."""
    fmt = line.key[0]
    name, operands = line.encoded.mnemonic, texts(line.operands)
    if fmt == "mubuf":
        return [(LDS, f"{name} {operands.partition(', ')[2]} lds")]
    if not fmt.startswith("vop"):
        return []
    if fmt in ("vop1", "vop2", "vopc"):
        return _short_variants(line)
    found = [
        (CLAMP, f"{name} {operands} clamp"), (OMOD, f"{name} {operands} mul:2"),
        (MATRIX, f"{name} {operands} cbsz:1"), (BITOP3, f"{name} {operands} bitop3:1"),
        (BOUND, f"{name} {operands} bound_ctrl:1"),
    ]  # fmt: skip
    sources = _source_count(line)
    for count in range(1, 5):
        ones = ",".join("1" * count)
        zeros = ",".join("0" * count)
        found.append((OP_SEL, f"{name} {operands} op_sel:[{ones}]"))
        found.append((OP_SEL_HI, f"{name} {operands} op_sel_hi:[{zeros}]"))
        found.append((OP_SEL_HI, f"{name} {operands} op_sel_hi:[{ones}]"))
    for source in range(sources):
        picked = ",".join("1" if n == source else "0" for n in range(sources))
        found.append((1 << source, f"{name} {operands} neg_lo:[{picked}]"))
        found.append((8 << source, f"{name} {operands} neg_hi:[{picked}]"))
    return found + _sign_variants(line, name, "")


def _short_variants(line: Accepted) -> list[tuple[int, str]]:
    name, operands = line.name, texts(line.operands)
    found = [(SDWA, f"{name}_sdwa {operands}")]
    for control in ("row_shl:1", "row_newbcast:1"):
        found.append((DPP, f"{name}_dpp {operands} {control}"))
        found += _sign_variants(line, f"{name}_dpp", control)
    found.append((CLAMP, f"{name}_sdwa {operands} clamp"))
    found.append((OMOD, f"{name}_sdwa {operands} mul:2"))
    return found + _sign_variants(line, f"{name}_sdwa", "")


def _sign_variants(line: Accepted, name: str, tail: str) -> list[tuple[int, str]]:
    """Return lines that negate a source or take its absolute value."""
    found = []
    for place, letter in enumerate(operand_text(line).split()):
        if letter[0] not in "abc" or not line.operands[place].width:
            continue
        source = "abc".index(letter[0])
        for bit, change in ((1 << source, "-{}"), (8 << source, "|{}|")):
            parts = [operand.text(n) for n, operand in enumerate(line.operands)]
            parts[place] = change.format(parts[place])
            found.append((bit, f"{name} {', '.join(parts)} {tail}"))
    return found


def traits(lines: list[Accepted], arch: str) -> list[int]:
    """Return the modifiers every line's opcode takes."""
    asked = [(index, *variant) for index, line in enumerate(lines) for variant in _variants(line)]
    done = assemble([text for _, _, text in asked], arch)
    found = [_fixed_traits(line) for line in lines]
    for (index, bit, _), encoded in zip(asked, done, strict=True):
        if encoded is not None:
            found[index] |= bit
            if bit == OP_SEL and _has_long_op_sel(lines[index], encoded):
                found[index] |= LONG_OP_SEL
    return found


def _has_long_op_sel(line: Accepted, encoded: Encoded) -> bool:
    """Say whether OP_SEL has bits that belong to neither a source nor the destination."""
    printed = re.search(r" op_sel:\[([\d,]*)\]", encoded.text)
    entries = printed[1].count(",") + 1 if printed else 0
    return line.key[0] == "vop3" and entries == 4 and _source_count(line) == 2


def _source_count(line: Accepted) -> int:
    return sum(text[0] in "abcA" for text in operand_text(line).split())


def _fixed_traits(line: Accepted) -> int:
    found = TIED if _TIED.match(line.name) else 0
    words = line.encoded.words
    if line.key[0] == "vop3p" and words[0] >> 14 & 1:
        found |= PACKED
    return found


def rows_of(arch: str, mnemonics: Iterable[str]) -> list[Row]:
    """Return the rows of one GPU."""
    lines = list({(line.key, line.name): line for line in accepted(arch, mnemonics)}.values())
    bit = 1 << ARCHS.index(arch)
    return [
        Row(*line.key, line.name, bit, operand_text(line), found)
        for line, found in zip(lines, traits(lines, arch), strict=True)
    ]


def table() -> list[Row]:
    """Return the rows of all GPUs, each opcode once, in the order of the file."""
    mnemonics = candidate_mnemonics()
    joined: dict[tuple[str, int, str, str, int], int] = {}
    for arch in ARCHS:
        for row in rows_of(arch, mnemonics):
            key = (row.format, row.code, row.name, row.operands, row.traits)
            joined[key] = joined.get(key, 0) | row.archs
    rows = [Row(*key[:3], archs, *key[3:]) for key, archs in joined.items()]
    return sorted(rows, key=lambda row: (row.format, row.code, row.name, row.archs))


_LINE = re.compile(r'AITER_MOE_OPCODE\((\w+), (0x\w+), "(\w+)", (\d), \w+, "([^"]*)", (0x\w+)\)')


def read_table() -> list[Row]:
    """Return the rows of the committed file."""
    found = map(_LINE.match, TABLE.read_text().splitlines())
    return [
        Row(m[1], int(m[2], 0), m[3], int(m[4]), m[5], int(m[6], 0)) for m in found if m is not None
    ]


def reassembled(rows: list[Row], arch: str) -> list[Row | None]:
    """Return what the assembler says of every row's own operands; None where it refuses them."""
    tries = [(n, name, operands) for n, row in enumerate(rows) for name, operands in _spelled(row)]
    done = assemble([f"{name} {texts(operands)}" for _, name, operands in tries], arch)
    lines: dict[int, Accepted] = {}
    for (n, _, operands), encoded in zip(tries, done, strict=True):
        if encoded is not None and n not in lines and _is_complete(operands, encoded):
            lines[n] = Accepted(operands, encoded)
    found: list[Row | None] = [None] * len(rows)
    for (n, line), bits in zip(lines.items(), traits(list(lines.values()), arch), strict=True):
        found[n] = Row(*line.key, line.name, rows[n].archs, operand_text(line), bits)
    return found


_FIXED_TEXTS = {"V": "vcc", "k": "0x1234", "h": "hwreg(HW_REG_MODE)"}
_KINDS = {"d": "v", "E": "a", "A": "a", "s": "s", "S": "s", "r": "s", "o": "s"}


def _spelled(row: Row) -> list[tuple[str, Operands]]:
    """Return mnemonics and operands that may stand for a row: sources can be vector or scalar."""
    suffix = "_e64" if row.format == "vop3" else ""
    names = [row.name + suffix, row.name] if suffix else [row.name]
    if row.format in ("vop1", "vop2", "vopc"):
        names.insert(0, f"{row.name}_e32")
    choices = [_spelled_operand(row.format, text) for text in row.operands.split()]
    return [(name, operands) for name in names for operands in product(*choices)]


def _spelled_operand(fmt: str, text: str) -> list[Operand]:  # noqa: PLR0911
    letter, width = text[0], int(text[1:] or 0)
    if letter == "i":
        kinds = ("0x35", "0x5", "vmcnt(0)", "sendmsg(MSG_INTERRUPT)", "gpr_idx(SRC0)")
        return [Operand(kind) for kind in kinds]
    if letter in "Vkh":
        return [Operand(_FIXED_TEXTS[letter])]
    if letter == "p" and fmt in ("mubuf", "mtbuf"):
        return [Operand("off")]
    if letter == "r" and fmt in ("global", "scratch"):
        return [Operand("off")]
    if letter in "abc" and fmt.startswith("sop"):
        return [Operand("s", width)]
    if letter in _KINDS:
        return [Operand(_KINDS[letter], width)]
    found = [Operand("v", width)]
    return [*found, Operand("s", width), Operand("7")] if letter in "abc" else found


def main() -> None:
    """Write the table."""
    rows = table()
    TABLE.write_text("".join(f"{line}\n" for line in (*HEADER, *(row.text() for row in rows))))
    print(f"{TABLE}: {len(rows)} rows")


if __name__ == "__main__":
    main()
