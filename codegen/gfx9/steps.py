# SPDX-License-Identifier: MIT
"""The kernels between stage kernels: sort, quantise, scatter of scales, reduce.

They do not depend on a problem, so that there is one code object of them per target. Here: its
build unit, symbols and grids; what they do is in csrc/hip/steps.
"""

from __future__ import annotations

import ctypes

from aiter_moe.codegen.gfx9.device import WAVE_LANES
from aiter_moe.codegen.gfx9.launch import Launch
from aiter_moe.codegen.render import unit_of_template
from aiter_moe.codegen.unit import BuildUnit
from aiter_moe.errors import LaunchError
from aiter_moe.sizes import ceil_div, round_up

PREFIX = "aiter_moe_step_"
SORT, SCATTER = f"{PREFIX}sort", f"{PREFIX}scatter_scales"
# Followed by the type of the rows, or of the output.
QUANTISE, REDUCE = f"{PREFIX}quantise_", f"{PREFIX}reduce_"
TEMPLATE = "gfx9_steps.hip.j2"
SORT_EXPERTS = 4096
SORT_THREADS = 1024
SORT_BATCH = 4 * WAVE_LANES
THREADS = 256
LANE_ELEMENTS = 8
LANE_COLUMNS = 4
# What a workgroup of the sort may clear before another one helps.
CLEARED_BYTES = 1 << 16
HELPERS = 256

QUANTISED = {"bf16": "Bf16Row", "f16": "WideRow<_Float16>", "f32": "WideRow<float>"}
REDUCED = {"bf16": "__bf16", "f16": "_Float16", "f32": "float"}


def steps_unit(target: str) -> BuildUnit:
    """Return the build unit of a GPU target's steps.

    Parameters
    ----------
    target : str
        ``gfx950`` or ``gfx942``.
    """
    parameters = {
        "prefix": PREFIX,
        "sort_threads": SORT_THREADS,
        "threads": THREADS,
        "quantised": list(QUANTISED.items()),
        "reduced": list(REDUCED.items()),
    }
    return unit_of_template(f"aiter_moe_{target}_steps", target, TEMPLATE, parameters)


def is_step(symbol: str) -> bool:
    """Say whether a kernel is one of the steps between stage kernels."""
    return symbol.startswith(PREFIX)


def sort_launch(args: ctypes.Structure) -> Launch:
    """Return the launch of a sort, and write its sizes to `args`: a workgroup per expert.

    Raises
    ------
    LaunchError
        If there are more experts than the kernel counts.
    """
    if args.experts > SORT_EXPERTS:
        raise LaunchError(
            f"the sort on a GPU counts up to {SORT_EXPERTS} experts, found {args.experts}"
        )
    batches = max(ceil_div(args.tokens * args.topk, SORT_BATCH), 1)
    waves = min(batches, SORT_THREADS // WAVE_LANES)
    args.threads, args.wave_batches = WAVE_LANES * waves, ceil_div(batches, waves)
    cleared = args.cleared_rows * args.cleared_bytes if args.cleared else 0
    args.groups = max(args.experts, min(ceil_div(cleared, CLEARED_BYTES), HELPERS))
    return Launch(SORT, (args.groups, 1, 1), args.threads)


def quantise_launch(args: ctypes.Structure, element: str) -> Launch:
    """Return the launch of a quantisation, and write its sizes to `args`.

    Parameters
    ----------
    args : QuantiseStepArgs
        Its arguments.
    element : str
        Type of the rows: a key of `QUANTISED`.
    """
    return _by_row(f"{QUANTISE}{element}", args)


def scatter_launch(args: ctypes.Structure) -> Launch:
    """Return the launch that lays given scales out, and write its sizes to `args`."""
    return _by_row(SCATTER, args)


def _by_row(symbol: str, args: ctypes.Structure) -> Launch:
    lanes = max(args.columns // LANE_ELEMENTS, args.scale_stride * (32 // LANE_ELEMENTS))
    args.threads = min(THREADS, round_up(lanes, WAVE_LANES))
    return Launch(symbol, (args.rows, ceil_div(lanes, args.threads), 1), args.threads)


def reduce_launch(args: ctypes.Structure, element: str) -> Launch:
    """Return the launch of a sum over slots, and write its sizes to `args`.

    Parameters
    ----------
    args : ReduceStepArgs
        Its arguments.
    element : str
        Type of the output: a key of `REDUCED`.

    Raises
    ------
    LaunchError
        If columns are no whole fours.
    """
    if args.columns % LANE_COLUMNS or args.out_columns % LANE_COLUMNS:
        raise LaunchError(
            f"the sum over slots takes columns by {LANE_COLUMNS}, found {args.columns} into "
            f"{args.out_columns}"
        )
    lanes = args.out_columns // LANE_COLUMNS
    args.threads = min(THREADS, round_up(lanes, WAVE_LANES))
    grid = (args.tokens, ceil_div(lanes, args.threads), 1)
    return Launch(f"{REDUCE}{element}", grid, args.threads)
