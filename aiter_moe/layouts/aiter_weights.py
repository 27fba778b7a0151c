# SPDX-License-Identifier: MIT
"""aiter's weight shuffling functions under their names and arguments, and their inverses.

The byte maps are `aiter_moe.layouts.weights`; nothing is permuted here.
"""

from __future__ import annotations

import torch

from aiter_moe import dtypes
from aiter_moe.errors import ArgumentError, LayoutError
from aiter_moe.layouts.marks import mark, refuse_other, refuse_shuffled
from aiter_moe.layouts.rows import GateUpRows
from aiter_moe.layouts.weights import WeightLayout
from aiter_moe.sizes import round_up

_LANES = 64
_INT4_RUN = 32
_RUN_BYTES = 16


def shuffle_weight(
    x: torch.Tensor,
    layout: tuple[int, int] = (16, 16),
    use_int4: bool = False,
    is_guinterleave: bool = False,
    gate_up: bool = False,
    pad_k_to: int = 0,
) -> torch.Tensor:
    """Shuffle weights into row tiles (aiter ``shuffle_weight``).

    Parameters
    ----------
    x : torch.Tensor
        [..., N, C], any dtype; for fp4 (uint8 or fp4x2) C is K/2 bytes. Leading axes are
        matrices of their own.
    layout : tuple of int
        Rows of a tile, and half the multiple C must have.
    use_int4 : bool
        Runs of 32 elements instead of 16 bytes.
    is_guinterleave : bool
        The a16w4 form: `x` is [E, N, C], runs of ``layout[1]`` elements.
    gate_up : bool
        With `is_guinterleave`: interleave gate and up rows in blocks of ``layout[0]`` first.
        Ignored without it, as in aiter.
    pad_k_to : int
        Zero-pad C to a multiple of this first (not with int4 or guinterleave).

    Returns
    -------
    torch.Tensor
        Same dtype and (padded) shape, contiguous, ``is_shuffled`` set; with `pad_k_to` also
        ``aiter_original_k`` and ``aiter_padded_k``, in elements of the last axis.

    Raises
    ------
    LayoutError
        N or C does not divide into tiles, or `x` is already shuffled.
    ArgumentError
        Arguments that do not go together.
    """
    refuse_shuffled(x, "shuffle_weight")
    if pad_k_to < 0 or (pad_k_to and (use_int4 or is_guinterleave)):
        raise ArgumentError(
            f"shuffle_weight: pad_k_to={pad_k_to} must be positive and goes with neither use_int4 "
            "nor is_guinterleave; pad the tensor first"
        )
    tiles = _weight_layout(x, layout, use_int4, is_guinterleave, gate_up)
    plain = _movable(x)
    original_k = x.shape[-1]
    if pad_k_to:
        plain = _pad_last(plain, round_up(original_k, pad_k_to))
    _check_cols(plain, layout, is_guinterleave)
    out = mark(tiles.shuffle(plain).view(x.dtype), tiles)
    if pad_k_to:
        out.aiter_original_k = original_k  # type: ignore[attr-defined]
        out.aiter_padded_k = plain.shape[-1]  # type: ignore[attr-defined]
    return out


def unshuffle_weight(
    x: torch.Tensor,
    layout: tuple[int, int] = (16, 16),
    use_int4: bool = False,
    is_guinterleave: bool = False,
    gate_up: bool = False,
    original_k: int | None = None,
) -> torch.Tensor:
    """Undo `shuffle_weight` called with the same arguments.

    Parameters
    ----------
    x : torch.Tensor
        Shuffled [..., N, C].
    layout, use_int4, is_guinterleave, gate_up
        As given to `shuffle_weight`.
    original_k : int, optional
        Columns before ``pad_k_to``; None takes ``aiter_original_k`` of `x`, else keeps all.

    Returns
    -------
    torch.Tensor
        Row-major [..., N, original_k], same dtype, without marks.

    Raises
    ------
    LayoutError
        The shape does not divide into tiles, or `x` is marked as another layout.
    ArgumentError
        `original_k` exceeds the columns, or arguments do not go together.
    """
    tiles = _weight_layout(x, layout, use_int4, is_guinterleave, gate_up)
    refuse_other(x, tiles, "unshuffle_weight")
    _check_cols(x, layout, is_guinterleave)
    cols = getattr(x, "aiter_original_k", x.shape[-1]) if original_k is None else original_k
    if not 0 <= cols <= x.shape[-1]:
        raise ArgumentError(f"unshuffle_weight: original_k={cols} of {x.shape[-1]} columns")
    return tiles.unshuffle(_movable(x))[..., :cols].contiguous().view(x.dtype)


def shuffle_weight_a16w4(src: torch.Tensor, NLane: int, gate_up: bool) -> torch.Tensor:  # noqa: N803
    """Shuffle a16w4 weights (aiter ``shuffle_weight_a16w4``).

    Parameters
    ----------
    src : torch.Tensor
        uint8 or fp4x2 [E, N, K/2], K a multiple of 128.
    NLane : int
        Rows of a tile; kernels here read 16.
    gate_up : bool
        Interleave gate and up rows in blocks of `NLane` first (w1), or not (w2).

    Returns
    -------
    torch.Tensor
        Same shape and dtype, ``is_shuffled`` set.

    Raises
    ------
    LayoutError
        The shape does not divide into tiles, or `src` is already shuffled.
    """
    return shuffle_weight(src, (NLane, 16), is_guinterleave=True, gate_up=gate_up)


