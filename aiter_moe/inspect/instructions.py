# SPDX-License-Identifier: MIT
"""One instruction as data: the kind of work it is, and the registers it reads and writes.

Made from the text of the emulator's decoder, which is LLVM's. Not here: what it computes.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from functools import cached_property

from aiter_moe.targets.disassembler import Line

LANES = 64

_REGISTER = re.compile(r"\b([vas])(?:(\d+)|\[(\d+):(\d+)\])|\b(vcc|exec|m0)\b")
_WAIT = re.compile(r"(vmcnt|lgkmcnt)\((\d+)\)")
# Bytes a lane moves, by what the name of a memory instruction ends in.
_WIDTHS = (
    ("dwordx4", 16), ("dwordx3", 12), ("dwordx2", 8), ("dword", 4), ("b128", 16), ("b96", 12),
    ("b64", 8), ("b32", 4), ("short", 2), ("byte", 1), ("b16", 2), ("16", 2), ("b8", 1), ("8", 1),
)  # fmt: skip

Register = tuple[str, int]
"""A register: its file (``v``, ``a``, ``s``, or the name of a special one) and its number."""


class Group(enum.Enum):
    """What kind of work an instruction is; the value is its heading in tables."""

    MFMA = "mfma"
    CONVERT = "convert"
    VALU = "valu"
    MOVE = "move"
    ACC_MOVE = "acc move"
    LDS_READ = "lds read"
    LDS_WRITE = "lds write"
    LDS_OTHER = "lds other"
    LOAD = "load"
    LOAD_TO_LDS = "load to lds"
    STORE = "store"
    ATOMIC = "atomic"
    SCRATCH = "scratch"
    SCALAR_LOAD = "scalar load"
    WAIT = "wait"
    BARRIER = "barrier"
    NOP = "nop"
    SALU = "salu"
    BRANCH = "branch"
    OTHER = "other"


VECTOR_ALU = frozenset({Group.CONVERT, Group.VALU, Group.MOVE, Group.ACC_MOVE})
LDS = frozenset({Group.LDS_READ, Group.LDS_WRITE, Group.LDS_OTHER})
VECTOR_MEMORY = frozenset({Group.LOAD, Group.LOAD_TO_LDS, Group.STORE, Group.ATOMIC, Group.SCRATCH})

# The first entry whose prefixes fit decides; loads are told apart by where they go.
_PREFIXES: tuple[tuple[Group, tuple[str, ...]], ...] = (
    (Group.MFMA, ("v_mfma", "v_smfmac")),
    (Group.CONVERT, ("v_cvt",)),
    (Group.ACC_MOVE, ("v_accvgpr",)),
    (Group.MOVE, ("v_mov_", "v_pk_mov")),
    (Group.VALU, ("v_",)),
    (Group.LDS_READ, ("ds_read",)),
    (Group.LDS_WRITE, ("ds_write",)),
    (Group.LDS_OTHER, ("ds_",)),
    (Group.SCRATCH, ("scratch_",)),
    (Group.LOAD, ("buffer_load", "global_load", "flat_load", "tbuffer_load")),
    (Group.STORE, ("buffer_store", "global_store", "flat_store", "tbuffer_store")),
    (Group.ATOMIC, ("buffer_atomic", "global_atomic", "flat_atomic")),
    (Group.WAIT, ("s_waitcnt",)),
    (Group.BARRIER, ("s_barrier",)),
    (Group.NOP, ("s_nop",)),
    (Group.SCALAR_LOAD, ("s_load", "s_buffer_load", "s_scratch_load")),
    (Group.BRANCH, ("s_cbranch", "s_branch", "s_setpc", "s_swappc", "s_call")),
    (Group.OTHER, ("s_setprio", "s_sleep", "s_endpgm", "s_dcache", "s_icache", "s_code_end")),
    (Group.SALU, ("s_",)),
)


@dataclass(frozen=True)
class Instruction:
    """An instruction of a kernel.

    Attributes
    ----------
    pc : int
        Byte offset in the text section.
    text : str
        LLVM's text; branches show the byte offset they go to.
    """

    pc: int
    text: str

    @classmethod
    def of(cls, line: Line) -> Instruction:
        """Return a line of the disassembler as an instruction."""
        return cls(line.pc, line.text)

    @cached_property
    def mnemonic(self) -> str:
        """The name alone."""
        return self.text.partition(" ")[0]

    @cached_property
    def operands(self) -> tuple[str, ...]:
        """What stands between the name and the modifiers, split at commas."""
        parts = self.text.partition(" ")[2].split(", ")
        return tuple(filter(None, [*parts[:-1], parts[-1].partition(" ")[0]]))

    @cached_property
    def group(self) -> Group:
        """What kind of work it is."""
        name = self.mnemonic
        found = next((g for g, starts in _PREFIXES if name.startswith(starts)), Group.OTHER)
        return Group.LOAD_TO_LDS if found is Group.LOAD and self._goes_to_lds else found

    @cached_property
    def _goes_to_lds(self) -> bool:
        return "_lds_" in self.mnemonic or self.text.endswith(" lds")

    @cached_property
    def lane_bytes(self) -> int:
        """Bytes a lane moves; 0 for what is no memory instruction."""
        if self.group not in LDS | VECTOR_MEMORY or self.mnemonic.endswith("permute_b32"):
            return 0
        name = self.mnemonic
        width = next((size for end, size in _WIDTHS if end in name), 0)
        return 2 * width if "read2" in name or "write2" in name else width

    @property
    def wave_bytes(self) -> int:
        """Bytes all lanes of a wave move."""
        return LANES * self.lane_bytes

    @property
    def is_non_temporal(self) -> bool:
        """Whether a memory instruction streams past the caches."""
        return " nt" in self.text

    @cached_property
    def waits(self) -> dict[str, int]:
        """Counters a wait names, and what each may hold afterwards."""
        if self.group is not Group.WAIT:
            return {}
        return {name: int(count) for name, count in _WAIT.findall(self.text)}

    @cached_property
    def branch_target(self) -> int | None:
        """Byte offset a branch goes to; None where it is no branch or the offset is computed."""
        known = self.mnemonic.startswith(("s_cbranch", "s_branch"))
        return int(self.operands[0], 16) if known and self.operands else None

    @cached_property
    def writes(self) -> frozenset[Register]:
        """Registers it writes, as far as its text says."""
        found: set[Register] = set()
        for operand in self.operands[: self._results]:
            found |= registers(operand)
        return frozenset(found)

    @cached_property
    def reads(self) -> frozenset[Register]:
        """Registers it reads, as far as its text says."""
        both = self.mnemonic.startswith(("v_fmac", "v_mac", "v_swap", "v_permlane", "v_dot"))
        found: set[Register] = set()
        for operand in self.operands[0 if both else self._results :]:
            found |= registers(operand)
        return frozenset(found)

    @cached_property
    def address(self) -> frozenset[Register]:
        """Registers that make up the address of a memory instruction."""
        if self.group in (Group.LDS_READ, Group.LDS_WRITE):
            return registers(self.operands[int(self.group is Group.LDS_READ)])
        if self.group not in VECTOR_MEMORY:
            return frozenset()
        to_lds = self.group is Group.LOAD_TO_LDS
        buffer = self.mnemonic.startswith(("buffer_", "tbuffer_"))
        # buffers and loads name what is moved first, stores of the other encodings the address
        at = 0 if to_lds or not (buffer or "load" in self.mnemonic) else 1
        data = () if buffer or at or to_lds else (at + 1,)
        found: set[Register] = {("m0", 0)} if to_lds else set()
        for index, operand in enumerate(self.operands):
            if index >= at and index not in data:
                found |= registers(operand)
        return frozenset(found)

    @cached_property
    def _results(self) -> int:
        """How many operands, from the first on, are written."""
        name = self.mnemonic
        if self.group in (Group.LDS_WRITE, Group.STORE, Group.LOAD_TO_LDS, Group.ATOMIC):
            return 0
        if "store" in name or name.startswith(("s_cmp", "s_bitcmp", "s_setreg")):
            return 0
        if self.group in (Group.WAIT, Group.BARRIER, Group.NOP, Group.BRANCH, Group.OTHER):
            return 0
        if "_co_" in name or name.startswith(
            ("v_div_scale", "v_mad_u64_u32", "v_mad_i64_i32", "v_swap", "v_permlane16_swap",
             "v_permlane32_swap"),
        ):  # fmt: skip
            return 2
        return 1


def registers(operand: str) -> frozenset[Register]:
    """Return the registers an operand names."""
    found: set[Register] = set()
    for file, one, first, last, special in _REGISTER.findall(operand):
        if special:
            found.add((special, 0))
        elif one:
            found.add((file, int(one)))
        else:
            found |= {(file, n) for n in range(int(first), int(last) + 1)}
    return frozenset(found)
