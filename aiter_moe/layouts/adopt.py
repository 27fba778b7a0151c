# SPDX-License-Identifier: MIT
"""Reading the layout of raw tensors as aiter's callers pass them, without copying a byte.

Three things can speak: our exact mark, aiter's ``is_shuffled``, and the shape of the scales.
Whatever contradicts is refused by name.
"""

from __future__ import annotations

import torch

from aiter_moe.errors import ArgumentError, LayoutError
from aiter_moe.formats import MX_BLOCK, code_bytes, scale_bytes
from aiter_moe.layouts.layout import Layout
from aiter_moe.layouts.marks import SHUFFLE_KINDS, is_shuffled, kernel_layout, mark_of
from aiter_moe.layouts.scales import COL_TILE, WEIGHT_ROWS_MULTIPLE, ScaleLayout
from aiter_moe.layouts.weights import WeightLayout
from aiter_moe.sizes import round_up

_LOST_MARK = (
    "the mark is lost by .view(), .to(), slicing, .data = and nn.Parameter(); set "
    "is_shuffled = True on the tensor that is passed, or keep weights in a PackedWeight"
)


def adopt(
    weight: torch.Tensor, scale: torch.Tensor, gate_up: bool | None, name: str
) -> tuple[torch.Tensor, torch.Tensor, Layout]:
    """Return codes, scales and layout of a weight as aiter holds it.

    Parameters
    ----------
    weight : torch.Tensor
        uint8 or fp4x2 [E, N, K/2].
    scale : torch.Tensor
        uint8 or e8m0, a matrix of stacked rows or [E, N, columns].
    gate_up : bool or None
        The caller expects gate and up rows interleaved (True), not (False), or has no opinion.
    name : str
        ``w1`` or ``w2``, for messages.

    Returns
    -------
    codes : torch.Tensor
        uint8 [E, N, K/2], the memory of `weight`.
    scales : torch.Tensor
        uint8 matrix, the memory of `scale`.
    layout : Layout
        What the tensors say.

    Raises
    ------
    LayoutError
        Marks, expectation and shapes contradict one another.
    DtypeError
        Not MXFP4 codes and e8m0 scales.
    ArgumentError
        Shapes that no layout explains.
    """
    codes = code_bytes(weight, name)
    scales = scale_bytes(scale, f"{name}_scale")
    if codes.dim() != 3 or codes.shape[2] % (MX_BLOCK // 2):
        raise ArgumentError(
            f"{name}: wanted codes [experts, rows, K/2] with K % {MX_BLOCK} == 0, found shape "
            f"{tuple(codes.shape)}"
        )
    layout = _weight_layout(weight, scale, gate_up, name)
    _check_scale_mark(scale, layout, name)
    if layout is Layout.PLAIN:
        matrix = _plain_scales(scales, codes, name)
    else:
        matrix = _shuffled_scales(scales, codes, layout, name)
    for part, what in ((codes, name), (scales, f"{name}_scale")):
        if not part.is_contiguous():
            raise LayoutError(
                f"{what}: kernels read contiguous bytes, found strides {part.stride()}; call "
                ".contiguous(), before shuffling if it is shuffled"
            )
    return codes, matrix, layout


def _weight_layout(
    weight: torch.Tensor, scale: torch.Tensor, gate_up: bool | None, name: str
) -> Layout:
    found = mark_of(weight)
    if found is not None:
        layout = kernel_layout(found) if isinstance(found, WeightLayout) else None
        if layout is None:
            raise LayoutError(
                f"{name}: the tensor is in {found}, which no kernel reads; kernels read W "
                "(shuffle_weight) or R16+W (shuffle_weight_a16w4 with gate_up=True)"
            )
    elif is_shuffled(weight):
        layout = _foreign_layout(weight, scale, gate_up, name)
    else:
        layout = Layout.PLAIN
    if gate_up is None or (layout is Layout.SHUFFLED_GATE_UP) == gate_up:
        return layout
    if layout is Layout.PLAIN:
        raise LayoutError(
            f"{name}: gate and up rows interleaved ({Layout.SHUFFLED_GATE_UP}) were asked for, but "
            f"the tensor has no is_shuffled mark; {_LOST_MARK}"
        )
    asked = Layout.SHUFFLED_GATE_UP if gate_up else Layout.SHUFFLED
    raise LayoutError(
        f"{name}: {asked} was asked for, but the tensor is marked {layout}; shuffle it with "
        f"gate_up={gate_up}, or change gate_mode"
    )


def _foreign_layout(
    weight: torch.Tensor, scale: torch.Tensor, gate_up: bool | None, name: str
) -> Layout:
    kind = getattr(weight, "shuffle_kind", None)
    if kind is not None and kind not in SHUFFLE_KINDS:
        raise LayoutError(
            f"{name}: shuffle_kind={kind!r} is none of {', '.join(SHUFFLE_KINDS)}; shuffle the "
            "row-major weight with shuffle_weight"
        )
    if getattr(weight, "is_guinterleave", False):
        return Layout.SHUFFLED_GATE_UP
    scale_mark = mark_of(scale)
    if gate_up is None and isinstance(scale_mark, ScaleLayout):
        return kernel_layout(scale_mark) or Layout.SHUFFLED
    return Layout.SHUFFLED_GATE_UP if gate_up else Layout.SHUFFLED


def _check_scale_mark(scale: torch.Tensor, layout: Layout, name: str) -> None:
    found = mark_of(scale)
    if found is None:
        if is_shuffled(scale) and layout is Layout.PLAIN:
            raise LayoutError(
                f"{name}_scale is marked is_shuffled but {name} is not; shuffle both, or "
                f"{_LOST_MARK}"
            )
        return
    claimed = kernel_layout(found) if isinstance(found, ScaleLayout) else None
    if claimed is not layout:
        raise LayoutError(
            f"{name}_scale is marked {claimed or found}, but {name} is {layout}; give both one "
            f"layout ({_LOST_MARK})"
        )


def _shuffled_scales(
    scales: torch.Tensor, codes: torch.Tensor, layout: Layout, name: str
) -> torch.Tensor:
    experts, rows, half = codes.shape
    cols = round_up(half * 2 // MX_BLOCK, COL_TILE)
    stacked = experts * rows
    heights = (stacked, round_up(stacked, WEIGHT_ROWS_MULTIPLE))
    if scales.dim() == 3 and scales.shape == (experts, rows, cols):
        return scales.flatten(0, 1)
    if scales.dim() == 2 and scales.shape[0] in heights and scales.shape[1] == cols:
        return scales
    raise LayoutError(
        f"{name} is {layout}: its scales must be [{stacked}, {cols}], [{heights[1]}, {cols}] or "
        f"[{experts}, {rows}, {cols}], found {tuple(scales.shape)}; shuffle them with "
        "shuffle_scale (columns padded to a multiple of 8)"
    )


def _plain_scales(scales: torch.Tensor, codes: torch.Tensor, name: str) -> torch.Tensor:
    experts, rows, half = codes.shape
    groups, stacked = half * 2 // MX_BLOCK, experts * rows
    if scales.dim() == 3 and scales.shape == (experts, rows, groups):
        return scales.flatten(0, 1)
    if scales.dim() == 2 and scales.shape == (stacked, groups):
        return scales
    shape = tuple(scales.shape)
    tall = scales.dim() == 2 and shape[0] in (stacked, round_up(stacked, WEIGHT_ROWS_MULTIPLE))
    tiled = tall or (scales.dim() == 3 and shape[:2] == (experts, rows))
    if tiled and shape[-1] == round_up(groups, COL_TILE):
        raise LayoutError(
            f"{name} has no is_shuffled mark, but {name}_scale {shape} has the shape of shuffled "
            f"scales (row-major: [{stacked}, {groups}]); {_LOST_MARK}"
        )
    raise ArgumentError(
        f"{name}: row-major codes {tuple(codes.shape)} need scales [{stacked}, {groups}] or "
        f"[{experts}, {rows}, {groups}], found {shape}"
    )
