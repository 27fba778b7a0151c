# SPDX-License-Identifier: MIT
"""The GPUs of the gfx9 family: tiles, what they cost, which problems fit, how they are launched."""

from aiter_moe.codegen.gfx9.launch import FINISH_SUFFIX, Launch, launches
from aiter_moe.codegen.gfx9.tile import Gfx9Tile, gfx9_tile

__all__ = ["FINISH_SUFFIX", "Gfx9Tile", "Launch", "gfx9_tile", "launches"]
