# SPDX-License-Identifier: MIT
"""What an instance costs its workgroup and waves: LDS, registers, unfinished loads."""

from __future__ import annotations

from aiter_moe.codegen.gfx9.device import (
    CU_BARRIERS,
    SIMD_WAVES,
    SIMDS,
    device_of,
)
from aiter_moe.codegen.gfx9.tile import FRAGMENT_BYTES, STEP_K, gfx9_tile
from aiter_moe.codegen.instance import Instance
from aiter_moe.enums import Kind
from aiter_moe.formats import MX_BLOCK
from aiter_moe.sizes import ceil_div, round_up

# Address and mask registers beside those that `vgpr_estimate` counts; from compiled kernels.
OTHER_VGPRS = 24


def lds_bytes(instance: Instance) -> int:
    """Return the static LDS of an instance in bytes: its stages of gathered rows."""
    tile = gfx9_tile(instance)
    return tile.stages * gathered_requests(instance) * tile.waves * fragment_pitch(instance)


def fragment_pitch(instance: Instance) -> int:
    """Return the bytes from one fragment of gathered rows to the next (`RowLayout`, csrc/hip)."""
    whole_rows = instance.kind is Kind.A16W4 and not device_of(instance).rows_through_registers
    return FRAGMENT_BYTES + 16 if whole_rows else FRAGMENT_BYTES


def _decoding_registers(row_tiles: int, weight_tiles: int) -> int:
    # fragments of rows read at a time, while others are multiplied; two of weights, their scales
    at_a_time = {1: 8, 2: 8 * 2}.get(row_tiles, 2 * row_tiles)
    return 4 * at_a_time + 8 + weight_tiles + 8


def vgpr_estimate(instance: Instance) -> int:
    """Return about how many registers a lane needs: sums, weights in flight, row fragments."""
    tile = gfx9_tile(instance)
    row_tiles, weight_tiles = instance.block_m // 16 // tile.row_waves, 2 * tile.strips
    sums = 4 * row_tiles * weight_tiles
    scales = tile.strips + (ceil_div(row_tiles, 2) if instance.kind is Kind.A4W4 else 0)
    weights = (tile.depth + 1) * (8 * weight_tiles + scales)
    if device_of(instance).rows_through_registers:
        # fragments of two reads, a table to decode each weight tile, rows on their way
        rows = 8 * row_tiles + 4 * weight_tiles + 8
        rows += tile.depth * 4 * gathered_requests(instance)
    else:
        fp4 = instance.kind is Kind.A4W4
        rows = 8 if fp4 else _decoding_registers(row_tiles, weight_tiles)
    return sums + weights + rows + OTHER_VGPRS


def workgroups_per_cu(instance: Instance) -> int:
    """Return how many workgroups of an instance a compute unit is sure to hold.

    By the registers that `waves_per_simd` of its tile lets the compiler take, by LDS in whole
    granules, and by barriers.
    """
    tile, device = gfx9_tile(instance), device_of(instance)
    by_registers = tile.waves_per_simd * SIMDS // tile.waves
    by_lds = device.lds_bytes // round_up(max(lds_bytes(instance), 1), device.lds_granule)
    by_barriers = CU_BARRIERS if tile.waves > 1 else SIMD_WAVES * SIMDS
    return max(1, min(by_registers, by_lds, by_barriers))


def waves_per_simd(instance: Instance) -> int:
    """Return how many waves of an instance a SIMD is sure to have: what hides its latencies."""
    return workgroups_per_cu(instance) * gfx9_tile(instance).waves // SIMDS


def gathered_requests(instance: Instance) -> int:
    """Return the requests a wave makes for its part of the rows of a step."""
    per_row_tile = 2 if instance.kind is Kind.A4W4 else STEP_K // MX_BLOCK
    return ceil_div(instance.block_m // 16 * per_row_tile, gfx9_tile(instance).waves)


def loads_in_flight(instance: Instance) -> int:
    """Return the loads a wave leaves unfinished when it waits for the rows of a step."""
    tile = gfx9_tile(instance)
    fp4 = instance.kind is Kind.A4W4
    row_tiles = instance.block_m // 16 // tile.row_waves
    weights = 5 * tile.strips + (ceil_div(row_tiles, 2) if fp4 else 0)
    return weights + (tile.depth - 1) * (gathered_requests(instance) + weights)


def activation_row_bytes(instance: Instance, k: int) -> int:
    """Return the bytes of one row of `k` activations as the instance reads them."""
    return k // 2 if instance.kind is Kind.A4W4 else 2 * k
