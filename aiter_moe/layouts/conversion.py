# SPDX-License-Identifier: MIT
"""From row-major bytes to those of each `Layout`, and back.

Where the bytes of a layout lie is `aiter_moe.layouts.weights`, `aiter_moe.layouts.scales` and
`aiter_moe.layouts.panels`; here is which of them a layout takes, and its padding.
"""

from __future__ import annotations

import torch

from aiter_moe.errors import LayoutError
from aiter_moe.formats import MX_BLOCK
from aiter_moe.layouts.layout import Layout
from aiter_moe.layouts.marks import KERNEL_LAYOUTS
from aiter_moe.layouts.packing import Packing
from aiter_moe.layouts.panels import from_panels, to_panels
from aiter_moe.layouts.rows import GateUpRows
from aiter_moe.layouts.scales import ROW_TILE
from aiter_moe.layouts.weights import COLS_MULTIPLE
from aiter_moe.sizes import round_up

_GATE_UP = GateUpRows(16)


def lay_out(
    codes: torch.Tensor, scales: torch.Tensor, layout: Layout
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return codes and scales of a row-major weight in `layout`, padded with code 0, scale 0x7F.

    Parameters
    ----------
    codes : torch.Tensor
        uint8 [E, N, K/2], K a multiple of 32.
    scales : torch.Tensor
        uint8 [E * N, K/32].
    layout : Layout
        PLAIN keeps the given memory where it is contiguous.

    Raises
    ------
    LayoutError
        N is not a multiple of 32, which all but PLAIN and PANEL need.
    """
    experts, rows = codes.shape[0], codes.shape[1]
    if layout is Layout.PLAIN:
        return codes.contiguous(), scales.contiguous()
    if rows % ROW_TILE and layout is not Layout.PANEL:
        raise LayoutError(
            f"{layout} needs N % {ROW_TILE} == 0, so that the scales of an expert are "
            f"contiguous; found N = {rows}; pad the rows with zero codes"
        )
    if layout.is_panel:
        by_expert = scales.view(experts, rows, scales.shape[1])
        if layout is Layout.PANEL_GATE_UP:
            codes, by_expert = _GATE_UP.interleave(codes), _GATE_UP.interleave(by_expert)
        return to_panels(codes, by_expert), codes.new_empty((0, 0))
    code_map, scale_map = KERNEL_LAYOUTS[layout]
    missing = round_up(2 * codes.shape[2], COLS_MULTIPLE) // 2 - codes.shape[2]
    wide = torch.nn.functional.pad(codes, (0, missing))
    return code_map.shuffle(wide), scale_map.shuffle(scales, max(1, experts))


def row_major(
    codes: torch.Tensor, scales: torch.Tensor, packing: Packing
) -> tuple[torch.Tensor, torch.Tensor]:
    """Undo `lay_out`, cutting the padding off.

    Returns
    -------
    codes, scales : torch.Tensor
        uint8 [E, N, K/2] and [E, N, K/32].
    """
    layout, experts, rows = packing.layout, codes.shape[0], packing.rows
    groups = packing.cols // MX_BLOCK
    if layout.is_panel:
        plain, by_expert = from_panels(codes, rows)
        if layout is Layout.PANEL_GATE_UP:
            plain, by_expert = _GATE_UP.separate(plain), _GATE_UP.separate(by_expert)
        return plain, by_expert
    used = scales[: experts * rows]
    if layout is Layout.PLAIN:
        return codes, used.view(experts, rows, groups)
    code_map, scale_map = KERNEL_LAYOUTS[layout]
    plain = code_map.unshuffle(codes)[..., : packing.cols // 2].contiguous()
    unshuffled = scale_map.unshuffle(used, max(1, experts), cols=groups)
    return plain, unshuffled.view(experts, rows, groups)
