# SPDX-License-Identifier: MIT
"""W, the tiled layout of weight codes, as a type with an inverse.

A tile is 16 rows of 16 bytes (32 fp4 codes), what one matrix instruction reads; tiles are
ordered row block first. Scales are `aiter_moe.layouts.scales`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from aiter_moe.errors import LayoutError
from aiter_moe.layouts.rows import GateUpRows

ROW_TILE = 16
RUN = 16
COLS_MULTIPLE = 64
"""fp4 columns (K) of a shuffled weight are a multiple of this."""


@dataclass(frozen=True, slots=True)
class WeightLayout:
    """Row tiles of `tile_rows` rows by `run` elements, over an optional gate/up interleave.

    Element (n, k) of a matrix with C columns lies at
    ``((n // T) * (C // R) + k // R) * T * R + (n % T) * R + k % R`` with T = tile_rows and
    R = run; for packed fp4 an element is a byte. `interleave` is the block of `GateUpRows`
    applied to the rows first, 0 for none.
    """

    tile_rows: int = ROW_TILE
    run: int = RUN
    interleave: int = 0

    def __str__(self) -> str:
        rows = f"R{self.interleave}+" if self.interleave else ""
        tile = (
            "" if (self.tile_rows, self.run) == (ROW_TILE, RUN) else f"{self.tile_rows}x{self.run}"
        )
        return f"{rows}W{tile}"

    def shuffle(self, x: torch.Tensor) -> torch.Tensor:
        """Lay matrices [..., N, C] out in tiles; shape and dtype stay.

        Raises
        ------
        LayoutError
            N or C is not a multiple of the tile.
        """
        self.check(x)
        rows = GateUpRows(self.interleave).interleave(x) if self.interleave else x
        lead, n, c = x.shape[:-2], x.shape[-2], x.shape[-1]
        tiles = rows.reshape(*lead, n // self.tile_rows, self.tile_rows, c // self.run, self.run)
        return _copy(tiles.transpose(-3, -2)).view(x.shape)

    def unshuffle(self, x: torch.Tensor) -> torch.Tensor:
        """Undo `shuffle`.

        Raises
        ------
        LayoutError
            N or C is not a multiple of the tile.
        """
        self.check(x)
        lead, n, c = x.shape[:-2], x.shape[-2], x.shape[-1]
        tiles = x.reshape(*lead, n // self.tile_rows, c // self.run, self.tile_rows, self.run)
        rows = _copy(tiles.transpose(-3, -2)).view(x.shape)
        return GateUpRows(self.interleave).separate(rows) if self.interleave else rows

    def check(self, x: torch.Tensor) -> None:
        """Raise LayoutError unless the last two axes of `x` divide into tiles."""
        if x.dim() < 2:
            raise LayoutError(f"{self} needs a matrix [..., N, C], found shape {tuple(x.shape)}")
        n, c = x.shape[-2], x.shape[-1]
        row_multiple = max(self.tile_rows, 2 * self.interleave)
        if n % row_multiple:
            raise LayoutError(
                f"{self} needs N % {row_multiple} == 0, found N = {n} in shape {tuple(x.shape)}"
            )
        if c % self.run:
            raise LayoutError(
                f"{self} needs the last axis to be a multiple of {self.run}, found {c} in shape "
                f"{tuple(x.shape)}"
            )


def _copy(x: torch.Tensor) -> torch.Tensor:
    # A plain reshape would alias the input when a matrix is a single tile.
    return x.clone(memory_format=torch.contiguous_format)


W = WeightLayout()
R16_W = WeightLayout(interleave=16)
