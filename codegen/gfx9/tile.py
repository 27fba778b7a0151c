# SPDX-License-Identifier: MIT
"""How a gfx9 kernel is cut up, as data. What a kernel does is in csrc/hip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aiter_moe.codegen.gfx9.device import SIMD_REGISTERS, WAVE_LANES
from aiter_moe.codegen.instance import Instance, Output
from aiter_moe.problem import Constraint

STRIP_ROWS = 32
STEP_K = 256
FRAGMENT_BYTES = 1024
FINISH_ROWS = 4
FINISH_COLUMNS = 4 * WAVE_LANES
FINISH_THREADS = FINISH_ROWS * WAVE_LANES


@dataclass(frozen=True, slots=True)
class Gfx9Tile:
    """How a gfx9 kernel is cut up.

    Attributes
    ----------
    stage : int
        1 or 2: which template instantiates it.
    strips : int
        Strips of 32 weight rows a wave holds; in stage 1 half of them are up rows.
    waves : int
        Waves of a workgroup, side by side along the weight rows but for `row_waves`.
    depth : int
        Steps of 256 elements that are requested ahead.
    stages : int
        Steps whose rows fit the LDS.
    waves_per_simd : int
        Waves that must fit a SIMD; sets the register budget.
    non_temporal : bool
        Stream weights past the caches: for few rows, where one row block reads an expert.
    split_k : bool
        Stage 1 in parts, with a finish kernel in the same artifact.
    output : Output
        What the kernel leaves behind.
    row_waves : int
        Waves among `waves` that share columns and split the sorted rows.
    persistent : bool
        As many workgroups as fit the device, each walking over the work items.
    """

    stage: int
    strips: int
    waves: int
    depth: int
    stages: int
    waves_per_simd: int
    non_temporal: bool
    split_k: bool = False
    output: Output = Output.BF16
    row_waves: int = 1
    persistent: bool = False

    @property
    def direct(self) -> bool:
        """No: kernels that read the routing themselves are `codegen.gfx9.direct`."""
        return False

    @property
    def block_n(self) -> int:
        """Output columns of a workgroup."""
        columns = self.waves // self.row_waves * self.strips * STRIP_ROWS
        return columns // (2 if self.stage == 1 else 1)

    @property
    def block_k(self) -> int:
        """Elements of the reduction a pipeline step covers; a split falls on multiples of it."""
        return STEP_K

    @property
    def threads(self) -> int:
        """Workgroup size."""
        return self.waves * WAVE_LANES

    @property
    def vgpr_budget(self) -> int:
        """Registers a lane may use, accumulation registers included."""
        return SIMD_REGISTERS // self.waves_per_simd // 8 * 8

    @property
    def label(self) -> str:
        """Columns, step, waves, depth, then what is unusual."""
        rows = f"x{self.row_waves}" if self.row_waves > 1 else ""
        stages = "" if self.stages == self.depth + 1 else f"s{self.stages}"
        unusual = {
            "_nt": self.non_temporal,
            "_p": self.persistent,
            "_fp4": self.output is Output.FP4,
            "_atomic": self.output is Output.ATOMIC,
        }
        told = "".join(suffix for suffix, has in unusual.items() if has)
        return f"n{self.block_n}k{STEP_K}_w{self.waves}{rows}d{self.depth}{stages}{told}"

    @property
    def template(self) -> str:
        """Template of the stage."""
        return f"gfx9_stage{self.stage}{'_splitk' * self.split_k}.hip.j2"

    @property
    def requires(self) -> frozenset[str]:
        """Nothing beside the architecture."""
        return frozenset()

    @property
    def compile_flags(self) -> tuple[str, ...]:
        """No flags beside those of the target."""
        return ()

    def parameters(self) -> dict[str, int | str | bool]:
        """Template arguments of the device code."""
        return {
            "strips": self.strips,
            "waves": self.waves,
            "depth": self.depth,
            "stages": self.stages,
            "waves_per_simd": self.waves_per_simd,
            "non_temporal": self.non_temporal,
            "threads": self.threads,
            "finish_threads": FINISH_THREADS,
            "output": self.output.value,
            "row_waves": self.row_waves,
            "persistent": self.persistent,
        }

    def constraints(self) -> Sequence[Constraint]:
        """Return what the tile's shape, the device and 31-bit offsets ask for."""
        from aiter_moe.codegen.gfx9.rules import TILE_RULES

        return TILE_RULES


def gfx9_tile(instance: Instance) -> Gfx9Tile:
    """Return the tile of a gfx9 instance."""
    tile = instance.tile
    assert isinstance(tile, Gfx9Tile), f"{instance.name} has no gfx9 tile"
    return tile
