# SPDX-License-Identifier: MIT
"""Which problems and devices a tile fits, with the figure that says no."""

from __future__ import annotations

from collections.abc import Mapping

from aiter_moe.codegen.constraints import Rule
from aiter_moe.codegen.gfx9.device import BUFFER_BYTES, VMCNT_MAX, WORKGROUP_THREADS, device_of
from aiter_moe.codegen.gfx9.resources import (
    activation_row_bytes,
    lds_bytes,
    loads_in_flight,
    vgpr_estimate,
)
from aiter_moe.codegen.gfx9.tile import STEP_K, gfx9_tile
from aiter_moe.codegen.instance import Instance
from aiter_moe.enums import Kind
from aiter_moe.formats import MX_BLOCK
from aiter_moe.problem import Problem

# Rows a wave from which on the loop of csrc/hip/rolling.h runs, and the most it can have.
TALL_ROWS = 128


def _whole_strips(problem: Problem, instance: Instance) -> str | None:
    tile = gfx9_tile(instance)
    if tile.stage == 1 and tile.strips % 2:
        return f"{tile.strips} strips a wave cannot be half gate and half up"
    return None


def _workgroup(problem: Problem, instance: Instance) -> str | None:
    return too_many_threads(gfx9_tile(instance).threads)


def _even_gather(problem: Problem, instance: Instance) -> str | None:
    blocks = STEP_K // MX_BLOCK
    fragments, waves = instance.block_m // 16 * blocks, gfx9_tile(instance).waves
    if instance.kind is Kind.A4W4:
        return None
    if fragments % waves or (blocks % (fragments // waves) and fragments // waves % blocks):
        return f"{fragments} row fragments a step do not divide among {waves} waves by row tiles"
    return None


def _row_waves(problem: Problem, instance: Instance) -> str | None:
    tile, tiles = gfx9_tile(instance), instance.block_m // 16
    if tile.row_waves == 1:
        return None
    if instance.kind is not Kind.A4W4:
        return f"{tile.row_waves} waves along the rows would all decode the same weights"
    if tile.waves % tile.row_waves or tiles % (2 * tile.row_waves):
        return (
            f"{tile.waves} waves and {tiles} row tiles do not divide into {tile.row_waves} rows of "
            "waves with whole strips of scales"
        )
    return None


def _tall(problem: Problem, instance: Instance) -> str | None:
    tile = gfx9_tile(instance)
    rows = instance.block_m // tile.row_waves
    if instance.kind is not Kind.A4W4 or rows < TALL_ROWS:
        return None
    if rows > TALL_ROWS or tile.strips > 2:
        return f"{rows} rows x {tile.strips} strips a wave, whose sums leave too few registers"
    if tile.strips == 2 and tile.depth > 1:
        return f"{rows} rows a wave leave no registers for weights {tile.depth} steps ahead"
    return None


def _stages(problem: Problem, instance: Instance) -> str | None:
    tile = gfx9_tile(instance)
    sets = tile.depth + 1
    if device_of(instance).rows_through_registers:
        if sets % tile.stages:
            return f"{tile.stages} stages of rows do not divide {sets} sets of registers"
    elif tile.stages != sets:
        return f"{tile.stages} stages of rows, a depth of {tile.depth} takes {sets}"
    return None


def _lds(problem: Problem, instance: Instance) -> str | None:
    return too_much_lds(instance, lds_bytes(instance))


def _vgprs(problem: Problem, instance: Instance) -> str | None:
    tile = gfx9_tile(instance)
    return too_many_registers(vgpr_estimate(instance), tile.waves_per_simd, tile.vgpr_budget)


def _outstanding_loads(problem: Problem, instance: Instance) -> str | None:
    return too_many_loads(loads_in_flight(instance))


def _offsets(problem: Problem, instance: Instance) -> str | None:
    if instance.stage == 1:
        k, rows, weight_rows = problem.model_dim, problem.token, 2 * problem.inter_dim
    else:
        k, rows = problem.inter_dim, problem.token * problem.topk
        weight_rows = problem.model_dim
    return too_large(
        {
            "activations": rows * activation_row_bytes(instance, k),
            "weights of an expert": weight_rows * (k // 2 + MX_BLOCK),
        }
    )


def too_many_threads(threads: int) -> str | None:
    """Return why a workgroup cannot have so many threads, or None."""
    if threads > WORKGROUP_THREADS:
        return f"{threads} threads, a workgroup has at most {WORKGROUP_THREADS}"
    return None


def too_much_lds(instance: Instance, need: int) -> str | None:
    """Return why a workgroup on the instance's device cannot have `need` bytes of LDS, or None."""
    limit = device_of(instance).lds_bytes
    return f"{need} bytes of LDS, a CU has {limit}" if need > limit else None


def too_many_registers(need: int, waves_per_simd: int, budget: int) -> str | None:
    """Return why a lane cannot have `need` registers, or None."""
    if need > budget:
        return f"about {need} VGPRs, {waves_per_simd} waves a SIMD leave {budget}"
    return None


def too_many_loads(need: int) -> str | None:
    """Return why a wave cannot wait with `need` loads unfinished, or None."""
    if need > VMCNT_MAX:
        return f"{need} loads in flight, the counter of a wave holds {VMCNT_MAX}"
    return None


def too_large(sizes: Mapping[str, int]) -> str | None:
    """Return which of `sizes` in bytes is past the reach of a buffer descriptor, or None."""
    for what, size in sizes.items():
        if size >= BUFFER_BYTES:
            return f"{what} take {size} bytes, a buffer descriptor reaches {BUFFER_BYTES - 1}"
    return None


TILE_RULES: tuple[Rule, ...] = (
    Rule("gate and up in a wave", _whole_strips),
    Rule("workgroup size", _workgroup),
    Rule("even gather", _even_gather),
    Rule("waves along the rows", _row_waves),
    Rule("stages of rows", _stages),
    Rule("LDS", _lds),
    Rule("registers", _vgprs),
    Rule("tall tiles", _tall),
    Rule("loads in flight", _outstanding_loads),
    Rule("31-bit offsets", _offsets),
)
