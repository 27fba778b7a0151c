# SPDX-License-Identifier: MIT
"""Panels, the layout of weights that kernels of the CPU read as one sequential stream.

A panel is 64 rows of the weight (64 columns of the output). It is a row of tiles, one per 32
elements of k, the block that shares a scale::

    weight    expert 0                                 | expert 1 ...
    expert    panel 0: rows 0..63 | panel 1: rows 64..127 | ...
    panel     tile 0: k 0..31     | tile 1: k 32..63      | ...
    tile      64 scale bytes, one per row | 4 groups of 16 rows, 256 bytes of codes each
    group     line 0: k 0..7 | line 1: k 8..15 | line 2: k 16..23 | line 3: k 24..31
    line      row 0: 4 bytes, 8 codes | row 1 | ... | row 15

The four bytes of a row in a line are those of the row-major weight, first code in the low nibble.
So byte (row r, byte b) of codes lies, within its expert of B = K/32 blocks, at
``(r // 64 * B + b // 16) * 1088 + 64 + r % 64 // 16 * 256 + b % 16 // 4 * 64 + r % 16 * 4 + b % 4``
and the scale (row r, block g) at ``(r // 64 * B + g) * 1088 + r % 64``.

Rows past N, up to whole panels, have codes 0 and scales 0x7F. The kernels' side of this is
``csrc/cpu/layout.h``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from aiter_moe.formats import MX_BLOCK, UNIT_SCALE
from aiter_moe.sizes import ceil_div

PANEL_ROWS = 64
TILE_BYTES = PANEL_ROWS + PANEL_ROWS * MX_BLOCK // 2
LINE_ROWS = 16
PAIR_ROWS = 2 * LINE_ROWS
_WORD = 4
_LINES = MX_BLOCK // 2 // _WORD


class Tiles(NamedTuple):
    """Strided views of weights, cut into 16 rows by one block: a layout is how they stride.

    Two tiles of rows are a pair: consecutive ones, or 16 gate rows and their 16 up rows. Codes
    are words of eight, which no layout takes apart.

    Attributes
    ----------
    codes : torch.Tensor
        int32 [experts, pairs, 2, K/32, 16, 4]; of panels [experts, panels, pairs, 2, ...].
    scales : torch.Tensor
        uint8 [experts, pairs, 2, 16, K/32]; likewise.
    """

    codes: torch.Tensor
    scales: torch.Tensor

    def in_panels(self, first: int, panels: int, pairs: int) -> Tiles:
        """Return `panels` x `pairs` of the pairs from `first` on, as they lie in panels."""
        codes, scales = (part.narrow(1, first, panels * pairs) for part in self)
        return Tiles(
            codes.view(codes.shape[0], panels, pairs, *codes.shape[2:]),
            scales.view(scales.shape[0], panels, pairs, *scales.shape[2:]),
        )


def panel_shape(rows: int, cols: int) -> tuple[int, int]:
    """Return the panels of one expert of `rows` x `cols` elements, and the bytes of each."""
    return ceil_div(rows, PANEL_ROWS), cols // MX_BLOCK * TILE_BYTES


def write_panels(panels: torch.Tensor, rows: Tiles) -> None:
    """Fill panels with the rows of as many experts, and what they do not reach with padding.

    Parameters
    ----------
    panels : torch.Tensor
        uint8 [E, panels, K/32 * 1088], of `panel_shape`.
    rows : Tiles
        Of E experts whose pairs are in the order of the panels.
    """
    for there, here in _beside(panels, rows):
        there.codes.copy_(here.codes)
        there.scales.copy_(here.scales)
    if rows.codes.shape[1] % 2:
        unused = _tiles_of(panels[:, -1:])
        unused.codes[:, :, 1:] = 0
        unused.scales[:, :, 1:] = UNIT_SCALE


def read_panels(panels: torch.Tensor, rows: Tiles) -> None:
    """Fill rows with what panels hold, which undoes `write_panels`."""
    for there, here in _beside(panels, rows):
        here.codes.copy_(there.codes)
        here.scales.copy_(there.scales)


def _beside(panels: torch.Tensor, rows: Tiles) -> Iterator[tuple[Tiles, Tiles]]:
    """Yield views of the same weights in panels and in rows: the whole panels, the half one."""
    tiles, (whole, half) = _tiles_of(panels), divmod(rows.codes.shape[1], 2)
    if whole:
        yield Tiles(*(part[:, :whole] for part in tiles)), rows.in_panels(0, whole, 2)
    if half:
        last = Tiles(*(part[:, whole:, :1] for part in tiles))
        yield last, rows.in_panels(2 * whole, 1, 1)


def _tiles_of(panels: torch.Tensor) -> Tiles:
    experts, count, width = panels.shape
    bytes_of = panels.view(experts, count, width // TILE_BYTES, TILE_BYTES)
    codes = bytes_of.view(torch.int32)[..., PANEL_ROWS // _WORD :]
    codes = codes.view(*codes.shape[:3], 2, 2, _LINES, LINE_ROWS).permute(0, 1, 3, 4, 2, 6, 5)
    scales = bytes_of[..., :PANEL_ROWS]
    scales = scales.view(*scales.shape[:3], 2, 2, LINE_ROWS).permute(0, 1, 3, 4, 5, 2)
    return Tiles(codes, scales)
