# SPDX-License-Identifier: MIT
"""What bounds a loop: the cycles each unit of a compute unit needs for one turn of all its waves.

Four figures, and the largest is the bound:

* matrix: cycles of the matrix instructions, waves of a SIMD one after the other;
* issue: a wave issues one instruction in 4 cycles, and a SIMD one vector instruction in 4;
* LDS: bytes read and written over the rate of the LDS, without bank conflicts;
* memory: bytes loaded to registers (weights and scales, each read by one wave) over the share of
  the bandwidth, or over what the bytes in flight allow. Rows of activations come from the L2.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiter_moe.inspect.flight import InFlight
from aiter_moe.inspect.instructions import VECTOR_ALU, Group, Instruction
from aiter_moe.inspect.loops import Loop
from aiter_moe.inspect.machine import ISSUE_CYCLES, Machine, waves_a_simd


@dataclass(frozen=True, slots=True)
class Cycles:
    """Cycles of one turn of all waves of a compute unit, by what they wait for."""

    matrix: float
    issue: float
    lds: float
    memory: float

    def named(self) -> dict[str, float]:
        """Return the figures by the name of the bound each of them is."""
        return {
            "matrix": self.matrix, "issue": self.issue, "LDS": self.lds, "memory": self.memory
        }  # fmt: skip

    @property
    def bound(self) -> str:
        """What needs the most."""
        figures = self.named()
        return max(figures, key=lambda name: figures[name])

    @property
    def most(self) -> float:
        """The largest figure."""
        return max(self.named().values())


def turn_cycles(
    loop: Loop, machine: Machine, waves: int, flight: InFlight | None = None, *, sharers: int = 1
) -> Cycles:
    """Return the cycles of one turn of `waves` waves of a compute unit.

    Parameters
    ----------
    loop : Loop
        The hot loop.
    machine : Machine
        The GPU.
    waves : int
        Waves of the compute unit.
    flight : InFlight, optional
        What a wave keeps in flight; without it the memory is taken to give its peak.
    sharers : int
        Waves that load the same weights, which come from the memory once.
    """
    deep = waves_a_simd(waves)
    vector = sum(loop.mix[group] for group in VECTOR_ALU | {Group.MFMA})
    lds = loop.wave_bytes(Group.LDS_READ, Group.LDS_WRITE, Group.LOAD_TO_LDS)
    loaders = max(1, waves // sharers)
    return Cycles(
        matrix=deep * sum(machine.matrix_cycles(i) for i in loop.instructions),
        issue=ISSUE_CYCLES * max(sum(map(issue_slots, loop.instructions)), deep * vector),
        lds=waves * lds / machine.lds_bytes_per_cycle,
        memory=loaders * loop.wave_bytes(Group.LOAD) / _rate(machine, loaders, flight),
    )


def issue_slots(instruction: Instruction) -> int:
    """Return how many times 4 cycles a wave takes to issue an instruction."""
    if instruction.group is Group.NOP and instruction.operands:
        return 1 + int(instruction.operands[0], 0)
    return 1


def _rate(machine: Machine, loaders: int, flight: InFlight | None) -> float:
    """Return the bytes a compute unit gets per cycle: its share, or what is in flight allows."""
    if flight is None:
        return machine.memory_bytes_per_cycle
    allowed = loaders * flight.mean / (machine.latency_s * machine.clock_hz)
    return min(machine.memory_bytes_per_cycle, allowed) or machine.memory_bytes_per_cycle
