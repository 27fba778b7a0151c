# SPDX-License-Identifier: MIT
"""How long a stage takes: a launch, rounds of workgroups, and what the device is busy with.

Five things go on at a time: bytes from the memory, bytes through the caches, turns that wait for
their weights, turns that issue and multiply, and results that are added up. Were they independent
the longest would be the time; were they one after the other, their sum. The truth is between, as
`Constants.overlap` says: the time is their norm of that order.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

from aiter_moe.codegen.instance import Output
from aiter_moe.tuning.cost_model.constants import Constants
from aiter_moe.tuning.cost_model.device import ISSUE_CYCLES, Gpu
from aiter_moe.tuning.cost_model.work import StageWork
from aiter_moe.tuning.cost_model.workgroup import Workgroup


@dataclass(frozen=True, slots=True)
class StageTime:
    """Predicted microseconds of a stage.

    Attributes
    ----------
    us : float
        In all.
    launch : float
        Kernels' starts and ends, and workgroups' beginnings in all rounds.
    memory, cache, latency, core, output : float
        What each part would take alone.
    """

    us: float
    launch: float
    memory: float
    cache: float
    latency: float
    core: float
    output: float

    def named(self) -> dict[str, float]:
        """Return the parts by name."""
        return {
            "launch": self.launch, "memory": self.memory, "cache": self.cache,
            "latency": self.latency, "core": self.core, "output": self.output,
        }  # fmt: skip

    @property
    def bound(self) -> str:
        """The longest part."""
        parts = self.named()
        return max(parts, key=lambda name: parts[name])


def turn_cycles(group: Workgroup, gpu: Gpu, resident: int, lone: float = 0.0) -> float:
    """Return the cycles of one turn of `resident` workgroups of a compute unit.

    Waves of a SIMD overlap but for a part of each, `lone` turns of one of them.
    """
    deep = ceil(resident * group.waves / gpu.simds)
    alone = max(_busy_cycles(group, gpu, 1), ISSUE_CYCLES * group.turn.instructions)
    lds = resident * group.waves * group.turn.lds_bytes / gpu.lds_bytes_per_cycle
    return max(_busy_cycles(group, gpu, deep), alone, lds) + lone * alone


def _busy_cycles(group: Workgroup, gpu: Gpu, deep: int) -> float:
    """Return the cycles of a SIMD's matrix unit, or of its issue of vector instructions."""
    return deep * max(group.turn.mfma * gpu.mfma_cycles, ISSUE_CYCLES * group.turn.vector)


def core_cycles(group: Workgroup, gpu: Gpu, items: float, lone: float = 0.0) -> float:
    """Return the cycles of one turn of all rounds: full ones, and the last with what is left."""
    at_a_time = gpu.compute_units * group.resident
    full = floor(items / at_a_time)
    left = ceil((items - full * at_a_time) / gpu.compute_units)
    rounds = full * turn_cycles(group, gpu, group.resident, lone)
    return rounds + (turn_cycles(group, gpu, left, lone) if left else 0.0)


def _norm(parts: tuple[float, ...], order: float) -> float:
    longest = max(parts)
    shares: float = sum((part / longest) ** order for part in parts)
    return float(longest * shares ** (1 / order))


def stage_time(work: StageWork, group: Workgroup, gpu: Gpu, constants: Constants) -> StageTime:
    """Return how long `group` takes for `work`.

    Parameters
    ----------
    work : StageWork
        Of the stage.
    group : Workgroup
        The kernel.
    gpu : Gpu
        The device.
    constants : Constants
        What was fitted.
    """
    c = constants
    rounds = max(1.0, work.items / (gpu.compute_units * group.resident))
    starts = 1.0 if group.persistent else rounds
    launch = (c.launch1_us if group.stage == 1 else c.launch2_us) + starts * c.start_us
    if group.output is Output.ROWS or group.splits > 1:
        launch += c.sum_us
    memory = work.memory_bytes / (c.memory_tb_s * 1e6)
    cache = work.weight_bytes / (c.weights_tb_s * 1e6) + work.row_bytes / (c.rows_tb_s * 1e6)
    latency = rounds * work.turns * c.latency_us / group.ahead
    cycles = work.turns * core_cycles(group, gpu, work.items, c.lone_waves)
    core = cycles / (gpu.clock_hz * 1e-6 * c.efficiency)
    output = work.atomic_bytes / (c.atomic_tb_s * 1e6) + work.summed_bytes / (c.sum_tb_s * 1e6)
    busy = _norm((memory, cache, latency, core, output), c.overlap)
    finish = work.finish_bytes / (c.sum_tb_s * 1e6)
    return StageTime(launch + busy + finish, launch, memory, cache, latency, core, output + finish)
