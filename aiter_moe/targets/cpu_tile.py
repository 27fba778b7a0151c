# SPDX-License-Identifier: MIT
"""What a CPU kernel, compiled once for many tiles, is told of its tile at run time."""

from __future__ import annotations

from aiter_moe.codegen.cpu import CpuTile
from aiter_moe.codegen.instance import Instance
from aiter_moe.targets.arguments import StageArgs


def set_tile(args: StageArgs, instance: Instance) -> None:
    """Write what a CPU kernel reads at run time of its instance."""
    tile = instance.tile
    assert isinstance(tile, CpuTile), "the kernel is not for the CPU"
    args.block_m, args.columns, args.ahead = instance.block_m, tile.columns, tile.ahead
