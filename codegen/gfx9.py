# SPDX-License-Identifier: MIT
"""The gfx950 tiles: their shape, what they cost in LDS and registers, how they are launched.

What a kernel does is in csrc/hip. Nothing here touches a device: a launcher takes `launches` and
starts them in order.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from aiter_moe.codegen.constraints import Rule
from aiter_moe.codegen.instance import ACTIVATIONS, Instance
from aiter_moe.enums import Kind
from aiter_moe.errors import LaunchError
from aiter_moe.formats import MX_BLOCK
from aiter_moe.problem import Constraint, Problem
from aiter_moe.sizes import ceil_div, round_up

WAVE_LANES = 64
STRIP_ROWS = 32
STEP_K = 256
FRAGMENT_BYTES = 1024
LDS_BYTES = 160 * 1024
SIMD_REGISTERS = 512
WORKGROUP_THREADS = 1024
# Offsets into a buffer descriptor stay below the value that marks a masked lane.
BUFFER_BYTES = 1 << 31
FINISH_ROWS = 4
FINISH_COLUMNS = 4 * WAVE_LANES
FINISH_THREADS = FINISH_ROWS * WAVE_LANES
FINISH_SUFFIX = "_finish"
# Address and mask registers beside those that `vgpr_estimate` counts; from compiled kernels.
OTHER_VGPRS = 24


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
        Waves of a workgroup, side by side along the weight rows.
    depth : int
        Steps of 256 elements that are requested ahead.
    waves_per_simd : int
        Waves that must fit a SIMD; sets the register budget.
    non_temporal : bool
        Stream weights past the caches: for few rows, where one row block reads an expert.
    split_k : bool
        Stage 1 in parts, with a finish kernel in the same artifact.
    """

    stage: int
    strips: int
    waves: int
    depth: int
    waves_per_simd: int
    non_temporal: bool
    split_k: bool = False

    @property
    def block_n(self) -> int:
        """Output columns of a workgroup."""
        return self.waves * self.strips * STRIP_ROWS // (2 if self.stage == 1 else 1)

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
        nt = "_nt" if self.non_temporal else ""
        return f"n{self.block_n}k{STEP_K}_w{self.waves}d{self.depth}{nt}"

    @property
    def template(self) -> str:
        """Template of the stage."""
        return f"gfx9_stage{self.stage}{'_splitk' if self.split_k else ''}.hip.j2"

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
            "waves_per_simd": self.waves_per_simd,
            "non_temporal": self.non_temporal,
            "threads": self.threads,
            "finish_threads": FINISH_THREADS,
        }

    def constraints(self) -> Sequence[Constraint]:
        """Return what the tile's shape, the device and 31-bit offsets ask for."""
        return TILE_RULES


def lds_bytes(instance: Instance) -> int:
    """Return the static LDS of an instance in bytes: depth + 1 stages of gathered rows."""
    tile = gfx9_tile(instance)
    row_tiles = instance.block_m // 16
    per_row_tile = 2 if instance.kind is Kind.A4W4 else STEP_K // MX_BLOCK
    fragments = round_up(row_tiles * per_row_tile, tile.waves)
    return (tile.depth + 1) * fragments * FRAGMENT_BYTES


def vgpr_estimate(instance: Instance) -> int:
    """Return about how many registers a lane needs: sums, weights in flight, row fragments."""
    tile = gfx9_tile(instance)
    row_tiles, weight_tiles = instance.block_m // 16, 2 * tile.strips
    sums = 4 * row_tiles * weight_tiles
    scales = tile.strips + (ceil_div(row_tiles, 2) if instance.kind is Kind.A4W4 else 0)
    weights = (tile.depth + 1) * (8 * weight_tiles + scales)
    rows = 8 if instance.kind is Kind.A4W4 else 4 * row_tiles + weight_tiles + 8
    return sums + weights + rows + OTHER_VGPRS


def gfx9_tile(instance: Instance) -> Gfx9Tile:
    """Return the tile of a gfx9 instance."""
    tile = instance.tile
    assert isinstance(tile, Gfx9Tile), f"{instance.name} has no gfx9 tile"
    return tile


def _whole_strips(problem: Problem, instance: Instance) -> str | None:
    tile = gfx9_tile(instance)
    if tile.stage == 1 and tile.strips % 2:
        return f"{tile.strips} strips a wave cannot be half gate and half up"
    return None


