# SPDX-License-Identifier: MIT
"""S, the tiled layout of e8m0 scales, as a type with an inverse and a padding rule.

A tile is 32 rows by 8 scale columns, 256 bytes that a 64-lane wave reads as one dword per
lane. Weight codes are `aiter_moe.layouts.weights`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from aiter_moe.errors import LayoutError
from aiter_moe.formats import UNIT_SCALE
from aiter_moe.layouts.rows import GateUpRows
from aiter_moe.sizes import round_up

ROW_TILE = 32
COL_TILE = 8
WEIGHT_ROWS_MULTIPLE = 256
"""aiter pads the stacked rows of weight scales to this."""


@dataclass(frozen=True, slots=True)
class ScaleLayout:
    """Tiles of 32 rows by 8 columns, over an optional gate/up interleave per expert.

    The byte of (row r, column g) of C padded columns lies at ``(r // 32) * 32 * C
    + (g // 8) * 256 + (g % 4) * 64 + (r % 16) * 4 + ((g % 8) // 4) * 2 + (r % 32) // 16``.
    Padding holds 0x7F (1.0). `interleave` is the block of `GateUpRows`, 0 for none.
    """

    interleave: int = 0

    def __str__(self) -> str:
        return f"R{self.interleave}+S" if self.interleave else "S"

    def physical_shape(self, rows: int, cols: int, row_multiple: int = ROW_TILE) -> tuple[int, int]:
        """Return the padded (rows, columns) that [rows, cols] occupies."""
        return round_up(rows, row_multiple), round_up(cols, COL_TILE)

    def shuffle(
        self, scale: torch.Tensor, experts: int = 1, row_multiple: int = ROW_TILE
    ) -> torch.Tensor:
        """Lay stacked scales [experts * N, cols] of one byte each out in tiles.

        Parameters
        ----------
        scale : torch.Tensor
            uint8 [experts * N, cols].
        experts : int
            Matrices stacked along the rows; only an interleave looks at it.
        row_multiple : int
            The row count is padded to this multiple, itself a multiple of 32.

        Returns
        -------
        torch.Tensor
            uint8 of `physical_shape`.

        Raises
        ------
        LayoutError
            Not a matrix, or the rows of an expert do not divide for the interleave.
        """
        self._check(scale, experts)
        rows, cols = scale.shape
        physical = self.physical_shape(rows, cols, row_multiple)
        out = scale.new_full(physical, UNIT_SCALE)
        out[:rows, :cols] = self._each_expert(scale, experts, inverse=False)
        tiles = out.view(physical[0] // ROW_TILE, 2, 16, physical[1] // COL_TILE, 2, 4)
        return tiles.permute(0, 3, 5, 2, 4, 1).reshape(physical)

    def unshuffle(
        self,
        scale: torch.Tensor,
        experts: int = 1,
        rows: int | None = None,
        cols: int | None = None,
    ) -> torch.Tensor:
        """Undo `shuffle`, cutting the padding off.

        Parameters
        ----------
        scale : torch.Tensor
            uint8 [padded rows, padded cols].
        experts : int
            Matrices stacked along the rows; only an interleave looks at it.
        rows, cols : int, optional
            Original counts; None keeps the padding.

        Returns
        -------
        torch.Tensor
            uint8 [rows, cols].

        Raises
        ------
        LayoutError
            The shape does not divide into tiles, or holds fewer rows or columns than asked.
        """
        self._check(scale, 1)
        height, width = scale.shape
        if height % ROW_TILE or width % COL_TILE:
            raise LayoutError(
                f"{self} divides into tiles of {ROW_TILE} x {COL_TILE}, found shape "
                f"{(height, width)}; was this scale shuffled?"
            )
        rows = height if rows is None else rows
        cols = width if cols is None else cols
        if not (0 <= rows <= height and 0 <= cols <= width):
            raise LayoutError(f"asked for [{rows}, {cols}] of a scale of shape {(height, width)}")
        tiles = scale.reshape(height // ROW_TILE, width // COL_TILE, 4, 16, 2, 2)
        plain = tiles.permute(0, 5, 3, 1, 4, 2).reshape(height, width)[:rows, :cols]
        return self._each_expert(plain, experts, inverse=True).clone(
            memory_format=torch.contiguous_format
        )

    def _each_expert(self, scale: torch.Tensor, experts: int, *, inverse: bool) -> torch.Tensor:
        if not self.interleave:
            return scale
        self._check(scale, experts)
        order = GateUpRows(self.interleave)
        stacked = scale.reshape(experts, scale.shape[0] // experts, scale.shape[1])
        moved = order.separate(stacked) if inverse else order.interleave(stacked)
        return moved.reshape(scale.shape)

    def _check(self, scale: torch.Tensor, experts: int) -> None:
        if scale.dim() != 2:
            raise LayoutError(
                f"{self} takes scales as a matrix [rows, K/32], found shape {tuple(scale.shape)}; "
                "flatten the leading axes with .view(-1, K // 32)"
            )
        if experts < 1 or scale.shape[0] % experts:
            raise LayoutError(
                f"{self}: {scale.shape[0]} stacked scale rows do not divide among {experts} experts"
            )


S = ScaleLayout()
R16_S = ScaleLayout(interleave=16)
