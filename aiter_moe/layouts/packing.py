# SPDX-License-Identifier: MIT
"""What a `PackedWeight` knows beside its bytes, and the check that bytes can be what it says.

The tensor itself is `aiter_moe.layouts.packed`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from aiter_moe.errors import ArgumentError, LayoutError
from aiter_moe.formats import MX_BLOCK
from aiter_moe.layouts.layout import Layout
from aiter_moe.layouts.panels import PANEL_ROWS, panel_shape
from aiter_moe.layouts.scales import COL_TILE, ROW_TILE
from aiter_moe.layouts.weights import COLS_MULTIPLE
from aiter_moe.sizes import round_up


@dataclass(frozen=True, slots=True)
class Packing:
    """Layout and logical size of one expert: `rows` (N) by `cols` (K) elements."""

    layout: Layout
    rows: int
    cols: int


def physical_size(packing: Packing) -> tuple[int, int]:
    """Return the rows and columns of one expert in memory, in elements."""
    if packing.layout is Layout.PLAIN:
        return packing.rows, packing.cols
    if packing.layout.is_panel:
        return round_up(packing.rows, PANEL_ROWS), packing.cols
    return packing.rows, round_up(packing.cols, COLS_MULTIPLE)


def physical_shapes(packing: Packing, experts: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of the codes and scales of so many experts."""
    if packing.layout.is_panel:
        return (experts, *panel_shape(packing.rows, packing.cols)), (0, 0)
    rows, cols = physical_size(packing)
    groups = cols // MX_BLOCK
    if packing.layout is not Layout.PLAIN:
        groups = round_up(groups, COL_TILE)
    return (experts, rows, cols // 2), (experts * rows, groups)


def check_rows(layout: Layout, rows: int) -> None:
    """Refuse rows that a layout cannot hold.

    Raises
    ------
    LayoutError
        N is not a multiple of 32, which all but PLAIN and PANEL need.
    """
    if rows % ROW_TILE and layout not in (Layout.PLAIN, Layout.PANEL):
        raise LayoutError(
            f"{layout} needs N % {ROW_TILE} == 0, found N = {rows}; pad the rows with zero codes"
        )


def stacked_scales(codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Return row-major scales as a matrix [E * N, K/32].

    Raises
    ------
    ArgumentError
        They do not belong to `codes` [E, N, K/2].
    """
    if codes.dim() != 3 or codes.shape[2] % (MX_BLOCK // 2):
        raise ArgumentError(
            f"codes must be [experts, rows, K/2] with K % {MX_BLOCK} == 0, found "
            f"{tuple(codes.shape)}"
        )
    experts, rows, groups = codes.shape[0], codes.shape[1], codes.shape[2] * 2 // MX_BLOCK
    if tuple(scales.shape) not in {(experts, rows, groups), (experts * rows, groups)}:
        raise ArgumentError(
            f"codes {tuple(codes.shape)} need scales [{experts}, {rows}, {groups}] or "
            f"[{experts * rows}, {groups}], found {tuple(scales.shape)}"
        )
    return scales.reshape(experts * rows, groups)


def check_packing(codes: torch.Tensor, scales: torch.Tensor, packing: Packing) -> None:
    """Refuse tensors whose dtype, shape or strides `packing` does not explain.

    Raises
    ------
    LayoutError
        Named with what was wanted and found.
    """
    if codes.dtype != torch.uint8 or codes.dim() != 3 or not codes.is_contiguous():
        raise LayoutError(f"codes must be contiguous uint8 [E, N, K/2], found {_describe(codes)}")
    if scales.dtype != torch.uint8 or scales.dim() != 2 or not scales.is_contiguous():
        raise LayoutError(f"scales must be a contiguous uint8 matrix, found {_describe(scales)}")
    if codes.device != scales.device:
        raise LayoutError(f"codes are on {codes.device}, scales on {scales.device}")
    check_rows(packing.layout, packing.rows)
    wanted, wanted_scales = physical_shapes(packing, codes.shape[0])
    if packing.cols % MX_BLOCK or codes.shape != wanted:
        raise LayoutError(
            f"{_size(codes, packing)} has codes [E, {wanted[1]}, {wanted[2]}] (K a multiple of "
            f"{MX_BLOCK}, padded to {COLS_MULTIPLE} when shuffled; N padded to {PANEL_ROWS} in "
            f"panels), found {_describe(codes)}"
        )
    if scales.shape[0] < wanted_scales[0] or scales.shape[1] != wanted_scales[1]:
        where = " (they lie among the codes)" if packing.layout.is_panel else ""
        raise LayoutError(
            f"{_size(codes, packing)} has scales {list(wanted_scales)}{where}, found "
            f"{_describe(scales)}"
        )


def _size(codes: torch.Tensor, packing: Packing) -> str:
    return f"{packing.layout} of {codes.shape[0]} x {packing.rows} x {packing.cols} elements"


def _describe(x: torch.Tensor) -> str:
    return f"{x.dtype} {tuple(x.shape)} with strides {x.stride()}"
