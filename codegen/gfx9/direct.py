# SPDX-License-Identifier: MIT
"""Kernels for a few tokens that read the routing themselves: their tiles, rules and grids.

Two of them are a whole MoE layer: no sort, quantisation or reduction is launched beside them. The
waves of a workgroup share its columns; each takes a part of the reduction, and in stage 2 its
share of the blocks (csrc/hip/direct).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aiter_moe.codegen.constraints import Rule
from aiter_moe.codegen.gfx9.device import (
    BUFFER_BYTES,
    SIMD_REGISTERS,
    SIMDS,
    WAVE_LANES,
    XCDS,
    device_of,
)
from aiter_moe.codegen.gfx9.rules import (
    too_large,
    too_many_loads,
    too_many_registers,
    too_many_threads,
    too_much_lds,
)
from aiter_moe.codegen.instance import ACTIVATIONS, Instance, Output
from aiter_moe.enums import Kind
from aiter_moe.formats import MX_BLOCK
from aiter_moe.problem import Constraint, Problem
from aiter_moe.sizes import ceil_div, round_up

MOST_TOKENS = 16
MOST_TOPK = 16
MOST_EXPERTS = 4096
MOST_STRIDE = (1 << 23) - 8  # elements; bytes of a row have 24 bits
BLOCK_ROWS = 16
STEP_K = 256
# Of csrc/hip/direct/routing.h, struct Routing.
ROUTING_BYTES = 8 * MOST_EXPERTS // WAVE_LANES + 8 * 4 * (12 + 2) + 4 * (2 * 257 + 4 * 256) + 8
# Masks, addresses and what the routing leaves behind; from compiled kernels.
OTHER_VGPRS = 40


@dataclass(frozen=True, slots=True)
class DirectTile:
    """How a kernel that reads the routing itself is cut up.

    Attributes
    ----------
    stage : int
        1 or 2.
    columns : int
        Output columns of a workgroup, 16 or 32.
    waves : int
        Waves of a workgroup.
    parts : int
        Waves that share a block, each with a part of the reduction; in stage 1 all of them.
    depth : int
        Steps of 256 elements that are requested ahead.
    waves_per_simd : int
        Waves that must fit a SIMD; sets the register budget.
    non_temporal : bool
        Stream weights past the caches.
    output : Output
        BF16 or FP4 in stage 1, FINAL in stage 2.
    """

    stage: int
    columns: int
    waves: int
    parts: int
    depth: int
    waves_per_simd: int
    non_temporal: bool
    output: Output

    @property
    def direct(self) -> bool:
        """Always."""
        return True

    @property
    def weight_tiles(self) -> int:
        """Tiles of 16 weight rows a wave holds: gate and up in stage 1."""
        return self.columns // 16 * (2 if self.stage == 1 else 1)

    @property
    def block_n(self) -> int:
        """Output columns of a workgroup."""
        return self.columns

    @property
    def block_k(self) -> int:
        """Elements of the reduction a step covers."""
        return STEP_K

    @property
    def threads(self) -> int:
        """Workgroup size."""
        return self.waves * WAVE_LANES

    @property
    def capacity(self) -> int:
        """Rows whose sums the LDS holds: those of a block, or of all pairs."""
        return BLOCK_ROWS if self.stage == 1 else MOST_TOKENS * MOST_TOPK

    @property
    def vgpr_budget(self) -> int:
        """Registers a lane may use."""
        return SIMD_REGISTERS // self.waves_per_simd // 8 * 8

    @property
    def label(self) -> str:
        """Columns, step, waves, parts of the reduction, depth, then what is unusual."""
        unusual = "_nt" * self.non_temporal + "_fp4" * (self.output is Output.FP4)
        return f"n{self.columns}k{STEP_K}_w{self.waves}k{self.parts}d{self.depth}{unusual}_direct"

    @property
    def template(self) -> str:
        """Template of the stage."""
        return f"gfx9_direct_stage{self.stage}.hip.j2"

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
            "tiles": self.weight_tiles,
            "waves": self.waves,
            "parts": self.parts,
            "depth": self.depth,
            "waves_per_simd": self.waves_per_simd,
            "non_temporal": self.non_temporal,
            "threads": self.threads,
            "capacity": self.capacity,
            "output": self.output.value,
        }

    def constraints(self) -> Sequence[Constraint]:
        """Return what the routing, the tile's shape and the device ask for."""
        return DIRECT_RULES


