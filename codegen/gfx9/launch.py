# SPDX-License-Identifier: MIT
"""The kernel launches of a stage: symbols, grids and what the arguments must keep to.

Nothing here touches a device: a launcher takes `launches` and starts them in order.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from aiter_moe.codegen.gfx9.device import XCDS, device_of
from aiter_moe.codegen.gfx9.direct import DirectTile, direct_groups, direct_refusal
from aiter_moe.codegen.gfx9.resources import activation_row_bytes, workgroups_per_cu
from aiter_moe.codegen.gfx9.rules import too_large
from aiter_moe.codegen.gfx9.tile import (
    FINISH_COLUMNS,
    FINISH_ROWS,
    FINISH_THREADS,
    STRIP_ROWS,
    gfx9_tile,
)
from aiter_moe.codegen.instance import Instance
from aiter_moe.enums import Kind
from aiter_moe.errors import LaunchError
from aiter_moe.formats import MX_BLOCK
from aiter_moe.sizes import ceil_div, round_up

FINISH_SUFFIX = "_finish"


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


def work_items(instance: Instance, args: ctypes.Structure) -> int:
    """Return the most a stage kernel can have to do: row blocks x column blocks x parts of k."""
    blocks = ceil_div(args.sorted_rows, instance.block_m)
    columns = ceil_div(args.n, gfx9_tile(instance).block_n)
    return blocks * columns * (max(args.ksplit, 1) if instance.split_k else 1)


def groups(instance: Instance, args: ctypes.Structure, compute_units: int | None = None) -> int:
    """Return the workgroups of a stage kernel: a multiple of the XCDs (csrc/hip/work.h).

    One for each work item, or, for a persistent kernel, as many as `compute_units` hold at a time
    (None: those of the whole device).
    """
    items = work_items(instance, args)
    if gfx9_tile(instance).persistent:
        units = compute_units or device_of(instance).compute_units
        items = min(items, units * workgroups_per_cu(instance))
    return round_up(items, XCDS)


def launches(
    instance: Instance, args: ctypes.Structure, compute_units: int | None = None
) -> tuple[Launch, ...]:
    """Return the kernels of one stage in launch order: the GEMM, and the finish of a split.

    Parameters
    ----------
    instance : Instance
        An instance for a gfx9 GPU, of whatever family.
    args : StageArgs
        The arguments it will be started with (`aiter_moe.targets.arguments`).
    compute_units : int or None
        Of the device, which persistent kernels fill; None: of a whole GPU.

    Raises
    ------
    LaunchError
        If a size breaks what the kernel relies on: whole strips of 32 columns, aligned rows,
        31-bit offsets.
    """
    if instance.family:
        from aiter_moe.codegen.cktile.launch import cktile_launches

        return cktile_launches(instance, args)
    direct = isinstance(instance.tile, DirectTile)
    reason = direct_refusal(instance, args) if direct else _refuse(instance, args)
    if reason is not None:
        raise LaunchError(f"{instance.name} cannot be launched: {reason}; choose another plan")
    if isinstance(instance.tile, DirectTile):
        grid = (direct_groups(instance, args), 1, 1)
        return (Launch(instance.name, grid, instance.tile.threads),)
    found = [
        Launch(
            instance.name,
            (groups(instance, args, compute_units), 1, 1),
            gfx9_tile(instance).threads,
        )
    ]
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
    return too_large(sizes)
