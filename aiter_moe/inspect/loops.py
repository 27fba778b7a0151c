# SPDX-License-Identifier: MIT
"""A loop's figures: its mix of instructions per MFMA, its waits, and what should not be in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from aiter_moe.inspect.dataflow import Dataflow
from aiter_moe.inspect.flow import Blocks, loops_of
from aiter_moe.inspect.instructions import VECTOR_ALU, Group, Instruction

# Bytes a lane, from which on a load brings codes of weights.
WIDE = 8


@dataclass(frozen=True)
class Loop:
    """A loop of a kernel, as it stands in the code: each instruction counts once.

    Attributes
    ----------
    head : int
        Byte offset of the block that is branched back to.
    instructions : tuple of Instruction
        In address order.
    """

    head: int
    instructions: tuple[Instruction, ...]

    @cached_property
    def mix(self) -> Mapping[Group, int]:
        """Instructions by group; groups without any are 0."""
        return Counter(i.group for i in self.instructions)

    @cached_property
    def mfma(self) -> int:
        """Matrix instructions."""
        return self.mix[Group.MFMA]

    @property
    def size(self) -> int:
        """All instructions."""
        return len(self.instructions)

    @property
    def per_mfma(self) -> float:
        """All instructions over the matrix instructions; infinite where there are none."""
        return self.size / self.mfma if self.mfma else float("inf")

    def each_mfma(self, group: Group) -> float:
        """Return the instructions of a group over the matrix instructions."""
        return self.mix[group] / self.mfma if self.mfma else float("inf")

    def wave_bytes(self, *groups: Group) -> int:
        """Return the bytes a wave moves in one turn by instructions of these groups."""
        return sum(i.wave_bytes for i in self.instructions if i.group in groups)

    @cached_property
    def vmcnts(self) -> tuple[int, ...]:
        """What each wait for vector memory leaves unfinished, in order."""
        return tuple(i.waits["vmcnt"] for i in self.instructions if "vmcnt" in i.waits)

    @cached_property
    def lgkmcnts(self) -> tuple[int, ...]:
        """What each wait for LDS and scalar loads leaves unfinished, in order."""
        return tuple(i.waits["lgkmcnt"] for i in self.instructions if "lgkmcnt" in i.waits)

    @property
    def least_vmcnt(self) -> int | None:
        """The strictest wait for vector memory; None where the loop does not wait for it."""
        return min(self.vmcnts, default=None)

    @property
    def drains(self) -> bool:
        """Whether the loop waits for all vector memory, so that nothing stays in flight."""
        return self.least_vmcnt == 0

    @property
    def uses_scratch(self) -> bool:
        """Whether the loop reads or writes private memory."""
        return self.mix[Group.SCRATCH] > 0

    @cached_property
    def address_valu(self) -> tuple[Instruction, ...]:
        """Vector instructions whose results, also by way of others, are part of an address."""
        flow, found = Dataflow(self.instructions), set[int]()
        for at, instruction in enumerate(self.instructions):
            found |= set(flow.origins(instruction.address, at))
        return tuple(
            i for at, i in enumerate(self.instructions) if at in found and i.group in VECTOR_ALU
        )

    @cached_property
    def weight_loads(self) -> frozenset[int]:
        """Byte offsets of the loads that bring weights: wide ones, to registers and not on to LDS.

        Loads of at most 4 bytes a lane bring scales, and rows of activations go through LDS. Where
        some wide loads are non-temporal and some are not, the former bring weights.
        """
        flow, passed_on = Dataflow(self.instructions), set[int]()
        for at, instruction in enumerate(self.instructions):
            if instruction.group is Group.LDS_WRITE:
                data = instruction.reads - instruction.address
                passed_on |= set(flow.origins(data, at))
        wide = [
            i
            for at, i in enumerate(self.instructions)
            if i.group is Group.LOAD and i.lane_bytes >= WIDE and at not in passed_on
        ]
        streamed = [i for i in wide if i.is_non_temporal]
        return frozenset(i.pc for i in streamed or wide)


def loops_in(blocks: Blocks) -> tuple[Loop, ...]:
    """Return the loops of a kernel in address order."""
    found = []
    for head, body in sorted(loops_of(blocks).items()):
        parts = (blocks[start].instructions for start in sorted(body))
        found.append(Loop(head, tuple(i for part in parts for i in part)))
    return tuple(found)


def multiplying(loops: Iterable[Loop]) -> tuple[Loop, ...]:
    """Return the innermost loops with matrix instructions: those without another such in them."""
    able = [loop for loop in loops if loop.mfma]
    return tuple(loop for loop in able if not any(_holds(loop, other) for other in able))


def hottest(loops: Sequence[Loop]) -> Loop | None:
    """Return the loop with the most matrix instructions; of copies the one of the least work.

    A kernel can hold its loop twice, with and without masks; the one without is what runs.
    """
    return max(multiplying(loops), key=lambda loop: (loop.mfma, -loop.size), default=None)


def _holds(outer: Loop, inner: Loop) -> bool:
    return outer.head != inner.head and any(i.pc == inner.head for i in outer.instructions)
