# SPDX-License-Identifier: MIT
"""What an emulated launch did: faults, counters and executed instructions, as data.

The ctypes records mirror csrc/emulator/{fault,counters,api}.h; everything else is read-only and
made from them.
"""

from __future__ import annotations

import ctypes
import enum
from collections import Counter
from collections.abc import Mapping, Sequence
from ctypes import c_char, c_uint32, c_uint64
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from aiter_moe.errors import LaunchError
from aiter_moe.targets.source_lines import source_line


class FaultKind(enum.IntEnum):
    """What a kernel can do wrong; values and order are those of csrc/emulator/fault.h."""

    unknown_instruction = 0
    bad_instruction = 1
    global_out_of_range = 2
    buffer_out_of_range = 3
    lds_out_of_range = 4
    scratch_out_of_range = 5
    misaligned = 6
    undefined_register = 7
    undefined_lds = 8
    in_flight_register = 9
    in_flight_lds = 10
    lds_race = 11
    barrier_divergence = 12
    hang = 13


# Faults that an error spells out.
SHOWN = 8

ALL_CHECKS = sum(1 << kind for kind in FaultKind)
NO_CHECKS = 0


class InstructionClass(enum.IntEnum):
    """What kind of work an instruction is; order of csrc/emulator/isa/instruction.h."""

    salu = 0
    branch = 1
    wait = 2
    barrier = 3
    smem = 4
    valu = 5
    mfma = 6
    lds = 7
    vmem_load = 8
    vmem_store = 9
    vmem_atomic = 10
    scratch = 11
    other = 12


class FaultRecord(ctypes.Structure):
    """Mirror of Fault in csrc/emulator/fault.h."""

    _fields_ = [
        ("kind", c_uint32), ("pc", c_uint32), ("occurrences", c_uint64), ("address", c_uint64),
        ("group", c_uint32 * 3), ("wave", c_uint32), ("lane", c_uint32), ("unused", c_uint32),
        ("kernel", c_char * 256), ("instruction", c_char * 128), ("detail", c_char * 256),
    ]  # fmt: skip


COUNTERS = (
    "workgroups", "waves", "instructions", "barriers", "vmem_load_bytes", "vmem_store_bytes",
    "vmem_atomic_bytes", "vmem_lines", "vmem_ideal_lines", "lds_dma_bytes", "buffer_lanes_masked",
    "smem_bytes", "scratch_bytes", "lds_read_bytes", "lds_write_bytes", "lds_cycles",
    "lds_conflict_cycles", "peak_vector_requests", "peak_vector_bytes", "peak_other_requests",
)  # fmt: skip


class CounterWords(ctypes.Structure):
    """Mirror of Counters in csrc/emulator/counters.h."""

    _fields_ = [(name, c_uint64) for name in COUNTERS]


# Mirror of InstructionHits in csrc/emulator/api.h; kernels have thousands of these.
HITS = np.dtype([("pc", "<u4"), ("kind", "<u4"), ("hits", "<u8"), ("text", "S128")])


@dataclass(frozen=True, slots=True)
class Fault:
    """One distinct fault: what, at which instruction, and where it was first seen.

    Attributes
    ----------
    pc : int
        Byte offset in the code object's text section.
    occurrences : int
        How often it was seen in the launch.
    address : int
        The address of a memory fault.
    group, wave, lane : tuple of int, int, int
        Workgroup, wave in it, and lane of the first occurrence.
    detail : str
        What was found.
    """

    kind: FaultKind
    pc: int
    occurrences: int
    address: int
    group: tuple[int, int, int]
    wave: int
    lane: int
    kernel: str
    instruction: str
    detail: str

    def __str__(self) -> str:
        """Say it on one line."""
        where = f"workgroup {self.group}, wave {self.wave}, lane {self.lane}"
        times = f", {self.occurrences} times" if self.occurrences > 1 else ""
        detail = f": {self.detail}" if self.detail else ""
        return f"{self.kind.name} at {self.pc:#x} {self.instruction!r}{detail} ({where}{times})"


