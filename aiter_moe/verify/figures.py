# SPDX-License-Identifier: MIT
"""What launches did, summed over the cases of a kernel: instructions by class, memory, waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiter_moe.targets.emulator_report import InstructionClass, LaunchReport

_PEAK = "peak_"


@dataclass(slots=True)
class Figures:
    """Sums of launch reports; figures named ``peak_...`` are the largest of any launch.

    Attributes
    ----------
    launches : int
        Kernels started.
    cpu_seconds : float
        CPU time the emulator took for them, over all threads.
    counters : Counter
        Figures of csrc/emulator/counters.h by name.
    classes : Counter
        Executed instructions by the name of their class.
    mnemonics : Counter
        Executed instructions by mnemonic.
    """

    launches: int = 0
    cpu_seconds: float = 0.0
    counters: Counter[str] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    mnemonics: Counter[str] = field(default_factory=Counter)

    def add(self, report: LaunchReport) -> None:
        """Add one launch."""
        self.launches += 1
        self.cpu_seconds += report.seconds
        self._add_counters(report.counters)
        for kind, hits in report.by_class().items():
            self.classes[kind.name] += hits
        self.mnemonics.update(report.by_mnemonic())

    def merge(self, other: Figures) -> None:
        """Add all that another sum holds."""
        self.launches += other.launches
        self.cpu_seconds += other.cpu_seconds
        self._add_counters(other.counters)
        self.classes.update(other.classes)
        self.mnemonics.update(other.mnemonics)

    def _add_counters(self, counters: Mapping[str, int]) -> None:
        for name, value in counters.items():
            peak = name.startswith(_PEAK)
            self.counters[name] = (
                max(self.counters[name], value) if peak else (self.counters[name] + value)
            )

    @property
    def instructions(self) -> int:
        """Executed instructions of all waves."""
        return self.counters["instructions"]

    @property
    def conflict_part(self) -> float | None:
        """Part of the LDS cycles that bank conflicts cost, or None without LDS accesses."""
        return _part(self.counters["lds_conflict_cycles"], self.counters["lds_cycles"])

    @property
    def coalesced_part(self) -> float | None:
        """Cache lines that the bytes fill, as a part of those the accesses touched."""
        return _part(self.counters["vmem_ideal_lines"], self.counters["vmem_lines"])

    def of_class(self, *kinds: InstructionClass) -> int:
        """Return executed instructions of these classes."""
        return sum(self.classes[kind.name] for kind in kinds)

    def as_json(self) -> dict[str, Any]:
        """Return plain dictionaries, without zeros."""
        return {
            "launches": self.launches,
            "cpu_seconds": self.cpu_seconds,
            "counters": _nonzero(self.counters),
            "classes": _nonzero(self.classes),
            "mnemonics": dict(sorted(_nonzero(self.mnemonics).items())),
        }


def figures_of(reports: Iterable[LaunchReport]) -> Figures:
    """Return the sum of reports."""
    figures = Figures()
    for report in reports:
        figures.add(report)
    return figures


def _part(some: int, all_: int) -> float | None:
    return some / all_ if all_ else None


def _nonzero(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: value for name, value in counts.items() if value}