def _workgroup(problem: Problem, instance: Instance) -> str | None:
    tile = gfx9_tile(instance)
    if tile.threads > WORKGROUP_THREADS:
        return f"{tile.threads} threads, a workgroup has at most {WORKGROUP_THREADS}"
    return None


def _even_gather(problem: Problem, instance: Instance) -> str | None:
    blocks = STEP_K // MX_BLOCK
    fragments, waves = instance.block_m // 16 * blocks, gfx9_tile(instance).waves
    if instance.kind is Kind.A4W4:
        return None
    if fragments % waves or (blocks % (fragments // waves) and fragments // waves % blocks):
        return f"{fragments} row fragments a step do not divide among {waves} waves by row tiles"
    return None


def _lds(problem: Problem, instance: Instance) -> str | None:
    need = lds_bytes(instance)
    return f"{need} bytes of LDS, a CU has {LDS_BYTES}" if need > LDS_BYTES else None


def _vgprs(problem: Problem, instance: Instance) -> str | None:
    need, budget = vgpr_estimate(instance), gfx9_tile(instance).vgpr_budget
    if need > budget:
        waves = gfx9_tile(instance).waves_per_simd
        return f"about {need} VGPRs, {waves} waves a SIMD leave {budget}"
    return None


def _outstanding_loads(problem: Problem, instance: Instance) -> str | None:
    need = loads_in_flight(instance)
    return f"{need} loads in flight, the counter of a wave holds 63" if need > 63 else None


def loads_in_flight(instance: Instance) -> int:
    """Return the loads a wave leaves unfinished when it waits for the rows of a step."""
    tile = gfx9_tile(instance)
    row_tiles = instance.block_m // 16
    fp4 = instance.kind is Kind.A4W4
    gathered = ceil_div(row_tiles * (2 if fp4 else STEP_K // MX_BLOCK), tile.waves)
    weights = 5 * tile.strips + (ceil_div(row_tiles, 2) if fp4 else 0)
    return weights + (tile.depth - 1) * (gathered + weights)


def _offsets(problem: Problem, instance: Instance) -> str | None:
    if instance.stage == 1:
        k, rows, weight_rows = problem.model_dim, problem.token, 2 * problem.inter_dim
    else:
        k, rows = problem.inter_dim, problem.token * problem.topk
        weight_rows = problem.model_dim
    return _too_large(
        {
            "activations": rows * activation_row_bytes(instance, k),
            "weights of an expert": weight_rows * (k // 2 + MX_BLOCK),
        }
    )


def activation_row_bytes(instance: Instance, k: int) -> int:
    """Return the bytes of one row of `k` activations as the instance reads them."""
    return k // 2 if instance.kind is Kind.A4W4 else 2 * k


TILE_RULES: tuple[Rule, ...] = (
    Rule("gate and up in a wave", _whole_strips),
    Rule("workgroup size", _workgroup),
    Rule("even gather", _even_gather),
    Rule("LDS", _lds),
    Rule("registers", _vgprs),
    Rule("loads in flight", _outstanding_loads),
    Rule("31-bit offsets", _offsets),
)


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel launch: StageArgs by value is its only argument, LDS is static.

    Attributes
    ----------
    symbol : str
        Kernel name in the code object.
    grid : tuple of int
        Workgroups in x, y and z.
    threads : int
        Workgroup size in x.
    """

    symbol: str
    grid: tuple[int, int, int]
    threads: int


def grid(instance: Instance, args: ctypes.Structure) -> tuple[int, int, int]:
    """Return the workgroups of a stage kernel: sorted blocks, column blocks, parts of k."""
    blocks = ceil_div(args.sorted_rows, instance.block_m)
    columns = ceil_div(args.n, gfx9_tile(instance).block_n)
    return blocks, columns, max(args.ksplit, 1) if instance.split_k else 1


def launches(instance: Instance, args: ctypes.Structure) -> tuple[Launch, ...]:
    """Return the kernels of one stage in launch order: the GEMM, and the finish of a split.

    Parameters
    ----------
    instance : Instance
        A gfx9 instance.
    args : StageArgs
        The arguments it will be started with (`aiter_moe.targets.arguments`).

    Raises
    ------
    LaunchError
        If a size breaks what the kernel relies on: whole strips of 32 columns, aligned rows,
        31-bit offsets.
    """
    reason = _refuse(instance, args)
    if reason is not None:
        raise LaunchError(f"{instance.name} cannot be launched: {reason}; choose another plan")
    found = [Launch(instance.name, grid(instance, args), gfx9_tile(instance).threads)]
    if instance.split_k:
        finish = (ceil_div(args.sorted_rows, FINISH_ROWS), ceil_div(args.n, FINISH_COLUMNS), 1)
        found.append(Launch(instance.name + FINISH_SUFFIX, finish, FINISH_THREADS))
    return tuple(found)


def _refuse(instance: Instance, args: ctypes.Structure) -> str | None:
    fp4 = instance.kind is Kind.A4W4
    element = "codes" if fp4 else "bf16"
    for what, value, multiple in (
        ("n", args.n, STRIP_ROWS),
        ("k", args.k, MX_BLOCK),
        ("w_rows", args.w_rows, STRIP_ROWS),
        ("out_stride", args.out_stride, 4),
        (f"x_stride of {element}", args.x_stride, MX_BLOCK if fp4 else 8),
    ):
        if value % multiple:
            return f"{what} is {value}, not a multiple of {multiple}"
    if args.ksplit > 1 and not instance.split_k:
        return f"ksplit {args.ksplit} needs a split-k instance"
    rows = args.tokens if instance.stage == 1 else args.tokens * args.topk
    sizes = {
        "activations": rows * activation_row_bytes(instance, args.x_stride),
        "activation scales": (args.sorted_rows + STRIP_ROWS) * args.x_scale_stride if fp4 else 0,
        "weights of an expert": args.w_rows * (args.w_k // 2),
    }
    return _too_large(sizes)


def _too_large(sizes: Mapping[str, int]) -> str | None:
    for what, size in sizes.items():
        if size >= BUFFER_BYTES:
            return f"{what} take {size} bytes, a buffer descriptor reaches {BUFFER_BYTES - 1}"
    return None


# (strips, waves, depth, waves_per_simd, non_temporal) by block_m. Few rows: narrow tiles for many
# workgroups and a deep prefetch; many rows: one step ahead is long enough, and registers are short.
Cut = tuple[int, int, int, int, bool]
STAGE1: dict[Kind, dict[int, tuple[Cut, ...]]] = {
    Kind.A4W4: {
        16: ((2, 2, 2, 2, True), (2, 4, 2, 2, True)),
        32: ((2, 4, 2, 2, True),),
        64: ((2, 4, 2, 2, False),),
        128: ((2, 4, 1, 1, False),),
    },
    Kind.A16W4: {
        16: ((2, 2, 2, 2, True), (2, 4, 2, 2, True)),
        32: ((2, 4, 2, 2, True),),
        64: ((2, 4, 1, 2, False),),
        128: ((2, 4, 1, 1, False),),
    },
}
STAGE2: dict[Kind, dict[int, tuple[Cut, ...]]] = {
    kind: {
        16: ((1, 4, 2, 2, True), (2, 4, 2, 2, True)),
        32: ((2, 4, 2, 2, True),),
        64: ((2, 4, depth, 2, False),),
        128: ((2, 4, 1, 1, False),),
    }
    for kind, depth in ((Kind.A4W4, 2), (Kind.A16W4, 1))
}


def gfx950_instances() -> Iterator[Instance]:
    """Yield every gfx950 instance: kinds x block_m x tiles x activations, in fixed order."""
    for kind in Kind:
        for block_m, cuts in STAGE1[kind].items():
            for cut in cuts:
                yield from _stage1(kind, block_m, cut)
        for block_m, cuts in STAGE2[kind].items():
            for cut in cuts:
                yield Instance("gfx950", kind, 2, block_m, None, False, Gfx9Tile(2, *cut))


def _stage1(kind: Kind, block_m: int, cut: Cut) -> Iterator[Instance]:
    for split_k in (False, True) if kind is Kind.A16W4 else (False,):
        tile = Gfx9Tile(1, *cut, split_k=split_k)
        for activation in ACTIVATIONS:
            yield Instance("gfx950", kind, 1, block_m, activation, split_k, tile)
