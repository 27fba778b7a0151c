# SPDX-License-Identifier: MIT
"""Operand texts to try on the assembler when nothing is known of a mnemonic.

An operand is a register of some width, at a number that says at which place of the text it
stands, so that the encoding tells which field took it; or a fixed text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

NARROW = (1, 2)
WIDE = (1, 2, 3, 4, 6, 8, 16, 32)


@dataclass(frozen=True, slots=True)
class Operand:
    """A register of `width` words in file v, a or s; or, with width 0, the fixed text `kind`."""

    kind: str
    width: int = 0

    def number(self, place: int) -> int:
        """Return its register number at a place of the text: no two files or places share one."""
        return 16 * (place + 1) if self.kind == "s" else 40 + 32 * place

    def text(self, place: int) -> str:
        """Return its assembly text at a place of the text."""
        if not self.width:
            return self.kind
        first = self.number(place)
        if self.width == 1:
            return f"{self.kind}{first}"
        return f"{self.kind}[{first}:{first + self.width - 1}]"


Operands = tuple[Operand, ...]
Choice = tuple[Operand, ...]


def _registers(files: str, widths: tuple[int, ...]) -> Choice:
    return tuple(Operand(kind, width) for kind in files for width in widths)


def _fixed(text: str) -> Choice:
    return (Operand(text),)


_VCC = _fixed("vcc")
_OFF = _fixed("off")
_LITERAL = _fixed("0x1234")
_HWREG = _fixed("hwreg(HW_REG_MODE)")
_IMMEDIATE = _fixed("0x35")


def _scalar() -> Iterator[tuple[Choice, ...]]:
    one = _registers("s", NARROW)
    for count in range(4):
        yield (one,) * count
    for fixed in (_IMMEDIATE, _HWREG):
        yield (fixed,)
        yield (one, fixed)
        yield (fixed, one)
    yield (_HWREG, _LITERAL)
    yield (_fixed("vmcnt(0)"),)
    yield (_fixed("sendmsg(MSG_INTERRUPT)"),)
    yield (one, _fixed("gpr_idx(SRC0)"))
    yield (_fixed("gpr_idx(SRC0)"),)


def _scalar_memory() -> Iterator[tuple[Choice, ...]]:
    data, base = _registers("s", (1, 2, 4, 8, 16)), _registers("s", (2, 4))
    offset = _registers("s", (1,))
    yield ()
    yield (_registers("s", NARROW),)
    yield (data, base, offset)
    yield (base, offset)
    yield (_fixed("0x5"), base, offset)


def _vector() -> Iterator[tuple[Choice, ...]]:
    vector, mask = _registers("v", NARROW), _registers("s", (2,))
    scalar = _registers("s", (1,))
    accumulator = _registers("a", (1,))
    yield ()
    for count in (1, 2, 3):
        yield (vector, *(vector,) * count)
    for count in (1, 2, 3):
        yield (mask, *(vector,) * count)
        yield (_VCC, *(vector,) * count)
        yield (vector, mask, *(vector,) * count)
        yield (vector, _VCC, *(vector,) * count)
        yield (vector, *(vector,) * count, _VCC)
        yield (vector, _VCC, *(vector,) * count, _VCC)
    yield (vector, vector, vector, mask)
    yield (vector, mask, vector, vector, mask)
    yield (vector, vector, _LITERAL, vector)
    yield (vector, vector, vector, _LITERAL)
    yield (scalar, vector)
    yield (scalar, vector, scalar)
    yield (vector, scalar, _fixed("7"))
    yield from ((accumulator, vector), (vector, accumulator), (accumulator, accumulator))


def _data_share() -> Iterator[tuple[Choice, ...]]:
    data = _registers("v", (1, 2, 3, 4))
    address = _registers("v", (1,))
    yield ()
    yield (data,)
    yield (data, address)
    yield (address, data)
    yield (address, data, data)
    yield (data, address, data)
    yield (data, address, data, data)


def _buffer() -> Iterator[tuple[Choice, ...]]:
    data, resource = _registers("v", (1, 2, 3, 4)), _registers("s", (4,))
    offset = _registers("s", (1,))
    yield ()
    yield (data, _OFF, resource, offset)


def _flat() -> Iterator[tuple[Choice, ...]]:
    data, address = _registers("v", (1, 2, 3, 4)), _registers("v", (2,))
    yield (data, address)
    yield (address, data)
    yield (data, address, data)


def _segment(address: Choice) -> Iterator[tuple[Choice, ...]]:
    data = _registers("v", (1, 2, 3, 4))
    yield (address, _OFF)
    yield (data, address, _OFF)
    yield (address, data, _OFF)
    yield (data, address, data, _OFF)


def _families(mnemonic: str) -> Iterator[tuple[Choice, ...]]:
    prefix = mnemonic.partition("_")[0]
    if prefix == "s":
        yield from _scalar()
        yield from _scalar_memory()
    elif prefix == "v":
        yield from _vector()
    elif prefix == "ds":
        yield from _data_share()
    elif prefix in ("buffer", "tbuffer"):
        yield from _buffer()
    elif prefix == "flat":
        yield from _flat()
    else:
        yield from _segment(_registers("v", (2,) if prefix == "global" else (1,)))


def narrow_templates(mnemonic: str) -> list[Operands]:
    """Return the operand lists most instructions of the mnemonic's prefix have."""
    return [operands for family in _families(mnemonic) for operands in product(*family)]


def wide_templates(mnemonic: str) -> list[Operands]:
    """Return operand lists with wide registers: matrix instructions, conversions of 32 values."""
    if not mnemonic.startswith("v_"):
        return []
    one, wide = _registers("v", (1,)), _registers("v", WIDE)
    found: list[Operands] = []
    if mnemonic.startswith(("v_mfma_", "v_smfmac_")):
        for d, a, b in product(wide, wide, wide):
            found += [(d, a, b, d), (d, a, b, one[0]), (d, a, b, d, one[0], one[0])]
        return found
    found += product(wide, wide)
    found += product(wide, wide, wide)
    found += product(wide, wide, wide, one)
    found += product(wide, wide, one, wide)
    return found


def texts(operands: Operands) -> str:
    """Return the operand list as assembly text."""
    return ", ".join(operand.text(place) for place, operand in enumerate(operands))
