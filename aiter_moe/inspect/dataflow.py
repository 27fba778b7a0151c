# SPDX-License-Identifier: MIT
"""Where the numbers in a loop come from: which instructions wrote a register that one reads.

A loop is followed backwards in the order of its code, the turn before included. Where control
joins, that is the nearest write, which may not be the only one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from aiter_moe.inspect.instructions import VECTOR_ALU, Group, Instruction, Register

# What makes new numbers of old ones, so that its own operands are origins too.
ALU = VECTOR_ALU | {Group.SALU}


@dataclass(frozen=True)
class Dataflow:
    """The writes and reads of a loop."""

    instructions: Sequence[Instruction]

    def origins(self, registers: Iterable[Register], at: int) -> Collection[int]:
        """Return the instructions that made what instruction `at` reads in some registers.

        Arithmetic is followed to its operands, memory and matrix instructions are not.
        """
        found: set[int] = set()
        waiting = [(register, at) for register in registers]
        while waiting:
            source = self._last_write(*waiting.pop())
            if source is None or source in found:
                continue
            found.add(source)
            if self.instructions[source].group in ALU:
                waiting += [(read, source) for read in self.instructions[source].reads]
        return found

    def _last_write(self, register: Register, at: int) -> int | None:
        places = self._writers.get(register)
        if not places:
            return None
        return max((place for place in places if place < at), default=places[-1])

    @cached_property
    def _writers(self) -> dict[Register, list[int]]:
        found: dict[Register, list[int]] = {}
        for at, instruction in enumerate(self.instructions):
            for register in instruction.writes:
                found.setdefault(register, []).append(at)
        return found
