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

import torch

from aiter_moe.formats import MX_BLOCK, UNIT_SCALE
from aiter_moe.sizes import ceil_div

PANEL_ROWS = 64
TILE_BYTES = PANEL_ROWS + PANEL_ROWS * MX_BLOCK // 2
LINE_ROWS = 16
_GROUPS = PANEL_ROWS // LINE_ROWS
_LINES, _WORD = 4, 4
_BLOCK_BYTES = MX_BLOCK // 2


def panel_shape(rows: int, cols: int) -> tuple[int, int]:
    """Return the panels of one expert of `rows` x `cols` elements, and the bytes of each."""
    return ceil_div(rows, PANEL_ROWS), cols // MX_BLOCK * TILE_BYTES


def to_panels(codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Lay row-major experts out in panels.

    Parameters
    ----------
    codes : torch.Tensor
        uint8 [E, N, K/2], K a multiple of 32.
    scales : torch.Tensor
        uint8 [E, N, K/32].

    Returns
    -------
    torch.Tensor
        uint8 [E, panels, K/32 * 1088], N padded with codes 0 and scales 0x7F.
    """
    experts, rows, blocks = scales.shape
    panels, width = panel_shape(rows, blocks * MX_BLOCK)
    missing = (0, 0, 0, panels * PANEL_ROWS - rows)
    tall_codes = torch.nn.functional.pad(codes, missing)
    tall_scales = torch.nn.functional.pad(scales, missing, value=UNIT_SCALE)
    tiles = codes.new_empty((experts, panels, blocks, TILE_BYTES))
    tiles[..., :PANEL_ROWS] = tall_scales.view(experts, panels, PANEL_ROWS, blocks).mT
    by_row = tall_codes.view(experts, panels, _GROUPS, LINE_ROWS, blocks, _LINES, _WORD)
    tiles[..., PANEL_ROWS:] = by_row.permute(0, 1, 4, 2, 5, 3, 6).flatten(3)
    return tiles.view(experts, panels, width)


def from_panels(panels: torch.Tensor, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Undo `to_panels`, cutting rows past `rows` off.

    Returns
    -------
    codes, scales : torch.Tensor
        Row-major uint8 [E, rows, K/2] and [E, rows, K/32].
    """
    experts, count, width = panels.shape
    blocks = width // TILE_BYTES
    tall = count * PANEL_ROWS
    tiles = panels.view(experts, count, blocks, TILE_BYTES)
    scales = tiles[..., :PANEL_ROWS].mT.reshape(experts, tall, blocks)
    by_line = tiles[..., PANEL_ROWS:].view(*tiles.shape[:3], _GROUPS, _LINES, LINE_ROWS, _WORD)
    codes = by_line.permute(0, 1, 3, 5, 2, 4, 6).reshape(experts, tall, blocks * _BLOCK_BYTES)
    return codes[:, :rows].contiguous(), scales[:, :rows].contiguous()
