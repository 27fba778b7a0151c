# SPDX-License-Identifier: MIT
"""aiter's scale shuffling functions under their names and arguments, and their inverses.

The byte map is `aiter_moe.layouts.scales`. Unlike aiter's, padding is always 0x7F.
"""

from __future__ import annotations

from typing import overload

import torch

from aiter_moe.errors import ArgumentError, LayoutError
from aiter_moe.formats import scale_bytes
from aiter_moe.layouts.gfx1250_scales import Gfx1250ScaleLayout
from aiter_moe.layouts.marks import mark, refuse_other, refuse_shuffled
from aiter_moe.layouts.rows import GateUpRows
from aiter_moe.layouts.scales import (
    R16_S,
    ROW_TILE,
    WEIGHT_ROWS_MULTIPLE,
    S,
    ScaleLayout,
)


@overload
def shuffle_scale(
    scale: torch.Tensor,
    experts_cnt: int | None = ...,
    is_guinterleave: bool = ...,
    gate_up: bool = ...,
) -> torch.Tensor: ...
@overload
def shuffle_scale(
    scale: None,
    experts_cnt: int | None = ...,
    is_guinterleave: bool = ...,
    gate_up: bool = ...,
) -> None: ...


def shuffle_scale(
    scale: torch.Tensor | None,
    experts_cnt: int | None = None,
    is_guinterleave: bool = False,
    gate_up: bool = False,
) -> torch.Tensor | None:
    """Shuffle e8m0 scales into 32x8 tiles (aiter ``shuffle_scale``).

    Parameters
    ----------
    scale : torch.Tensor or None
        uint8 or e8m0 [E * N, K/32], experts stacked. None and float32 scales (of other
        quantisations) come back as they are.
    experts_cnt : int, optional
        E; needed with `is_guinterleave`.
    is_guinterleave : bool
        The a16w4 form: N % 32 == 0 and no row padding.
    gate_up : bool
        With `is_guinterleave`: interleave gate and up rows by 16 first. Ignored without it.

    Returns
    -------
    torch.Tensor or None
        Same dtype, columns padded to a multiple of 8 and rows to one of 256 (not with
        `is_guinterleave`), all padding 0x7F; ``is_shuffled`` set.

    Raises
    ------
    LayoutError
        Not a matrix, rows that do not divide, or already shuffled.
    DtypeError
        Neither uint8, e8m0 nor float32.
    ArgumentError
        `is_guinterleave` without `experts_cnt`.
    """
    if scale is None or scale.dtype == torch.float32:
        return scale
    refuse_shuffled(scale, "shuffle_scale")
    plain = scale_bytes(scale, "shuffle_scale")
    layout, experts = _scale_layout(plain, experts_cnt, is_guinterleave, gate_up)
    row_multiple = ROW_TILE if is_guinterleave else WEIGHT_ROWS_MULTIPLE
    return mark(layout.shuffle(plain, experts, row_multiple).view(scale.dtype), layout)


def unshuffle_scale(
    scale: torch.Tensor,
    experts_cnt: int | None = None,
    is_guinterleave: bool = False,
    gate_up: bool = False,
    rows: int | None = None,
    cols: int | None = None,
) -> torch.Tensor:
    """Undo `shuffle_scale` called with the same arguments.

    Parameters
    ----------
    scale : torch.Tensor
        Shuffled uint8 or e8m0 [padded rows, padded columns].
    experts_cnt, is_guinterleave, gate_up
        As given to `shuffle_scale`.
    rows, cols : int, optional
        Counts before padding; None keeps the padding.

    Returns
    -------
    torch.Tensor
        Row-major [rows, cols], same dtype, without marks.

    Raises
    ------
    LayoutError
        The shape does not divide into tiles, or `scale` is marked as another layout.
    DtypeError
        Neither uint8 nor e8m0.
    ArgumentError
        `is_guinterleave` without `experts_cnt`.
    """
    shuffled = scale_bytes(scale, "unshuffle_scale")
    layout, experts = _scale_layout(shuffled, experts_cnt, is_guinterleave, gate_up)
    refuse_other(scale, layout, "unshuffle_scale")
    return layout.unshuffle(shuffled, experts, rows, cols).view(scale.dtype)


def shuffle_scale_a16w4(src: torch.Tensor, experts_cnt: int, gate_up: bool) -> torch.Tensor:
    """Shuffle a16w4 scales (aiter ``shuffle_scale_a16w4``): no row padding, N % 32 == 0.

    Parameters
    ----------
    src : torch.Tensor
        uint8 or e8m0 [E * N, K/32].
    experts_cnt : int
        E.
    gate_up : bool
        Interleave gate and up rows by 16 first (w1), or not (w2).

    Returns
    -------
    torch.Tensor
        Same dtype [E * N, padded K/32], ``is_shuffled`` set.

    Raises
    ------
    LayoutError
        Not a matrix, rows that do not divide, or already shuffled.
    """
    return shuffle_scale(src, experts_cnt, is_guinterleave=True, gate_up=gate_up)