def direct_tile(instance: Instance) -> DirectTile:
    """Return the tile of a direct instance."""
    tile = instance.tile
    assert isinstance(tile, DirectTile), f"{instance.name} reads a sort"
    return tile


def lds_bytes(instance: Instance) -> int:
    """Return the static LDS of an instance in bytes: the routing, and the sums of all parts."""
    tile = direct_tile(instance)
    return ROUTING_BYTES + tile.parts * tile.weight_tiles * (tile.capacity + 1) * 16 * 4


def vgpr_estimate(instance: Instance) -> int:
    """Return about how many registers a lane needs: steps in flight, sums, the rest."""
    tile = direct_tile(instance)
    rows = 32  # 16-bit elements; codes take fewer
    step = 9 * tile.weight_tiles + rows
    return (tile.depth + 1) * step + 4 * tile.weight_tiles + OTHER_VGPRS


def loads_in_flight(instance: Instance) -> int:
    """Return the loads of a wave that are unfinished when it waits for a step."""
    tile = direct_tile(instance)
    return tile.depth * (3 * tile.weight_tiles + 8)


def workgroups_per_cu(instance: Instance) -> int:
    """Return how many workgroups of an instance a compute unit holds, by registers and LDS."""
    tile = direct_tile(instance)
    by_registers = tile.waves_per_simd * SIMDS // tile.waves
    return max(1, min(by_registers, device_of(instance).lds_bytes // lds_bytes(instance)))


def weight_bytes_in_flight(instance: Instance) -> int:
    """Return the bytes of weights a compute unit full of workgroups has requested ahead."""
    tile = direct_tile(instance)
    step = tile.weight_tiles * BLOCK_ROWS * (STEP_K // 2 + STEP_K // MX_BLOCK)
    return workgroups_per_cu(instance) * tile.waves * tile.depth * step


def _tokens(problem: Problem, instance: Instance) -> str | None:
    if problem.token > MOST_TOKENS:
        return f"{problem.token} tokens, the routing is read directly up to {MOST_TOKENS}"
    if problem.topk > MOST_TOPK:
        return f"topk {problem.topk}, the routing is read directly up to {MOST_TOPK}"
    return None


def _experts(problem: Problem, instance: Instance) -> str | None:
    if problem.experts > MOST_EXPERTS:
        return f"{problem.experts} experts, the routing is read directly up to {MOST_EXPERTS}"
    return None


def _shape(problem: Problem, instance: Instance) -> str | None:
    tile = direct_tile(instance)
    threads = too_many_threads(tile.threads)
    if threads is not None:
        return threads
    if tile.parts > tile.waves or any(n & (n - 1) for n in (tile.waves, tile.parts)):
        return f"{tile.waves} waves for {tile.parts} parts of the reduction: wanted powers of two"
    if tile.stage == 1 and tile.parts != tile.waves:
        return f"{tile.waves} waves share a block of stage 1, {tile.parts} parts are for fewer"
    if tile.output is Output.FP4 and tile.columns != MX_BLOCK:
        return f"{tile.columns} columns are no MX block of fp4 output"
    return None


def _lds(problem: Problem, instance: Instance) -> str | None:
    return too_much_lds(instance, lds_bytes(instance))


def _vgprs(problem: Problem, instance: Instance) -> str | None:
    tile = direct_tile(instance)
    return too_many_registers(vgpr_estimate(instance), tile.waves_per_simd, tile.vgpr_budget)


def _outstanding_loads(problem: Problem, instance: Instance) -> str | None:
    return too_many_loads(loads_in_flight(instance))


def _offsets(problem: Problem, instance: Instance) -> str | None:
    hidden, inter = problem.model_dim, problem.inter_dim
    k, rows = (hidden, 2 * inter) if instance.stage == 1 else (inter, hidden)
    return too_large({"weights of an expert": rows * (k // 2 + MX_BLOCK)})


DIRECT_RULES: tuple[Rule, ...] = (
    Rule("direct routing", _tokens),
    Rule("direct experts", _experts),
    Rule("direct shape", _shape),
    Rule("LDS", _lds),
    Rule("registers", _vgprs),
    Rule("loads in flight", _outstanding_loads),
    Rule("31-bit offsets", _offsets),
)


def direct_groups(instance: Instance, args: ctypes.Structure) -> int:
    """Return the workgroups of a direct kernel.

    Stage 1: one for each possible block and its columns, a multiple of the XCDs (csrc/hip/work.h).
    Stage 2: one for each `columns` of the output.
    """
    columns = direct_tile(instance).columns
    if instance.stage == 2:
        return ceil_div(max(args.n, args.out_columns), columns)
    pairs = args.tokens * args.topk
    blocks = min(pairs, args.experts + pairs // BLOCK_ROWS)
    return round_up(blocks * (args.n // columns), XCDS)


# Values of `aiter_moe.targets.arguments.ElementType`: bf16 0, f16 1, fp4 codes 3.
_ROW_TYPES = {
    (Kind.A16W4, 1): (0,),
    (Kind.A16W4, 2): (0,),
    (Kind.A4W4, 1): (0, 1, 3),
    (Kind.A4W4, 2): (0, 3),
}


def direct_refusal(instance: Instance, args: ctypes.Structure) -> str | None:
    """Return which of the arguments a direct kernel cannot take, or None."""
    for what, value, most in (
        ("tokens", args.tokens, MOST_TOKENS),
        ("topk", args.topk, MOST_TOPK),
        ("experts", args.experts, MOST_EXPERTS),
        ("x_stride", args.x_stride, MOST_STRIDE),
        ("weights of an expert in bytes", args.w_rows * (args.w_k // 2), BUFFER_BYTES - 1),
    ):
        if value > most:
            return f"{what} is {value}, at most {most} can be"
    for what, value, multiple in (
        ("n", args.n, 2 * BLOCK_ROWS),
        ("k", args.k, MX_BLOCK),
        ("w_rows", args.w_rows, 2 * BLOCK_ROWS),
        ("x_stride", args.x_stride, 8),
    ):
        if value % multiple:
            return f"{what} is {value}, not a multiple of {multiple}"
    if args.x_type not in _ROW_TYPES[instance.kind, instance.stage]:
        return f"x_type is {args.x_type}, rows of which this kernel does not read"
    if instance.stage == 1 and args.out_stride % 4:
        return f"out_stride is {args.out_stride}, not a multiple of 4"
    if instance.stage == 2 and args.x_scale_stride % 8:
        return f"x_scale_stride is {args.x_scale_stride}, not a multiple of 8"
    return None


def _first(columns: int, waves: int, depth: int, output: Output = Output.BF16) -> DirectTile:
    return DirectTile(1, columns, waves, waves, depth, 2, True, output)


def _second(columns: int, waves: int, parts: int, depth: int) -> DirectTile:
    return DirectTile(2, columns, waves, parts, depth, 2, True, Output.FINAL)


# Four waves and 32 columns fill a device by the experts of a few tokens; small intermediate sizes
# have columns for few workgroups, so half as many each and more waves. 16 columns are no MX block:
# stage 2 quantises those rows itself, which is cheap where they are short.
STAGE1: dict[Kind, tuple[DirectTile, ...]] = {
    Kind.A4W4: (_first(32, 4, 1, Output.FP4), _first(32, 4, 1), _first(16, 8, 2)),
    Kind.A16W4: (_first(32, 4, 1), _first(16, 8, 2)),
}
# Narrow: hidden columns for as many compute units as can be; wide: rows are read less often.
STAGE2 = (_second(16, 8, 2, 3), _second(32, 8, 1, 2))


def direct_instances(target: str) -> Iterator[Instance]:
    """Yield the direct kernels of a target: stage 1 by activation, then stage 2."""
    for kind in Kind if target == "gfx950" else (Kind.A16W4,):
        for tile in STAGE1[kind]:
            for activation in ACTIVATIONS:
                yield Instance(target, kind, 1, BLOCK_ROWS, activation, False, tile)
        for tile in STAGE2:
            yield Instance(target, kind, 2, BLOCK_ROWS, None, False, tile)
