# SPDX-License-Identifier: MIT
"""aiter's torch quantiser under its name: MXFP4 codes and, on request, shuffled scales.

The arithmetic is `aiter_moe.formats.quantise_1x32`; this is its border form.
"""

from __future__ import annotations

from typing import SupportsInt

import torch

from aiter_moe import dtypes
from aiter_moe.enums import ScaleRounding
from aiter_moe.errors import ArgumentError, DtypeError
from aiter_moe.formats import quantise_1x32
from aiter_moe.layouts.aiter_scales import e8m0_shuffle


def per_1x32_f4_quant(
    x: torch.Tensor,
    scale: torch.Tensor | None = None,
    quant_dtype: torch.dtype = dtypes.fp4x2,
    shuffle: bool = False,
    pack_dim: int = -1,
    round_mode: ScaleRounding | SupportsInt = 1,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantise to MXFP4 (aiter ``per_1x32_f4_quant``).

    Parameters
    ----------
    x : torch.Tensor
        bfloat16, float16 or float32 [..., K], K a multiple of 32; with ``pack_dim=0`` [K, N].
    scale : None
        In aiter's signature only; scales are always computed.
    quant_dtype : torch.dtype
        ``dtypes.fp4x2``.
    shuffle : bool
        Return the scales as `e8m0_shuffle` lays them out.
    pack_dim : int
        -1: blocks along the last axis. 0: blocks along the first axis of a matrix.
    round_mode : ScaleRounding or int
        How a block's amax becomes its scale; RoundUp by default.

    Returns
    -------
    codes : torch.Tensor
        fp4x2 [..., K/2], or [K/2, N].
    scales : torch.Tensor
        e8m0 [rows, K/32] with leading axes flattened, or [K/32, N]; padded when shuffled.

    Raises
    ------
    DtypeError
        Another input dtype or `quant_dtype`.
    ArgumentError
        K is not a multiple of 32, `scale` was given, or `pack_dim` does not fit.
    """
    if quant_dtype != dtypes.fp4x2:
        raise DtypeError(f"per_1x32_f4_quant makes {dtypes.fp4x2}, asked for {quant_dtype}")
    if scale is not None:
        raise ArgumentError("per_1x32_f4_quant computes its scales; call it without scale")
    if pack_dim == 0:
        if x.dim() != 2 or shuffle:
            raise ArgumentError(
                f"per_1x32_f4_quant: pack_dim=0 takes a matrix [K, N] and shuffle=False, found "
                f"shape {tuple(x.shape)}, shuffle={shuffle}"
            )
        codes, scales = (part.t().contiguous() for part in quantise_1x32(x.t(), round_mode))
        return codes.view(dtypes.fp4x2), scales.view(dtypes.fp8_e8m0)
    if pack_dim != -1:
        raise ArgumentError(f"per_1x32_f4_quant: pack_dim must be -1 or 0, found {pack_dim}")
    codes, scales = quantise_1x32(x, round_mode)
    flat = scales.reshape(-1, scales.shape[-1]).view(dtypes.fp8_e8m0)
    return codes.view(dtypes.fp4x2), e8m0_shuffle(flat) if shuffle else flat
