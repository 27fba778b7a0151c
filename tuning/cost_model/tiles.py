# SPDX-License-Identifier: MIT
"""Our kernels, and CK-tile's, as the cost model sees them: from the tile alone, without a compiler.

Registers, and with them resident workgroups, are estimates of `codegen.gfx9.resources`; tests
compare turns and residents with compiled kernels.
"""

from __future__ import annotations

from aiter_moe.codegen.cktile.tile import CkTile
from aiter_moe.codegen.gfx9 import resources
from aiter_moe.codegen.gfx9.device import CU_BARRIERS, SIMD_REGISTERS, SIMD_WAVES, SIMDS, device_of
from aiter_moe.codegen.gfx9.direct import DirectTile
from aiter_moe.codegen.gfx9.direct import workgroups_per_cu as direct_resident
from aiter_moe.codegen.gfx9.tile import Gfx9Tile
from aiter_moe.codegen.instance import Instance
from aiter_moe.sizes import round_up
from aiter_moe.tuning.cost_model.workgroup import (
    CKTILE,
    OWN,
    TILE,
    Overhead,
    Workgroup,
    turn_of,
)

# Direct kernels address gathered rows in every turn; their stage 2 quantises rows too.
DIRECT = {1: Overhead(50, 0.1), 2: Overhead(110, 0.1)}
# What the compiler takes beside the registers that are counted.
_SPARE_VGPRS = 1.1


def workgroup_of(instance: Instance, ksplit: int = 0) -> Workgroup | None:
    """Return what the model knows of a kernel; None for a target it has no figures of.

    Parameters
    ----------
    instance : Instance
        A kernel of gfx950.
    ksplit : int
        Parts of the reduction of a split-k kernel.
    """
    tile = instance.tile
    if instance.target != "gfx950":
        return None
    if isinstance(tile, Gfx9Tile):
        return _own(instance, tile, max(1, ksplit))
    if isinstance(tile, DirectTile):
        return _direct(instance, tile)
    if isinstance(tile, CkTile):
        return _cktile(instance, tile)
    return None


def _own(instance: Instance, tile: Gfx9Tile, splits: int) -> Workgroup:
    row_tiles = instance.block_m // TILE // tile.row_waves
    side_by_side = tile.waves // tile.row_waves
    turn = turn_of(instance.kind, row_tiles, 2 * tile.strips, side_by_side, OWN)
    return Workgroup(
        kind=instance.kind, stage=tile.stage, rows=instance.block_m, columns=tile.block_n,
        sort_block=instance.block_m, waves=tile.waves, resident=_resident(instance, tile),
        turn=turn, output=tile.output, splits=splits, ahead=tile.depth,
        persistent=tile.persistent,
    )  # fmt: skip


def _resident(instance: Instance, tile: Gfx9Tile) -> int:
    """Return about how many workgroups a compute unit holds, at least what is sure."""
    registers = round_up(int(_SPARE_VGPRS * resources.vgpr_estimate(instance)), 8)
    by_registers = min(SIMD_WAVES, SIMD_REGISTERS // registers) * SIMDS // tile.waves
    device = device_of(instance)
    lds = round_up(max(1, resources.lds_bytes(instance)), device.lds_granule)
    likely = min(by_registers, device.lds_bytes // lds, CU_BARRIERS)
    return max(likely, resources.workgroups_per_cu(instance))


def _direct(instance: Instance, tile: DirectTile) -> Workgroup:
    turn = turn_of(instance.kind, 1, tile.weight_tiles, 1, DIRECT[tile.stage])
    return Workgroup(
        kind=instance.kind, stage=tile.stage, rows=instance.block_m, columns=tile.columns,
        sort_block=instance.block_m, waves=tile.waves, resident=direct_resident(instance),
        turn=turn, output=tile.output, parts=tile.parts, ahead=tile.depth,
        walks_blocks=tile.stage == 2,
    )  # fmt: skip


def _cktile(instance: Instance, tile: CkTile) -> Workgroup:
    waves = 4
    weight_tiles = tile.block_n / TILE / waves
    turn = turn_of(instance.kind, tile.block_m // TILE, weight_tiles, waves, CKTILE)
    return Workgroup(
        kind=instance.kind, stage=tile.stage, rows=tile.block_m,
        columns=tile.block_n // (2 if tile.stage == 1 else 1), sort_block=tile.block_m,
        waves=waves, resident=tile.per_cu, turn=turn, output=tile.output,
    )  # fmt: skip
