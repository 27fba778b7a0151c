# SPDX-License-Identifier: MIT
"""MXFP4: fp4 elements in blocks of 32 along the last axis, one e8m0 scale per block.

Row-major bytes only; aiter's shuffled layouts are `aiter_moe.layouts`.
"""

from __future__ import annotations

from typing import SupportsInt

import torch

from aiter_moe.enums import ScaleRounding
from aiter_moe.errors import ArgumentError, DtypeError
from aiter_moe.formats.e8m0 import e8m0_to_f32, f32_to_e8m0_scale, scale_bytes
from aiter_moe.formats.fp4 import code_bytes, f32_to_fp4_codes, mxfp4_to_f32, pack_fp4_codes

MX_BLOCK = 32
"""Elements that share one scale."""

_FLOAT_INPUTS = (torch.bfloat16, torch.float16, torch.float32)


def quantise_1x32(
    x: torch.Tensor, rounding: ScaleRounding | SupportsInt = ScaleRounding.RoundUp
) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantise to MXFP4, all arithmetic in float32.

    Parameters
    ----------
    x : torch.Tensor
        bfloat16, float16 or float32 [..., K], K a multiple of 32.
    rounding : ScaleRounding or int
        How a block's amax becomes its scale.

    Returns
    -------
    codes : torch.Tensor
        uint8 [..., K/2].
    scales : torch.Tensor
        uint8 [..., K/32]; 255 for a block with an infinity or NaN, whose codes mean nothing.

    Raises
    ------
    DtypeError
        `x` has another dtype.
    ArgumentError
        K is not a multiple of 32, or `x` has no axis.
    """
    if x.dtype not in _FLOAT_INPUTS:
        raise DtypeError(f"quantise_1x32: wanted bfloat16, float16 or float32, found {x.dtype}")
    if x.dim() == 0 or x.shape[-1] % MX_BLOCK:
        raise ArgumentError(
            f"quantise_1x32: the last axis must be a multiple of {MX_BLOCK}, found shape "
            f"{tuple(x.shape)}; pad it with zeros"
        )
    blocks = x.float().reshape(*x.shape[:-1], x.shape[-1] // MX_BLOCK, MX_BLOCK)
    scales = f32_to_e8m0_scale(blocks.abs().amax(-1), rounding)
    codes = f32_to_fp4_codes(blocks / e8m0_to_f32(scales).unsqueeze(-1))
    return pack_fp4_codes(codes.flatten(-2)), scales


def dequantise(
    codes: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype = torch.float64
) -> torch.Tensor:
    """Return the values of MXFP4 codes; exact in float64, and in float32 inside its range.

    Parameters
    ----------
    codes : torch.Tensor
        uint8 or fp4x2 [..., K/2].
    scales : torch.Tensor
        uint8 or e8m0 [..., K/32], or with all leading axes flattened to one.
    dtype : torch.dtype
        Result; the product is taken in float32 or wider and rounded once.

    Returns
    -------
    torch.Tensor
        `dtype` [..., K].

    Raises
    ------
    DtypeError
        Codes or scales have another dtype.
    ArgumentError
        The shapes do not belong together.
    """
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    values = mxfp4_to_f32(code_bytes(codes)).to(wide)
    lead, groups = codes.shape[:-1], values.shape[-1] // MX_BLOCK
    if (
        values.shape[-1] % MX_BLOCK
        or scales.shape[-1:] != (groups,)
        or scales.numel() != (lead.numel() * groups)
    ):
        raise ArgumentError(
            f"dequantise: codes {tuple(codes.shape)} need scales {(*lead, groups)} "
            f"(one per {MX_BLOCK} elements), found {tuple(scales.shape)}"
        )
    factors = e8m0_to_f32(scale_bytes(scales)).to(wide).reshape(*lead, groups, 1)
    return values.reshape(*lead, groups, MX_BLOCK).mul_(factors).flatten(-2).to(dtype)
