# SPDX-License-Identifier: MIT
"""The scale layout of gfx1250, for weights that travel between machines; no kernel reads it.

Tiles of 32 rows by 4 columns per expert; gate and up rows, where interleaved, alternate singly.
The layouts kernels read are `aiter_moe.layouts.scales`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from aiter_moe.errors import LayoutError
from aiter_moe.layouts.rows import GateUpRows

TILE_ROWS, TILE_COLS = 32, 4


@dataclass(frozen=True, slots=True)
class Gfx1250ScaleLayout:
    """Scales [E, N, C] as [E, N/32, C/4, 32, 4], gate and up rows alternating or not."""

    rows: GateUpRows | None = None

    def shuffle(self, scales: torch.Tensor) -> torch.Tensor:
        """Return [E, N/32, 32 * C] of scales [E, N, C].

        Raises
        ------
        LayoutError
            Not three dimensions, N % 32 or C % 4.
        """
        if scales.dim() != 3 or scales.shape[1] % TILE_ROWS or scales.shape[2] % TILE_COLS:
            raise LayoutError(
                f"gfx1250 scales are tiles of {TILE_ROWS} x {TILE_COLS} over [E, N, C]; "
                f"found {list(scales.shape)}; pad rows and columns to whole tiles"
            )
        ordered = self.rows.interleave(scales) if self.rows else scales
        experts, rows, cols = ordered.shape
        tiles = ordered.reshape(
            experts, rows // TILE_ROWS, TILE_ROWS, cols // TILE_COLS, TILE_COLS
        ).transpose(2, 3)
        return tiles.reshape(experts, rows // TILE_ROWS, TILE_ROWS * cols)

    def unshuffle(self, scales: torch.Tensor) -> torch.Tensor:
        """Undo `shuffle`: [E, N/32, 32 * C] to [E, N, C].

        Raises
        ------
        LayoutError
            The shape is not one that `shuffle` returns.
        """
        if scales.dim() != 3 or scales.shape[2] % (TILE_ROWS * TILE_COLS):
            raise LayoutError(
                f"shuffled gfx1250 scales are [E, N/{TILE_ROWS}, {TILE_ROWS} * C] with C a "
                f"multiple of {TILE_COLS}; found {list(scales.shape)}"
            )
        experts, row_tiles, width = scales.shape
        cols = width // TILE_ROWS
        tiles = scales.reshape(experts, row_tiles, cols // TILE_COLS, TILE_ROWS, TILE_COLS)
        ordered = tiles.transpose(2, 3).reshape(experts, row_tiles * TILE_ROWS, cols)
        return self.rows.separate(ordered) if self.rows else ordered
