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
    layout, rows = packing.layout, packing.rows
    if rows % ROW_TILE and layout not in (Layout.PLAIN, Layout.PANEL):
        raise LayoutError(f"{layout} needs N % {ROW_TILE} == 0, found N = {rows}; pad the rows")
    if layout.is_panel:
        _check_panels(codes, scales, packing)
    else:
        _check_matrices(codes, scales, packing)


def _check_panels(codes: torch.Tensor, scales: torch.Tensor, packing: Packing) -> None:
    layout, rows, cols = packing.layout, packing.rows, packing.cols
    wanted = panel_shape(rows, cols)
    if cols % MX_BLOCK or tuple(codes.shape[1:]) != wanted:
        raise LayoutError(
            f"{layout} of {rows} x {cols} elements has codes [E, {wanted[0]}, {wanted[1]}] (K a "
            f"multiple of {MX_BLOCK}, N padded to {PANEL_ROWS}), found {_describe(codes)}"
        )
    if scales.numel():
        raise LayoutError(
            f"{layout} holds its scales among the codes, and [0, 0] as scales, found "
            f"{_describe(scales)}"
        )


def _check_matrices(codes: torch.Tensor, scales: torch.Tensor, packing: Packing) -> None:
    layout, rows, cols = packing.layout, packing.rows, packing.cols
    physical = physical_size(packing)[1]
    groups = physical // MX_BLOCK
    if layout is not Layout.PLAIN:
        groups = round_up(groups, COL_TILE)
    if cols % MX_BLOCK or tuple(codes.shape[1:]) != (rows, physical // 2):
        raise LayoutError(
            f"{layout} of {rows} x {cols} elements has codes [E, {rows}, {physical // 2}] (K a "
            f"multiple of {MX_BLOCK}, padded to {COLS_MULTIPLE} when shuffled), found "
            f"{_describe(codes)}"
        )
    if scales.shape[0] < codes.shape[0] * rows or scales.shape[1] != groups:
        raise LayoutError(
            f"{layout} of {codes.shape[0]} x {rows} x {cols} elements has scales "
            f"[{codes.shape[0] * rows}, {groups}], found {_describe(scales)}"
        )


def _describe(x: torch.Tensor) -> str:
    return f"{x.dtype} {tuple(x.shape)} with strides {x.stride()}"
