# SPDX-License-Identifier: MIT
"""One kernel examined: its code, what follows from it, and what is wrong with it.

>>> inspect_instance(by_name("gfx950")[name])[0].cycles.bound
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from aiter_moe.codegen.build import ensure
from aiter_moe.codegen.cache import ArtifactCache
from aiter_moe.codegen.instance import Instance
from aiter_moe.codegen.readback import departures
from aiter_moe.codegen.render import render
from aiter_moe.inspect.bound import Cycles, turn_cycles
from aiter_moe.inspect.code import KernelCode, inspect_code
from aiter_moe.inspect.declared import Declared, declared
from aiter_moe.inspect.flight import InFlight, in_flight
from aiter_moe.inspect.loops import Loop
from aiter_moe.inspect.machine import MACHINES, Machine
from aiter_moe.inspect.occupancy import Occupancy, occupancy


@dataclass(frozen=True)
class Inspection:
    """What there is to say about one kernel.

    Attributes
    ----------
    kernel : KernelCode
        Its machine code.
    instance : Instance or None
        What it was compiled from, where it is one of ours.
    compile_seconds : float or None
        Seconds its compiler took.
    """

    kernel: KernelCode
    instance: Instance | None = None
    compile_seconds: float | None = None

    @property
    def name(self) -> str:
        """Its symbol."""
        return self.kernel.name

    @property
    def machine(self) -> Machine:
        """The GPU it is for."""
        return MACHINES[self.kernel.arch]

    @property
    def loop(self) -> Loop | None:
        """The hot loop; None where no loop multiplies."""
        return self.kernel.hot

    @cached_property
    def occupancy(self) -> Occupancy:
        """Workgroups and waves of a compute unit."""
        return occupancy(self.kernel.resources, self.machine)

    @cached_property
    def flight(self) -> InFlight | None:
        """Bytes of weights a wave keeps in flight; None without a hot loop."""
        return in_flight(self.loop) if self.loop else None

    @property
    def sharers(self) -> int:
        """Waves of a workgroup that load the same weights."""
        return self.declared.sharers if self.declared else 1

    @property
    def unit_flight(self) -> float | None:
        """Bytes of different weights that a full compute unit never has less of in flight."""
        if self.flight is None:
            return None
        return self.flight.least * self.occupancy.waves / self.sharers

    @cached_property
    def cycles(self) -> Cycles | None:
        """Cycles of a turn of the hot loop of all waves of a full compute unit."""
        if self.loop is None or not self.occupancy.waves:
            return None
        return turn_cycles(
            self.loop, self.machine, self.occupancy.waves, self.flight, sharers=self.sharers
        )

    @cached_property
    def declared(self) -> Declared | None:
        """What the tile says, where it was compiled from one of ours."""
        return declared(self.instance) if self.instance else None

    @cached_property
    def findings(self) -> tuple[str, ...]:
        """What should not be: spills, drained queues, addresses made in the loop, mismatches."""
        return (*_resource_findings(self), *_loop_findings(self))


def inspect_instance(instance: Instance, cache: ArtifactCache | None = None) -> list[Inspection]:
    """Return the kernels of an instance, compiled now unless they are cached.

    The one that has its name comes first, then those that go with it (a finish, CK-tile's other
    form); what else a header leaves in a code object is left out.

    Raises
    ------
    ToolchainError, BuildError, CacheError
        If there is no compiler, or the kernel cannot be built.
    """
    artifact = ensure(render(instance), cache)
    seconds = float(artifact.manifest["seconds"])
    kernels = [k for k in inspect_code(artifact.path).values() if k.name.startswith(instance.name)]
    kernels.sort(key=lambda kernel: len(kernel.name))
    return [Inspection(kernel, instance, seconds) for kernel in kernels]


def inspect_file(path: Path) -> list[Inspection]:
    """Return the kernels of a code object of anybody's.

    Raises
    ------
    LaunchError
        If it is no intact code object of gfx950 or gfx942.
    """
    return [Inspection(kernel) for kernel in inspect_code(path).values()]


def _resource_findings(inspection: Inspection) -> tuple[str, ...]:
    """Return what is wrong with registers and LDS, also beside what the tile's rules computed."""
    instance, resources = inspection.instance, inspection.kernel.resources
    if instance is not None and inspection.name == instance.name:
        figures = {**asdict(resources), "waves_per_simd": resources.waves_per_simd}
        found = list(departures(instance, [figures]))
    else:
        found = []
    if not found and resources.vgpr_spills + resources.sgpr_spills + resources.scratch_bytes:
        found.append(
            f"{resources.vgpr_spills + resources.sgpr_spills} registers spilled, "
            f"{resources.scratch_bytes} bytes of scratch a lane"
        )
    if not inspection.occupancy.groups:
        found.append(f"no compute unit holds a workgroup ({inspection.occupancy.limit})")
    return tuple(found)


def _loop_findings(inspection: Inspection) -> tuple[str, ...]:
    loop, found = inspection.loop, []
    if loop is None:
        return ()
    if loop.drains:
        found.append("a vmcnt(0) in the hot loop: nothing stays in flight there")
    if loop.address_valu:
        found.append(f"{len(loop.address_valu)} VALU of the hot loop make addresses")
    if loop.uses_scratch:
        found.append("the hot loop uses scratch")
    return tuple(found)
