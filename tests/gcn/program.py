# SPDX-License-Identifier: MIT
"""Assembly text of a kernel as decoded instructions, with what its descriptor declares."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gcn.wave import Wave

FLOATS = {
    "0.5": 0x3F000000, "1.0": 0x3F800000, "2.0": 0x40000000, "4.0": 0x40800000,
    "-0.5": 0xBF000000, "-1.0": 0xBF800000, "-2.0": 0xC0000000, "-4.0": 0xC0800000,
}  # fmt: skip
SPECIAL = ("vcc", "exec", "m0", "off")
REGISTER = re.compile(r"([vas])(?:(\d+)|\[(\d+):(\d+)\])")
LISTED = re.compile(r"\s(op_sel|op_sel_hi|neg_lo|neg_hi):\[([\d,]+)\]")
NAMED = re.compile(r"\s(cbsz|blgp|offset|dst_sel|dst_unused|src0_sel|src1_sel):(\w+)")
FLAG = re.compile(r"\s(offen|lds|nt)\b")
COUNTER = re.compile(r"(vmcnt|lgkmcnt)\((\d+)\)")


@dataclass(frozen=True, slots=True)
class Operand:
    """A register range, a special register or a constant."""

    file: str  # v (accumulation registers from 256 on), s, constant, or the special's name
    index: int = 0
    value: int = 0
    negate: bool = False
    absolute: bool = False


@dataclass(frozen=True, slots=True)
class Instruction:
    text: str
    name: str  # without _e32, _e64, _sdwa
    operands: tuple[Operand, ...]
    lists: dict[str, tuple[int, ...]] = field(default_factory=dict)
    named: dict[str, str] = field(default_factory=dict)
    flags: frozenset[str] = frozenset()
    target: int = 0  # of a branch

    @property
    def offset(self) -> int:
        return int(self.named.get("offset", "0"))


Handler = Callable[["Wave", Instruction], str | None]


@dataclass(frozen=True, slots=True)
class Program:
    """A kernel: handlers with their instructions, and its descriptor."""

    code: tuple[tuple[Handler, Instruction], ...]
    lds_bytes: int
    group_ids: tuple[bool, bool, bool]  # which workgroup ids come in scalar registers


def operand(text: str) -> Operand:
    negate = text.startswith("-") and text[1] in "va|s"
    text = text[1:] if negate else text
    absolute = text.startswith("|")
    text = text.strip("|")
    match = REGISTER.fullmatch(text)
    if match:
        file = "s" if match[1] == "s" else "v"
        index = int(match[2] or match[3]) + (256 if match[1] == "a" else 0)
        return Operand(file, index, 0, negate, absolute)
    if text in SPECIAL:
        return Operand(text)
    return Operand("constant", 0, FLOATS[text] if text in FLOATS else int(text, 0))


def decode(text: str, labels: dict[str, int]) -> Instruction:
    lists = {m[1]: tuple(map(int, m[2].split(","))) for m in LISTED.finditer(text)}
    rest = LISTED.sub("", text)
    named = {m[1]: m[2] for m in NAMED.finditer(rest)}
    rest = NAMED.sub("", rest)
    flags = frozenset(m[1] for m in FLAG.finditer(rest))
    name, _, arguments = FLAG.sub("", rest).partition(" ")
    name = re.sub(r"_(e32|e64|sdwa)$", "", name)
    if "branch" in name:
        return Instruction(text, name, (), target=labels[arguments.strip()])
    if name == "s_waitcnt":
        return Instruction(text, name, (), named=dict(COUNTER.findall(arguments)))
    operands = tuple(operand(a.strip()) for a in arguments.split(",") if a.strip())
    return Instruction(text, name, operands, lists, named, flags)


def read_program(path: Path, kernel: str, find: Callable[[str], Handler]) -> Program:
    """Return a kernel of a ``.s`` file; `find` gives the handler of an instruction's name."""
    text = path.read_text()
    body = text[text.index(f"\n{kernel}:") :]
    lines, labels = [], {}
    for line in body[: body.index(".Lfunc_end")].splitlines()[2:]:
        plain = line.split(";")[0].strip()
        if plain.endswith(":"):
            labels[plain[:-1]] = len(lines)
        elif plain and not plain.startswith("."):
            lines.append(plain)
    code = [decode(line, labels) for line in lines]
    described = text[text.index(f".amdhsa_kernel {kernel}\n") :]

    def declared(name: str) -> int:
        return int(re.search(rf"\.amdhsa_{name}\s+(\d+)", described)[1])

    assert declared("user_sgpr_count") == 2 and declared("user_sgpr_kernarg_segment_ptr") == 1
    assert declared("system_vgpr_workitem_id") == 0
    ids = tuple(bool(declared(f"system_sgpr_workgroup_id_{axis}")) for axis in "xyz")
    size = declared("group_segment_fixed_size")
    return Program(tuple((find(i.name), i) for i in code), size, ids)
