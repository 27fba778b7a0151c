# SPDX-License-Identifier: MIT
"""Random instructions of every row of the opcode table, as text for the assembler to judge."""

from __future__ import annotations

import random

from isa.table import (
    BITOP3,
    CLAMP,
    DPP,
    LDS,
    MATRIX,
    OMOD,
    OP_SEL,
    OP_SEL_HI,
    PACKED,
    SDWA,
    Row,
)

_CONSTANTS = ("0", "1", "64", "-1", "-16", "0.5", "-1.0", "4.0", "src_shared_base")
_SPECIAL = {1: ("vcc_lo", "vcc_hi", "m0", "exec_lo", "exec_hi"), 2: ("vcc", "exec")}
_SELECTIONS = ("BYTE_0", "BYTE_1", "BYTE_2", "BYTE_3", "WORD_0", "WORD_1", "DWORD")
_UNUSED = ("UNUSED_PAD", "UNUSED_SEXT", "UNUSED_PRESERVE")
_CONTROLS = (
    "quad_perm:[3,0,2,1]", "row_shl:1", "row_shr:15", "row_ror:7", "row_mirror", "row_half_mirror",
    "wave_shl:1", "row_bcast:15", "row_bcast:31", "row_newbcast:3",
)  # fmt: skip
_SHORT = ("vop1", "vop2", "vopc")
_MEMORY = ("mubuf", "mtbuf", "flat", "global", "scratch")


def random_line(row: Row, rng: random.Random) -> str:
    """Return one spelling of an instruction; the assembler may refuse what does not go together."""
    form = rng.choice(_forms(row))
    names = {"sdwa": "_sdwa", "dpp": "_dpp", "e32": "_e32", "e64": "_e64", "": ""}
    operands = ", ".join(_operands(row, form, rng))
    return f"{row.name}{names[form]} {operands} {_modifiers(row, form, rng)}".rstrip()


def _forms(row: Row) -> list[str]:
    if row.format == "vop3":
        return ["", "e64"]
    if row.format not in _SHORT:
        return [""]
    return ["", "e32"] + ["sdwa"] * bool(row.traits & SDWA) + ["dpp"] * bool(row.traits & DPP)


