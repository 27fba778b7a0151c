# SPDX-License-Identifier: MIT
"""How many workgroups of a kernel a compute unit holds, and which resource says so."""

from __future__ import annotations

from dataclasses import dataclass

from aiter_moe.codegen.codeobject import MAX_WAVES, KernelResources
from aiter_moe.codegen.gfx9.device import SIMDS
from aiter_moe.inspect.machine import Machine, waves_of
from aiter_moe.sizes import round_up


@dataclass(frozen=True, slots=True)
class Occupancy:
    """Workgroups of a compute unit.

    Attributes
    ----------
    waves_a_group : int
        Waves of a workgroup, as large as the kernel was compiled for.
    by_registers, by_lds, by_waves : int
        Workgroups that registers, LDS and the number of waves leave room for.
    """

    waves_a_group: int
    by_registers: int
    by_lds: int
    by_waves: int

    @property
    def groups(self) -> int:
        """Workgroups of a compute unit."""
        return min(self.by_registers, self.by_lds, self.by_waves)

    @property
    def waves(self) -> int:
        """Waves of a compute unit."""
        return self.groups * self.waves_a_group

    @property
    def waves_per_simd(self) -> float:
        """Waves of a SIMD, on average."""
        return self.waves / SIMDS

    @property
    def limit(self) -> str:
        """What leaves room for no more."""
        named = {
            "registers": self.by_registers, "LDS": self.by_lds, "waves": self.by_waves
        }  # fmt: skip
        return min(named, key=lambda name: named[name])


def occupancy(kernel: KernelResources, machine: Machine) -> Occupancy:
    """Return how many workgroups of a kernel a compute unit holds; dynamic LDS is not known."""
    waves = waves_of(kernel.max_workgroup)
    most = SIMDS * MAX_WAVES // waves
    lds = round_up(kernel.lds_bytes, machine.lds_granule)
    return Occupancy(
        waves_a_group=waves,
        by_registers=SIMDS * kernel.waves_per_simd // waves,
        by_lds=min(most, machine.lds_bytes // lds) if lds else most,
        by_waves=most,
    )
