# SPDX-License-Identifier: MIT
"""fp4 e2m1 elements: two codes per byte, the even element in the low nibble.

Only single elements here; the shared scale of 32 of them is `aiter_moe.formats.e8m0`, both
together `aiter_moe.formats.mxfp4`.
"""

from __future__ import annotations

import torch

from aiter_moe import dtypes
from aiter_moe.errors import ArgumentError, DtypeError

_MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
CODE_VALUES = _MAGNITUDES + tuple(-m for m in _MAGNITUDES)
"""Value of each of the 16 codes; bit 3 is the sign, so code 8 is -0."""

# Midpoints between neighbouring magnitudes; a tie goes to the even code, so the upward step
# into an even code includes its midpoint and the step into an odd code does not.
_STEP_INTO_EVEN = (0.75, 1.75, 3.5)
_STEP_INTO_ODD = (0.25, 1.25, 2.5, 5.0)


def code_bytes(x: torch.Tensor, what: str = "fp4 codes") -> torch.Tensor:
    """Return packed fp4 codes as plain uint8 without copying.

    Parameters
    ----------
    x : torch.Tensor
        uint8 or ``dtypes.fp4x2``, any shape.
    what : str
        Name for the error message.

    Raises
    ------
    DtypeError
        `x` has another dtype.
    """
    if x.dtype == torch.uint8:
        return x
    if x.dtype != dtypes.fp4x2:
        raise DtypeError(
            f"{what}: wanted torch.uint8 or {dtypes.fp4x2} (two codes per byte), found {x.dtype}; "
            "quantise with per_1x32_f4_quant first"
        )
    return x.view(torch.uint8)


def mxfp4_to_f32(x: torch.Tensor) -> torch.Tensor:
    """Decode packed fp4 codes.

    Parameters
    ----------
    x : torch.Tensor
        uint8 or ``dtypes.fp4x2`` [..., K/2].

    Returns
    -------
    torch.Tensor
        float32 [..., K]; code 8 gives -0.

    Raises
    ------
    DtypeError
        `x` is neither uint8 nor fp4x2.
    """
    codes = code_bytes(x)
    pairs = [[CODE_VALUES[byte & 15], CODE_VALUES[byte >> 4]] for byte in range(256)]
    # A pair moves as one 64-bit word: several times faster than indexing rows of two floats.
    table = torch.tensor(pairs, dtype=torch.float32, device=codes.device).view(torch.int64)
    words = torch.index_select(table.view(256), 0, codes.reshape(-1).to(torch.int32))
    return words.view(torch.float32).view(*codes.shape[:-1], 2 * codes.shape[-1])


def f32_to_fp4_codes(x: torch.Tensor) -> torch.Tensor:
    """Round to the nearest fp4 value, ties to the even code, saturating at 6.

    Parameters
    ----------
    x : torch.Tensor
        float32, any shape. The sign bit is always kept; NaN becomes a signed zero.

    Returns
    -------
    torch.Tensor
        uint8 codes 0 to 15, one per element, same shape.
    """
    magnitude = x.abs()
    code = torch.signbit(x).to(torch.uint8) << 3
    for midpoint in _STEP_INTO_EVEN:
        code += magnitude >= midpoint
    for midpoint in _STEP_INTO_ODD:
        code += magnitude > midpoint
    return code


def pack_fp4_codes(codes: torch.Tensor) -> torch.Tensor:
    """Pack uint8 codes [..., K] in pairs to uint8 [..., K/2], even element low.

    Raises
    ------
    ArgumentError
        K is odd.
    """
    if codes.shape[-1] % 2:
        raise ArgumentError(
            f"fp4 codes pack in pairs: the last axis must be even, found {tuple(codes.shape)}"
        )
    return codes[..., 0::2] | (codes[..., 1::2] << 4)


def f32_to_mxfp4(x: torch.Tensor) -> torch.Tensor:
    """Round elements to fp4 and pack them (aiter ``f32_to_mxfp4``); no scale is applied.

    Parameters
    ----------
    x : torch.Tensor
        Any float dtype [..., K], K even; taken as float32.

    Returns
    -------
    torch.Tensor
        ``dtypes.fp4x2`` [..., K/2].

    Raises
    ------
    ArgumentError
        K is odd.
    """
    return pack_fp4_codes(f32_to_fp4_codes(x.float())).view(dtypes.fp4x2)