def _register(kind: str, width: int, rng: random.Random) -> str:
    if kind == "s":
        step = 1 if width == 1 else 2 if width == 2 else 4
        if width in _SPECIAL and rng.random() < 0.2:
            return rng.choice(_SPECIAL[width])
        first, last = step * rng.randrange(96 // step), 101
    else:
        step, last = 1 if width == 1 else 2, 255
        first = step * rng.randrange(256 // step)
    first = min(first, (last + 1 - width) // step * step)
    return f"{kind}{first}" if width == 1 else f"{kind}[{first}:{first + width - 1}]"


def _source(row: Row, form: str, place: int, width: int, rng: random.Random) -> str:
    roll = rng.random()
    if row.format.startswith("sop"):
        kind = "s"
    elif row.traits & MATRIX:
        kind = rng.choice("va")
    else:
        kind = "s" if roll < 0.15 else "v"
    text = _register(kind, width, rng)
    if roll > 0.85 and form not in ("sdwa", "dpp"):
        text = rng.choice(_CONSTANTS)
    elif roll > 0.8 and form not in ("sdwa", "dpp") and place == 0:
        text = hex(rng.getrandbits(32) | 0x10000)
    if row.format == "vop3p" or row.format.startswith("sop") or rng.random() < 0.5:
        return text
    # The assembler takes absolute values where the bits belong to a second destination.
    if row.traits >> 3 + place & 1 and "S" not in row.operands and rng.random() < 0.5:
        text = f"|{text}|"
    return f"-{text}" if row.traits >> place & 1 and rng.random() < 0.5 else text


def _operands(row: Row, form: str, rng: random.Random) -> list[str]:
    found = []
    accumulation = "a" if rng.random() < 0.3 else "v"
    for text in row.operands.split():
        letter, width = text[0], int(text[1:] or 0)
        if letter in "abc":
            place = "abc".index(letter)
            if letter == "c" and row.traits & MATRIX and width > 1:
                found.append(rng.choice([_register(accumulation, width, rng), "0", "1.0"]))
            else:
                found.append(_source(row, form, place, width, rng))
        else:
            found.append(_other(row, letter, width, accumulation, rng))
    return found


def _other(  # noqa: PLR0911
    row: Row, letter: str, width: int, accumulation: str, rng: random.Random
) -> str:
    memory = row.format in (*_MEMORY, "ds")
    if letter in "dxy":
        kind = accumulation if memory or row.traits & MATRIX else "v"
        return _register(kind, width, rng)
    if letter in "EA":
        return _register("a", width, rng)
    if letter in "uw":
        return rng.choice([_register("v", 1, rng), _register("s", 1, rng), "1"])
    if letter == "p":
        return _address(row, width, rng)
    if letter == "r" and row.format in ("global", "scratch"):
        return rng.choice(["off", _register("s", 1 if row.format == "scratch" else 2, rng)])
    if letter == "i":
        return hex(rng.getrandbits(15))
    fixed = {"V": "vcc", "k": hex(rng.getrandbits(16) | 0x8000), "h": "hwreg(HW_REG_MODE, 2, 7)"}
    if letter == "o" and row.format == "smem":
        sum_of_both = f"{_register('s', 1, rng)} offset:{hex(rng.getrandbits(19))}"
        return rng.choice([sum_of_both, hex(rng.getrandbits(20)), _register("s", 1, rng)])
    return fixed.get(letter) or _register("s", width, rng)


def _address(row: Row, width: int, rng: random.Random) -> str:
    if row.format in ("mubuf", "mtbuf"):
        return rng.choice(["off", _register("v", 1, rng), _register("v", 2, rng)])
    if row.format == "scratch" and rng.random() < 0.5:
        return "off"
    if row.format == "global":
        return _register("v", rng.choice([1, 2]), rng)
    return _register("v", width, rng)


def _bit_list(name: str, count: int, rng: random.Random) -> str:
    return f"{name}:[{','.join(rng.choice('01') for _ in range(count))}]"


def _modifiers(row: Row, form: str, rng: random.Random) -> str:
    parts: list[str] = []
    if form == "sdwa":
        _add_sdwa(row, rng, parts)
    elif form == "dpp":
        parts.append(f"{rng.choice(_CONTROLS)} row_mask:0x{rng.randrange(16):x}")
        parts.append(f"bank_mask:0x{rng.randrange(16):x}" + rng.choice([" bound_ctrl:1", ""]))
    elif row.format in ("vop3", "vop3p") and form != "e32":
        _add_long(row, rng, parts)
    elif row.format in _MEMORY or row.format == "ds":
        _add_memory(row, rng, parts)
    return " ".join(parts)


def _add_sdwa(row: Row, rng: random.Random, parts: list[str]) -> None:
    if row.format != "vopc":
        parts.append(f"dst_sel:{rng.choice(_SELECTIONS)} dst_unused:{rng.choice(_UNUSED)}")
    parts.append(f"src0_sel:{rng.choice(_SELECTIONS)}")
    if "b" in row.operands:
        parts.append(f"src1_sel:{rng.choice(_SELECTIONS)}")


def _add_long(row: Row, rng: random.Random, parts: list[str]) -> None:
    sources = sum(text[0] in "abc" for text in row.operands.split())
    if row.traits & BITOP3:
        parts.append(f"bitop3:0x{rng.getrandbits(8):x}")
    if row.traits & OP_SEL and rng.random() < 0.6:
        entries = sources if row.format == "vop3p" else rng.choice([sources + 1, 4])
        parts.append(_bit_list("op_sel", entries, rng))
    if row.traits & OP_SEL_HI and rng.random() < 0.6:
        parts.append(_bit_list("op_sel_hi", sources, rng))
    if row.traits & PACKED and rng.random() < 0.5:
        parts += [_bit_list("neg_lo", sources, rng), _bit_list("neg_hi", sources, rng)]
    if row.traits & MATRIX and rng.random() < 0.5:
        parts.append(f"cbsz:{rng.randrange(5)}")
    if row.traits & CLAMP and rng.random() < 0.3:
        parts.append("clamp")
    if row.traits & OMOD and rng.random() < 0.3:
        parts.append(rng.choice(["mul:2", "mul:4", "div:2"]))


def _add_memory(row: Row, rng: random.Random, parts: list[str]) -> None:
    if row.format == "ds":
        two = any(word in row.name for word in ("read2", "write2", "wrxchg2"))
        first, second = rng.randrange(256), rng.randrange(256)
        parts.append(f"offset0:{first} offset1:{second}" if two else f"offset:{first * second}")
        return
    if row.format in ("mubuf", "mtbuf"):
        parts += rng.choice([["offen"], ["idxen"], ["idxen", "offen"], []])
    low = -2048 if row.format in ("global", "scratch") else 0
    parts.append(f"offset:{rng.randrange(low, 2048)}")
    parts += [flag for flag in ("sc0", "nt", "sc1") if rng.random() < 0.3]
    if row.traits & LDS and rng.random() < 0.2:
        parts.append("lds")
