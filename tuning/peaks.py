# SPDX-License-Identifier: MIT
"""What the device reaches at best, measured: the bound of the bandwidth and TFLOPS columns.

A figure above it would say that bytes or operations were miscounted, or that the data came
from a cache; the report leaves such a figure out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache

import torch

from aiter_moe.enums import Kind
from aiter_moe.errors import ToolchainError
from aiter_moe.tuning.limits import DOT_OF, Machine

REPEATS = 3
ROUNDS = 1_000_000
STREAM_BYTES = 1 << 28
PROBE_SIZE = 1024
LIBRARY_SHARE = 0.5
"""Of the units' rate, what a library's matrix product of this size reaches at the least."""


@dataclass(frozen=True, slots=True)
class Peaks:
    """Best rates seen: bytes read per second, and operations per second of each kind's dots."""

    bytes_per_s: float = 0.0
    a16w4_per_s: float = 0.0
    a4w4_per_s: float = 0.0

    def operations_per_s(self, kind: Kind) -> float:
        """Return the bound for a kind."""
        return self.a4w4_per_s if kind is Kind.A4W4 else self.a16w4_per_s

    def best(self, other: Peaks) -> Peaks:
        """Return the better of both, figure by figure."""
        mine, its = asdict(self), asdict(other)
        return Peaks(**{name: max(mine[name], its[name]) for name in mine})

    def to_json(self) -> dict[str, float]:
        """Return the figures as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, float]) -> Peaks:
        """Return the figures `to_json` wrote."""
        return cls(**data)


_machine = cache(Machine)


def measure_peaks(threads: int) -> Peaks:
    """Probe the memory with a sequential read and the units with dot products on registers.

    Without a compiler nothing is probed, and no rate is reported.
    """
    try:
        machine = _machine(threads, STREAM_BYTES)
    except ToolchainError:
        return Peaks()
    rates = {
        name: max(machine.dot(name, ROUNDS) for _ in range(REPEATS))
        for name in machine.instructions
    }
    operations = {kind: _matrix_product() / LIBRARY_SHARE for kind in Kind}
    for (_, kind), name in DOT_OF.items():
        operations[kind] = max(operations[kind], rates.get(name, 0.0))
    read = max(machine.read() for _ in range(REPEATS))
    return Peaks(read, operations[Kind.A16W4], operations[Kind.A4W4])


def _matrix_product() -> float:
    """Return operations per second of torch's f32 product, what a CPU without vectors has."""
    square = torch.ones(PROBE_SIZE, PROBE_SIZE)
    torch.mm(square, square)
    begin = time.perf_counter()
    torch.mm(square, square)
    return 2 * PROBE_SIZE**3 / (time.perf_counter() - begin)