def moe_shuffle_weight(
    src: torch.Tensor,
    experts_cnt: int | None = None,
    is_guinterleave: bool = False,
    gate_up: bool = False,
    layout: tuple[int, int] = (16, 16),
) -> torch.Tensor:
    """Shuffle a MoE weight as `shuffle_weight` does (aiter ``moe_shuffle_weight`` up to gfx950).

    Raises
    ------
    ArgumentError
        `experts_cnt` is given and `src` holds another number of experts.
    LayoutError
        As of `shuffle_weight`.
    """
    if experts_cnt is not None and src.dim() == 3 and src.shape[0] != experts_cnt:
        raise ArgumentError(
            f"moe_shuffle_weight: experts_cnt={experts_cnt}, but the weight is {tuple(src.shape)}"
        )
    return shuffle_weight(src, layout, is_guinterleave=is_guinterleave, gate_up=gate_up)


def unshuffle_weight_a16w4(src: torch.Tensor, NLane: int, gate_up: bool) -> torch.Tensor:  # noqa: N803
    """Undo `shuffle_weight_a16w4`.

    Raises
    ------
    LayoutError
        The shape does not divide into tiles, or `src` is marked as another layout.
    """
    return unshuffle_weight(src, (NLane, 16), is_guinterleave=True, gate_up=gate_up)


def interleave_gate_up_rows(w: torch.Tensor) -> torch.Tensor:
    """Order rows gate 0, up 0, gate 1, up 1, ... (aiter ``interleave_gate_up_rows``).

    Parameters
    ----------
    w : torch.Tensor
        [..., N, C] with N even, gate rows first.

    Returns
    -------
    torch.Tensor
        Same shape and dtype; no kernel here reads this order, so shuffling it is refused.

    Raises
    ------
    LayoutError
        N is odd, or `w` is already permuted.
    """
    refuse_shuffled(w, "interleave_gate_up_rows")
    order = GateUpRows(1)
    return mark(order.interleave(_movable(w)).contiguous().view(w.dtype), order)


def separate_gate_up_rows(w: torch.Tensor) -> torch.Tensor:
    """Undo `interleave_gate_up_rows`: gate rows, then up rows (gpt-oss checkpoints need this).

    Raises
    ------
    LayoutError
        N is odd, or `w` is marked as another layout.
    """
    order = GateUpRows(1)
    refuse_other(w, order, "separate_gate_up_rows")
    return order.separate(_movable(w)).contiguous().view(w.dtype)


def _weight_layout(
    x: torch.Tensor,
    layout: tuple[int, int],
    use_int4: bool,
    is_guinterleave: bool,
    gate_up: bool,
) -> WeightLayout:
    tile_rows, run = layout
    if tile_rows < 1 or run < 1:
        raise ArgumentError(f"shuffle_weight: layout={layout} must be two positive sizes")
    if not is_guinterleave:
        element_run = _INT4_RUN if use_int4 else max(1, _RUN_BYTES // x.element_size())
        if (2 * run) % element_run:
            raise ArgumentError(f"shuffle_weight: layout={layout} does not hold whole runs")
        return WeightLayout(tile_rows, element_run)
    if x.dim() != 3:
        raise LayoutError(
            f"is_guinterleave needs weights [E, N, C], found shape {tuple(x.shape)}; "
            "use .unsqueeze(0) for a single matrix"
        )
    if _LANES % tile_rows:
        raise ArgumentError(f"is_guinterleave: a tile has 16, 32 or 64 rows, found {tile_rows}")
    return WeightLayout(tile_rows, run, tile_rows if gate_up else 0)


def _check_cols(x: torch.Tensor, layout: tuple[int, int], is_guinterleave: bool) -> None:
    tile_rows, run = layout
    multiple = _LANES // tile_rows * run if is_guinterleave else 2 * run
    if x.dim() < 2 or x.shape[-1] % multiple:
        fp4 = x.dtype in (torch.uint8, dtypes.fp4x2)
        form = "is_guinterleave" if is_guinterleave else "shuffle_weight"
        raise LayoutError(
            f"{form} with layout={layout} needs the last axis to be a multiple of {multiple}"
            f"{f' bytes (fp4 K % {2 * multiple} == 0)' if fp4 else ''}, found shape "
            f"{tuple(x.shape)}; pad K, or keep the weight in a PackedWeight, which pads by itself"
        )


def _movable(x: torch.Tensor) -> torch.Tensor:
    # torch permutes and pads fewer dtypes than it can name.
    return x.view(torch.uint8) if x.dtype == dtypes.fp4x2 else x


def _pad_last(x: torch.Tensor, cols: int) -> torch.Tensor:
    out = x.new_zeros(*x.shape[:-1], cols)
    out[..., : x.shape[-1]] = x
    return out
