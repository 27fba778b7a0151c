# SPDX-License-Identifier: MIT
"""What the device reaches at best, measured: the bound of the bandwidth and TFLOPS columns.

A figure above it would say that bytes or operations were miscounted, or that the data came
from a cache; the report leaves such a figure out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from aiter_moe.enums import Kind

PROBE_BYTES = 1 << 28
PROBE_SIZE = 1024
REPEATS = 5


@dataclass(frozen=True, slots=True)
class Peaks:
    """Best rates seen: bytes read per second, and bf16 operations per second."""

    bytes_per_s: float = 0.0
    bf16_per_s: float = 0.0

    def operations_per_s(self, kind: Kind) -> float:
        """Return the bound for a kind: integer dots of a4w4 run at twice the bf16 rate.

        The probe is a library's matrix product, which reaches four fifths of the units' rate.
        """
        return self.bf16_per_s * 1.25 * (2 if kind is Kind.A4W4 else 1)

    def best(self, other: Peaks) -> Peaks:
        """Return the better of both, figure by figure."""
        return Peaks(
            max(self.bytes_per_s, other.bytes_per_s), max(self.bf16_per_s, other.bf16_per_s)
        )

    def to_json(self) -> dict[str, float]:
        """Return the figures as a JSON object."""
        return {"bytes_per_s": self.bytes_per_s, "bf16_per_s": self.bf16_per_s}

    @classmethod
    def from_json(cls, data: Mapping[str, float]) -> Peaks:
        """Return the figures `to_json` wrote."""
        return cls(data["bytes_per_s"], data["bf16_per_s"])


def _fastest(work: Callable[[], object]) -> float:
    work()
    durations = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        work()
        durations.append(time.perf_counter() - begin)
    return min(durations)


def measure_peaks() -> Peaks:
    """Probe the memory with a sum over 256 MiB and the units with a square bf16 product."""
    stream = torch.ones(PROBE_BYTES // 4)
    seconds = _fastest(stream.sum)
    square = torch.ones(PROBE_SIZE, PROBE_SIZE, dtype=torch.bfloat16)
    product = _fastest(lambda: square @ square)
    return Peaks(PROBE_BYTES / seconds, 2 * PROBE_SIZE**3 / product)