@dataclass(frozen=True, slots=True)
class InstructionHits:
    """An instruction of the kernel and how many waves' steps executed it."""

    pc: int
    kind: InstructionClass
    hits: int
    text: str


@dataclass(frozen=True)
class LaunchReport:
    """What a launch did.

    Attributes
    ----------
    kernel : str
        Its symbol.
    faults : tuple of Fault
        In the order of workgroups; empty for a clean launch.
    counters : mapping of str to int
        The figures of csrc/emulator/counters.h by name.
    hits : numpy.ndarray
        A record of `HITS` for every instruction, in address order; `instructions` reads them.
    seconds : float
        CPU time the emulator took, over all threads; says nothing of a GPU's.
    """

    kernel: str
    faults: tuple[Fault, ...]
    counters: Mapping[str, int]
    hits: NDArray[np.void] = field(repr=False)
    seconds: float = field(default=0.0, compare=False)

    @classmethod
    def of(
        cls, kernel: str, faults: Sequence[FaultRecord], counters: CounterWords,
        hits: NDArray[np.void], seconds: float,
    ) -> LaunchReport:  # fmt: skip
        """Return the records of the library as plain values."""
        figures = MappingProxyType({name: getattr(counters, name) for name in COUNTERS})
        return cls(kernel, tuple(map(_fault, faults)), figures, hits, seconds)

    @cached_property
    def instructions(self) -> tuple[InstructionHits, ...]:
        """Every instruction in address order."""
        return tuple(
            InstructionHits(pc, InstructionClass(kind), hits, text.decode())
            for pc, kind, hits, text in self.hits.tolist()
        )

    def by_mnemonic(self, kind: InstructionClass | None = None) -> dict[str, int]:
        """Return executed instructions by mnemonic, of one class or of all; MFMA so by shape."""
        counts: Counter[str] = Counter()
        rows = self.hits[self.hits["hits"] > 0]
        if kind is not None:
            rows = rows[rows["kind"] == kind]
        for text, hits in zip(rows["text"].tolist(), rows["hits"].tolist(), strict=True):
            counts[_mnemonic(text)] += hits
        return dict(counts)

    def by_class(self) -> dict[InstructionClass, int]:
        """Return executed instructions by class; classes without any are 0."""
        kinds, hits = self.hits["kind"], self.hits["hits"]
        return {kind: int(hits[kinds == kind].sum()) for kind in InstructionClass}


@lru_cache(maxsize=1 << 16)
def _mnemonic(text: bytes) -> str:
    return text.partition(b" ")[0].decode()


def _fault(record: FaultRecord) -> Fault:
    return Fault(
        FaultKind(record.kind), record.pc, record.occurrences, record.address,
        tuple(record.group), record.wave, record.lane, record.kernel.decode(),
        record.instruction.decode(), record.detail.decode(errors="replace"),
    )  # fmt: skip


class EmulatorFaultError(LaunchError):
    """A kernel did what is not allowed; `report` has all that the launch did.

    Parameters
    ----------
    report : LaunchReport
        A report with faults.
    code_object : bytes
        What ran; source lines are named where it was compiled with ``-g``.
    advice : str
        What to do next where it was not.
    """

    def __init__(
        self,
        report: LaunchReport,
        code_object: bytes = b"",
        advice: str = "compile it with -g and run it again to see source lines",
    ) -> None:
        self.report = report
        places = [source_line(code_object, fault.pc) for fault in report.faults[:SHOWN]]
        lines = [f"{report.kernel} ran with faults:"]
        for fault, place in zip(report.faults, places, strict=False):
            lines.append(f"  {fault}" + (f" at {place}" if place else ""))
        if len(report.faults) > SHOWN:
            lines.append(f"  and {len(report.faults) - SHOWN} more in the error's `report.faults`")
        if not any(places):
            lines.append(advice)
        super().__init__("\n".join(lines))
