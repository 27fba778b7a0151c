# SPDX-License-Identifier: MIT
"""e8m0 scales: a byte that is a power of two, and the four rules that choose it from an amax.

Elements are `aiter_moe.formats.fp4`; where a scale lies in memory is `aiter_moe.layouts`.
"""

from __future__ import annotations

from typing import SupportsInt

import torch

from aiter_moe import dtypes
from aiter_moe.enums import ScaleRounding
from aiter_moe.errors import ArgumentError, DtypeError

UNIT_SCALE = 0x7F
"""The byte of 1.0, which every padding byte holds."""
NAN_SCALE = 0xFF

_F32_DENORMAL_SCALE = 0x00400000  # 2^-127, what byte 0 stands for
_F32_NAN_SCALE = 0x7F800001
_FP4_MAX = 6.0
_FP4_MAX_EXPONENT = 2  # 4.0 is the largest power of two in fp4
_EVEN_CARRY = 0x200000  # carries into the exponent from 1.75 * 2^j on (fp4: one mantissa bit)


def as_rounding(rounding: ScaleRounding | SupportsInt) -> ScaleRounding:
    """Return the rounding rule for an enum member or aiter's integer 0 to 3.

    Raises
    ------
    ArgumentError
        Not one of the four rules.
    """
    try:
        return ScaleRounding(int(rounding))
    except (TypeError, ValueError):
        rules = ", ".join(f"{int(rule)} ({rule.name})" for rule in ScaleRounding)
        raise ArgumentError(f"scale rounding: wanted one of {rules}, found {rounding!r}") from None


def scale_bytes(s: torch.Tensor, what: str = "e8m0 scales") -> torch.Tensor:
    """Return e8m0 scales as plain uint8 without copying.

    Parameters
    ----------
    s : torch.Tensor
        uint8 or ``dtypes.fp8_e8m0``, any shape.
    what : str
        Name for the error message.

    Raises
    ------
    DtypeError
        `s` has another dtype.
    """
    if s.dtype == torch.uint8:
        return s
    if s.dtype != dtypes.fp8_e8m0:
        raise DtypeError(
            f"{what}: wanted torch.uint8 or {dtypes.fp8_e8m0}, found {s.dtype}; "
            "MXFP4 scales are exponent bytes (f32_to_e8m0_scale makes them)"
        )
    return s.view(torch.uint8)


def e8m0_to_f32(s: torch.Tensor) -> torch.Tensor:
    """Decode e8m0 bytes: ``2 ** (byte - 127)``, byte 255 is NaN.

    Parameters
    ----------
    s : torch.Tensor
        uint8 or ``dtypes.fp8_e8m0``, any shape.

    Returns
    -------
    torch.Tensor
        float32, same shape; byte 0 gives the denormal 2^-127.

    Raises
    ------
    DtypeError
        `s` is neither uint8 nor e8m0.
    """
    exponent = scale_bytes(s)
    table = torch.arange(256, dtype=torch.int32, device=exponent.device) << 23
    table[0] = _F32_DENORMAL_SCALE
    table[NAN_SCALE] = _F32_NAN_SCALE
    bits = torch.index_select(table, 0, exponent.reshape(-1).to(torch.int32))
    return bits.view(torch.float32).view(exponent.shape)


def f32_to_e8m0_scale(
    amax: torch.Tensor, rounding: ScaleRounding | SupportsInt = ScaleRounding.RoundUp
) -> torch.Tensor:
    """Choose the shared exponent of fp4 blocks from their largest magnitudes.

    RoundUp is the smallest power of two that is at least amax / 6, so nothing clips. RoundDown,
    Even and Ceil start from amax / 4 (aiter ``f32_to_mx_e8m0_scale`` for fp4).

    Parameters
    ----------
    amax : torch.Tensor
        float32, not negative, any shape.
    rounding : ScaleRounding or int
        The rule.

    Returns
    -------
    torch.Tensor
        uint8, same shape; 255 where `amax` is infinite or NaN, and for Even also where it is at
        least 1.75 * 2^127.

    Raises
    ------
    DtypeError
        `amax` is not float32.
    ArgumentError
        Unknown rounding rule.
    """
    rule = as_rounding(rounding)
    if amax.dtype != torch.float32:
        raise DtypeError(f"f32_to_e8m0_scale: wanted float32 amax, found {amax.dtype}")
    finite = torch.isfinite(amax)
    if rule is ScaleRounding.RoundUp:
        target = amax / _FP4_MAX
    elif rule is ScaleRounding.Even:
        # Masked first: the carry would wrap the bits of some NaNs round to zero.
        bits = amax.masked_fill(~finite, 0.0).view(torch.int32) + _EVEN_CARRY
        target = (bits & 0x7F800000).view(torch.float32) * 2.0**-_FP4_MAX_EXPONENT
    else:
        target = amax * 2.0**-_FP4_MAX_EXPONENT
    bits = target.view(torch.int32)
    exponent = (bits >> 23) & 0xFF
    if rule in (ScaleRounding.RoundUp, ScaleRounding.Ceil):
        exponent = exponent + ((bits & 0x7FFFFF) != 0)
    return exponent.masked_fill(~finite, NAN_SCALE).to(torch.uint8)
