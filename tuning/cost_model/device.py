# SPDX-License-Identifier: MIT
"""Published figures of a GPU that the cost model starts from; fitted ones are `constants`."""

from __future__ import annotations

from dataclasses import dataclass

from aiter_moe.codegen.gfx9.device import DEVICES, SIMDS
from aiter_moe.enums import Kind

# Cycles in which a SIMD issues one instruction of a wave.
ISSUE_CYCLES = 4


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU by its data sheet.

    Attributes
    ----------
    compute_units : int
        Of the device.
    clock_hz, memory_bytes_per_s : float
        Highest clock, peak of the HBM.
    lds_bytes_per_cycle : int
        Of a compute unit.
    mfma_cycles : int
        Of a SIMD's matrix unit for the 16x16 instruction that kernels use: 128 elements of fp4,
        32 of bf16.
    """

    compute_units: int
    clock_hz: float
    memory_bytes_per_s: float
    lds_bytes_per_cycle: int
    mfma_cycles: int

    @property
    def simds(self) -> int:
        """SIMDs of a compute unit."""
        return SIMDS

    def operations_per_s(self, kind: Kind) -> float:
        """Return the peak of the matrix units for operands of a kind."""
        depth = {Kind.A4W4: 128, Kind.A16W4: 32}[kind]
        each = 2 * 16 * 16 * depth / self.mfma_cycles
        return self.compute_units * self.simds * each * self.clock_hz


GPUS = {
    "gfx950": Gpu(DEVICES["gfx950"].compute_units, 2.4e9, 8e12, 256, 16),
}