def moe_shuffle_scale(
    src: torch.Tensor,
    experts_cnt: int | None = None,
    is_guinterleave: bool = False,
    gate_up: bool = False,
) -> torch.Tensor:
    """Shuffle MoE scales as `shuffle_scale` does (aiter ``moe_shuffle_scale`` up to gfx950).

    Raises
    ------
    LayoutError, DtypeError, ArgumentError
        As of `shuffle_scale`.
    """
    return shuffle_scale(src, experts_cnt, is_guinterleave, gate_up)


def unshuffle_scale_a16w4(
    src: torch.Tensor, experts_cnt: int, gate_up: bool, cols: int | None = None
) -> torch.Tensor:
    """Undo `shuffle_scale_a16w4`; `cols` is the column count before padding.

    Raises
    ------
    LayoutError
        The shape does not divide into tiles, or `src` is marked as another layout.
    """
    return unshuffle_scale(src, experts_cnt, is_guinterleave=True, gate_up=gate_up, cols=cols)


@overload
def e8m0_shuffle(scale: torch.Tensor) -> torch.Tensor: ...
@overload
def e8m0_shuffle(scale: None) -> None: ...


def e8m0_shuffle(scale: torch.Tensor | None) -> torch.Tensor | None:
    """Shuffle e8m0 scales, rows padded to 256 (aiter ``e8m0_shuffle``).

    The same as `shuffle_scale` with its defaults.

    Raises
    ------
    LayoutError
        Not a matrix, or already shuffled.
    DtypeError
        Neither uint8, e8m0 nor float32.
    """
    return shuffle_scale(scale)


def e8m0_unshuffle(
    scale: torch.Tensor, rows: int | None = None, cols: int | None = None
) -> torch.Tensor:
    """Undo `e8m0_shuffle`; `rows` and `cols` cut the padding off, None keeps it.

    Raises
    ------
    LayoutError
        The shape does not divide into tiles, or `scale` is marked as another layout.
    """
    return unshuffle_scale(scale, rows=rows, cols=cols)


def _scale_layout(
    scale: torch.Tensor, experts_cnt: int | None, is_guinterleave: bool, gate_up: bool
) -> tuple[ScaleLayout, int]:
    if scale.dim() != 2:
        raise LayoutError(
            f"scales are shuffled as a matrix [rows, K/32], found shape {tuple(scale.shape)}; "
            "flatten the leading axes with .view(-1, K // 32)"
        )
    if not is_guinterleave:
        return S, 1
    if experts_cnt is None or experts_cnt < 1:
        raise ArgumentError(
            f"shuffle_scale with is_guinterleave needs experts_cnt >= 1, found {experts_cnt}"
        )
    rows = scale.shape[0]
    if rows % experts_cnt or (rows // experts_cnt) % ROW_TILE:
        raise LayoutError(
            f"is_guinterleave needs N % {ROW_TILE} == 0 rows per expert, found {rows} rows for "
            f"{experts_cnt} experts; pad N"
        )
    return (R16_S if gate_up else S), experts_cnt


def _gfx1250_layout(is_guinterleave: bool, gate_up: bool) -> Gfx1250ScaleLayout:
    return Gfx1250ScaleLayout(GateUpRows(1) if is_guinterleave and gate_up else None)


def shuffle_scale_n32k4(
    src: torch.Tensor, experts_cnt: int, is_guinterleave: bool = False, gate_up: bool = False
) -> torch.Tensor:
    """Shuffle e8m0 scales for gfx1250 (aiter ``shuffle_scale_n32k4``).

    Parameters
    ----------
    src : torch.Tensor
        uint8 or e8m0 [E * N, C] or [E, N, C], N % 32 == 0 and C % 4 == 0.
    experts_cnt : int
        E.
    is_guinterleave, gate_up : bool
        Both: gate and up rows alternate singly first.

    Returns
    -------
    torch.Tensor
        Same dtype [E, N/32, 32 * C], ``is_shuffled`` set; kernels here refuse it by name.

    Raises
    ------
    LayoutError
        The shape does not divide into tiles, or `src` is already shuffled.
    DtypeError
        Neither uint8 nor e8m0.
    """
    refuse_shuffled(src, "shuffle_scale_n32k4")
    layout = _gfx1250_layout(is_guinterleave, gate_up)
    plain = scale_bytes(src, "shuffle_scale_n32k4")
    if plain.dim() == 2 and experts_cnt > 0 and plain.shape[0] % experts_cnt == 0:
        plain = plain.reshape(experts_cnt, -1, plain.shape[1])
    return mark(layout.shuffle(plain).contiguous().view(src.dtype), layout)


def unshuffle_scale_n32k4(
    src: torch.Tensor, is_guinterleave: bool = False, gate_up: bool = False
) -> torch.Tensor:
    """Undo `shuffle_scale_n32k4`: row-major [E, N, C], same dtype, without marks.

    Raises
    ------
    LayoutError
        The shape does not divide into tiles, or `src` is marked as another layout.
    DtypeError
        Neither uint8 nor e8m0.
    """
    layout = _gfx1250_layout(is_guinterleave, gate_up)
    refuse_other(src, layout, "unshuffle_scale_n32k4")
    plain = layout.unshuffle(scale_bytes(src, "unshuffle_scale_n32k4"))
    return plain.contiguous().view(src.dtype)
