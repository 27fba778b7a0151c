# SPDX-License-Identifier: MIT
"""What a raw tensor says about its own layout: aiter's ``is_shuffled`` and our exact mark.

Attributes of a tensor object are lost by ``.view()``, ``.to()``, slicing and assignment to
``.data``; `aiter_moe.layouts.PackedWeight` is what carries a layout safely.
"""

from __future__ import annotations

from typing import TypeVar

import torch

from aiter_moe.errors import LayoutError
from aiter_moe.layouts.gfx1250_scales import Gfx1250ScaleLayout
from aiter_moe.layouts.layout import Layout
from aiter_moe.layouts.rows import GateUpRows
from aiter_moe.layouts.scales import R16_S, S, ScaleLayout
from aiter_moe.layouts.weights import R16_W, W, WeightLayout

Mark = WeightLayout | ScaleLayout | Gfx1250ScaleLayout | GateUpRows
_MARK = "_aiter_moe_layout"

SHUFFLE_KINDS = ("mxfp4_moe", "mxfp4_guinterleave")
"""Values of aiter's ``shuffle_kind``, all the same bytes: W, or R16+W for w1."""

_T = TypeVar("_T", bound=torch.Tensor)

KERNEL_LAYOUTS: dict[Layout, tuple[WeightLayout, ScaleLayout]] = {
    Layout.SHUFFLED: (W, S),
    Layout.SHUFFLED_GATE_UP: (R16_W, R16_S),
}
"""The codes' and the scales' layout behind each shuffled `Layout`."""


def mark(x: _T, layout: Mark) -> _T:
    """Record `layout` on the tensor object, and ``is_shuffled`` unless only rows moved."""
    setattr(x, _MARK, layout)
    if not isinstance(layout, GateUpRows):
        x.is_shuffled = True  # type: ignore[attr-defined]
    return x


def mark_of(x: torch.Tensor) -> Mark | None:
    """Return the exact layout recorded by our own functions, None for a foreign tensor."""
    found: Mark | None = getattr(x, _MARK, None)
    return found


def is_shuffled(x: torch.Tensor) -> bool:
    """Return aiter's ``is_shuffled`` attribute, False when it is absent."""
    return bool(getattr(x, "is_shuffled", False))


def kernel_layout(layout: Mark) -> Layout | None:
    """Return the `Layout` a mark stands for, None when no kernel reads it."""
    for known, (codes, scales) in KERNEL_LAYOUTS.items():
        if layout in (codes, scales):
            return known
    return None


def refuse_shuffled(x: torch.Tensor, asked: str) -> None:
    """Raise LayoutError when `x` already says it is shuffled.

    Raises
    ------
    LayoutError
        A second shuffle would scramble the bytes.
    """
    found = mark_of(x)
    if is_shuffled(x) or found is not None:
        raise LayoutError(
            f"{asked}: the tensor is already shuffled ({found or 'is_shuffled is set'}); "
            "shuffle the row-major tensor, or undo the layout with its unshuffle function first"
        )


def refuse_other(x: torch.Tensor, layout: Mark, asked: str) -> None:
    """Raise LayoutError when `x` carries a mark other than `layout`.

    Raises
    ------
    LayoutError
        Another layout than the one to be undone.
    """
    found = mark_of(x)
    if found is not None and found != layout:
        raise LayoutError(f"{asked} undoes {layout}, but the tensor is in {found}")
