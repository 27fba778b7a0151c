# SPDX-License-Identifier: MIT
"""What bounds a stage of a layer: time that each unit of the device needs for its hot loops alone.

Prologues, epilogues and launches are left out, so that these are lower bounds; which of them is
the largest says what a faster kernel would have to do less of.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiter_moe.inspect.bound import Cycles, turn_cycles
from aiter_moe.inspect.inspection import Inspection
from aiter_moe.inspect.instructions import Group
from aiter_moe.inspect.machine import flops_of
from aiter_moe.sizes import ceil_div


@dataclass(frozen=True, slots=True)
class StageWork:
    """What a stage has to do.

    Attributes
    ----------
    items : int
        Workgroups with work: row blocks times column blocks times parts of the reduction.
    flops : int
        Multiplications and additions of all items, padding included.
    bytes : int
        Bytes it moves at least: weights of the active experts, rows in, rows out.
    """

    items: int
    flops: int
    bytes: int


@dataclass(frozen=True, slots=True)
class StageCost:
    """Microseconds of a stage by what they wait for.

    Attributes
    ----------
    work : StageWork
        What was asked.
    resident : int
        Workgroups a compute unit holds at a time here.
    rounds : int
        How often compute units are filled.
    microseconds : Cycles
        Time by unit, in microseconds instead of cycles.
    bytes_per_s : float
        Bandwidth that the bytes in flight allow, at most the peak.
    """

    work: StageWork
    resident: int
    rounds: int
    microseconds: Cycles
    bytes_per_s: float

    @property
    def bound(self) -> str:
        """What takes longest."""
        return self.microseconds.bound


def stage_cost(inspection: Inspection, work: StageWork) -> StageCost | None:
    """Return what bounds a stage; None for a kernel without a hot loop, or without work."""
    loop, machine = inspection.loop, inspection.machine
    per_turn = sum(flops_of(i) for i in loop.instructions if i.group is Group.MFMA) if loop else 0
    if loop is None or not per_turn or not work.items or not inspection.occupancy.groups:
        return None
    waves = inspection.occupancy.waves_a_group
    units = machine.compute_units
    resident = min(inspection.occupancy.groups, ceil_div(work.items, units))
    rounds = ceil_div(work.items, resident * units)
    turns = work.flops / per_turn / (work.items * waves) * rounds
    cycles = turn_cycles(loop, machine, resident * waves)
    bandwidth = _bandwidth(inspection, min(work.items, units) * resident * waves)
    scale = turns / machine.clock_hz * 1e6
    return StageCost(
        work,
        resident,
        rounds,
        Cycles(
            cycles.matrix * scale,
            cycles.issue * scale,
            cycles.lds * scale,
            work.bytes / bandwidth * 1e6,
        ),
        bandwidth,
    )


def _bandwidth(inspection: Inspection, waves: int) -> float:
    """Return the bandwidth of so many waves: the peak, or what they keep in flight allows."""
    machine, flight = inspection.machine, inspection.flight
    allowed = flight.mean * waves / inspection.sharers / machine.latency_s if flight else 0.0
    return min(machine.memory_bytes_per_s, allowed) or machine.memory_bytes_per_s
