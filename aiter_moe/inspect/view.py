# SPDX-License-Identifier: MIT
"""Inspections as text cells, kernels side by side, and as JSON. No terminal here."""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from aiter_moe.inspect.inspection import Inspection
from aiter_moe.inspect.instructions import Group
from aiter_moe.inspect.loops import Loop
from aiter_moe.inspect.machine import MACHINES, SOURCES, Machine
from aiter_moe.tuning.report import MISSING, Table

KIB = 1024
# Kernels in one table; more go into further ones.
SIDE_BY_SIDE = 8

Row = tuple[str, Callable[[Inspection], str]]
"""What a line of a table is called, and its cell for a kernel."""


def label(index: int) -> str:
    """Return the letter of a kernel: A to Z, then AA."""
    letters = string.ascii_uppercase
    prefix = label(index // len(letters) - 1) if index >= len(letters) else ""
    return prefix + letters[index % len(letters)]


def legend(inspections: Sequence[Inspection]) -> list[str]:
    """Return a line per kernel: its letter, its name, what is wrong with it."""
    lines = []
    for index, inspection in enumerate(inspections):
        lines.append(f"{label(index)}  {inspection.name} ({inspection.kernel.arch})")
        lines += [f"   ! {finding}" for finding in inspection.findings]
    return lines


def tables(
    inspections: Sequence[Inspection], side_by_side: int = SIDE_BY_SIDE
) -> list[tuple[str, Table]]:
    """Return the tables of kernels, so many side by side, each with its title."""
    found = []
    for first in range(0, len(inspections), side_by_side):
        part = inspections[first : first + side_by_side]
        names = [label(first + n) for n in range(len(part))]
        for title, rows in SECTIONS:
            lines = [_line(row, part) for row in rows]
            shown = tuple(line for line in lines if set(line[1:]) - {MISSING})
            if shown:
                found.append((title, Table(("", *names), shown)))
    return found


def _line(row: Row, inspections: Iterable[Inspection]) -> tuple[str, ...]:
    name, cell = row
    return (name, *(cell(inspection) for inspection in inspections))


def _of_loop(cell: Callable[[Loop], str]) -> Callable[[Inspection], str]:
    return lambda inspection: cell(inspection.loop) if inspection.loop else MISSING


def _count(group: Group) -> Callable[[Inspection], str]:
    def cell(loop: Loop) -> str:
        count = loop.mix[group]
        return f"{count} ({loop.each_mfma(group):.2f})" if count else MISSING

    return _of_loop(cell)


def _kib(value: float | None) -> str:
    return MISSING if value is None else f"{value / KIB:.1f}"


def _bytes(*groups: Group) -> Callable[[Inspection], str]:
    return _of_loop(lambda loop: _kib(loop.wave_bytes(*groups) or None))


def _waits(counts: Sequence[int]) -> str:
    """Return counts in order, those that repeat with how often: ``23 33*2``."""
    runs: list[list[int]] = []
    for count in counts:
        if runs and runs[-1][0] == count:
            runs[-1][1] += 1
        else:
            runs.append([count, 1])
    texts = [f"{count}*{times}" if times > 1 else f"{count}" for count, times in runs]
    return " ".join(texts) or MISSING


def _least(inspection: Inspection) -> str:
    least = inspection.loop.least_vmcnt if inspection.loop else None
    return MISSING if least is None else str(least)


def _cycles(name: str) -> Callable[[Inspection], str]:
    def cell(inspection: Inspection) -> str:
        return f"{inspection.cycles.named()[name]:.0f}" if inspection.cycles else MISSING

    return cell


def _flight(name: str) -> Callable[[Inspection], str]:
    def cell(inspection: Inspection) -> str:
        return _kib(getattr(inspection.flight, name)) if inspection.flight else MISSING

    return cell


def _spills(inspection: Inspection) -> str:
    resources = inspection.kernel.resources
    return f"{resources.vgpr_spills} + {resources.sgpr_spills}"


def _seconds(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"


SECTIONS: tuple[tuple[str, tuple[Row, ...]], ...] = (
    (
        "resources",
        (
            ("VGPRs", lambda i: str(i.kernel.resources.vgprs)),
            ("of them AGPRs", lambda i: str(i.kernel.resources.agprs)),
            ("SGPRs", lambda i: str(i.kernel.resources.sgprs)),
            ("spills, VGPR + SGPR", _spills),
            ("scratch bytes a lane", lambda i: str(i.kernel.resources.scratch_bytes)),
            ("LDS bytes", lambda i: str(i.kernel.resources.lds_bytes)),
            ("threads a workgroup", lambda i: str(i.kernel.resources.max_workgroup)),
            ("workgroups a CU", lambda i: str(i.occupancy.groups)),
            ("  by registers", lambda i: str(i.occupancy.by_registers)),
            ("  by LDS", lambda i: str(i.occupancy.by_lds)),
            ("  by waves", lambda i: str(i.occupancy.by_waves)),
            ("waves a SIMD", lambda i: f"{i.occupancy.waves_per_simd:g}"),
            ("compile seconds", lambda i: _seconds(i.compile_seconds)),
        ),
    ),
    (
        "hot loop: count (per MFMA)",
        (
            ("at byte", _of_loop(lambda loop: f"{loop.head:#x}")),
            ("copies with as many MFMA", lambda i: str(i.kernel.copies) if i.loop else MISSING),
            ("instructions", _of_loop(lambda loop: f"{loop.size} ({loop.per_mfma:.2f})")),
            *((group.value, _count(group)) for group in Group),
            ("VALU for addresses", _of_loop(lambda loop: str(len(loop.address_valu)))),
            ("KiB loaded a wave", _bytes(Group.LOAD)),
            ("KiB loaded to LDS a wave", _bytes(Group.LOAD_TO_LDS)),
            ("KiB read from LDS a wave", _bytes(Group.LDS_READ)),
            ("least vmcnt", _least),
        ),
    ),
    (
        "weights in flight, KiB",
        (
            ("a wave, at least", _flight("least")),
            ("a wave, on average", _flight("mean")),
            ("a wave, at most", _flight("most")),
            ("a full CU, at least", lambda i: _kib(i.unit_flight)),
            ("a CU needs", lambda i: _kib(i.machine.bytes_in_flight) if i.loop else MISSING),
        ),
    ),
    (
        "cycles a turn, full CU",
        (
            *((name, _cycles(name)) for name in ("matrix", "issue", "LDS", "memory")),
            ("bound", lambda i: i.cycles.bound if i.cycles else MISSING),
        ),
    ),
)


def wait_lines(inspections: Sequence[Inspection]) -> list[str]:
    """Return the waits of each hot loop in order, with how often one repeats."""
    return [
        f"{label(index)}  vmcnt {_waits(loop.vmcnts)}; lgkmcnt {_waits(loop.lgkmcnts)}"
        for index, loop in enumerate(i.loop for i in inspections)
        if loop
    ]


def as_json(inspections: Sequence[Inspection]) -> dict[str, Any]:
    """Return all figures, with the machine figures that some follow from and their sources."""
    return {
        "kernels": [_kernel_json(inspection) for inspection in inspections],
        "machines": {
            arch: _machine_json(MACHINES[arch]) for arch in {i.kernel.arch for i in inspections}
        },
        "sources": SOURCES,
    }


def _machine_json(machine: Machine) -> dict[str, Any]:
    return {**asdict(machine), "bytes_in_flight_a_cu": machine.bytes_in_flight}


def _kernel_json(inspection: Inspection) -> dict[str, Any]:
    occupancy, loop = inspection.occupancy, inspection.loop
    return {
        "name": inspection.name,
        "arch": inspection.kernel.arch,
        "compile_seconds": inspection.compile_seconds,
        "resources": asdict(inspection.kernel.resources),
        "occupancy": {
            **asdict(occupancy), "groups": occupancy.groups, "limit": occupancy.limit,
            "waves_per_simd": occupancy.waves_per_simd,
        },
        "findings": list(inspection.findings),
        "instructions": inspection.kernel.whole.size,
        "loops": len(inspection.kernel.loops),
        "hot_loop": _loop_json(inspection, loop) if loop else None,
    }  # fmt: skip


def _loop_json(inspection: Inspection, loop: Loop) -> dict[str, Any]:
    cycles, flight = inspection.cycles, inspection.flight
    return {
        "at": loop.head,
        "copies": inspection.kernel.copies,
        "instructions": loop.size,
        "per_mfma": loop.per_mfma if math.isfinite(loop.per_mfma) else None,
        "mix": {group.value: loop.mix[group] for group in Group},
        "mix_per_mfma": {group.value: loop.each_mfma(group) for group in Group},
        "wave_bytes": {
            group.value: size for group in Group if (size := loop.wave_bytes(group))
        },
        "vmcnt": list(loop.vmcnts),
        "lgkmcnt": list(loop.lgkmcnts),
        "address_valu": [i.text for i in loop.address_valu],
        "uses_scratch": loop.uses_scratch,
        "weights_in_flight_a_wave": asdict(flight) if flight else None,
        "weights_in_flight_a_cu": inspection.unit_flight,
        "cycles": {**cycles.named(), "bound": cycles.bound} if cycles else None,
    }  # fmt: skip
