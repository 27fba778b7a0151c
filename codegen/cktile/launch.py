# SPDX-License-Identifier: MIT
"""How a CK-tile kernel is started: which of an artifact's two, its grid, what it relies on."""

from __future__ import annotations

import ctypes

from aiter_moe.codegen.cktile.tile import ODD_SUFFIX, THREADS, CkTile, cktile
from aiter_moe.codegen.gfx9.launch import Launch
from aiter_moe.codegen.gfx9.rules import too_large
from aiter_moe.codegen.instance import Instance
from aiter_moe.errors import LaunchError
from aiter_moe.formats import MX_BLOCK
from aiter_moe.sizes import ceil_div


def cktile_launches(instance: Instance, args: ctypes.Structure) -> tuple[Launch, ...]:
    """Return the kernel of one stage.

    Parameters
    ----------
    instance : Instance
        Of `codegen.cktile`.
    args : StageArgs
        The arguments it will be started with.

    Raises
    ------
    LaunchError
        If the arguments ask for what CK's kernel does not do.
    """
    tile = cktile(instance)
    reason = _refuse(tile, args)
    if reason is not None:
        raise LaunchError(f"{instance.name} cannot be launched: {reason}; choose another plan")
    blocks = args.sorted_rows // tile.block_m
    groups = blocks * ceil_div(args.w_rows, tile.block_n)
    odd = ODD_SUFFIX if args.k // tile.block_k % 2 else ""
    return (Launch(instance.name + odd, (groups, 1, 1), THREADS),)


def _refuse(tile: CkTile, args: ctypes.Structure) -> str | None:
    first = tile.stage == 1
    rows = args.n * (2 if first else 1)
    for what, value, wanted in (
        ("w_rows", args.w_rows, rows),
        ("w_k", args.w_k, args.k),
        ("w_scale_cols", args.w_scale_cols, args.k // MX_BLOCK),
        ("bias_stride", args.bias_stride if tile.bias else rows, rows),
        ("interleaved", args.interleaved, 1 if first else 0),
        ("doweight", args.doweight, 0 if first else 1),
        ("out_type", args.out_type, 0),
    ):
        if value != wanted:
            return f"{what} is {value}, CK-tile takes {wanted}"
    for what, value, multiple in (
        ("k", args.k, tile.block_k),
        ("w_rows", args.w_rows, tile.block_n),
        ("x_stride", args.x_stride, 8),
        ("out_stride", args.out_stride, 2),
    ):
        if value % multiple:
            return f"{what} is {value}, not a multiple of {multiple}"
    if bool(args.bias) is not tile.bias:
        return "there is a bias" if args.bias else "there is no bias"
    return too_large(_sizes(tile, args))


def _sizes(tile: CkTile, args: ctypes.Structure) -> dict[str, int]:
    pairs = args.tokens * args.topk
    rows_in, rows_out = (args.tokens, pairs) if tile.stage == 1 else (pairs, args.tokens)
    # a pad names the row behind the last, which must still be out of range
    return {
        "activations": (rows_in + args.topk) * args.x_stride * 2,
        "output rows": (rows_out + args.topk) * args.out_stride * 2,
        "weights of an expert": args.w_rows * (args.w_k // 2),
    }
