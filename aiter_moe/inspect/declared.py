# SPDX-License-Identifier: MIT
"""What the tile of an instance says of a workgroup that its binary alone does not."""

from __future__ import annotations

from dataclasses import dataclass

from aiter_moe.codegen.cktile.tile import CkTile
from aiter_moe.codegen.gfx9 import Gfx9Tile
from aiter_moe.codegen.gfx9.direct import DirectTile
from aiter_moe.codegen.instance import Instance


@dataclass(frozen=True, slots=True)
class Declared:
    """A workgroup as its tile has it.

    Attributes
    ----------
    columns : int
        Output columns.
    sharers : int
        Waves that load the same weights.
    """

    columns: int
    sharers: int = 1


def declared(instance: Instance) -> Declared | None:
    """Return what an instance's tile says; None for the tile of another target."""
    tile = instance.tile
    if isinstance(tile, Gfx9Tile):
        return Declared(tile.block_n, tile.row_waves)
    if isinstance(tile, DirectTile):
        return Declared(tile.block_n)
    if isinstance(tile, CkTile):
        return Declared(tile.block_n // (2 if tile.stage == 1 else 1))
    return None
