# SPDX-License-Identifier: MIT
"""Number formats in torch: fp4 e2m1 elements, e8m0 scales, MXFP4 blocks; no byte layouts."""

from aiter_moe.formats.e8m0 import (
    NAN_SCALE,
    UNIT_SCALE,
    as_rounding,
    e8m0_to_f32,
    f32_to_e8m0_scale,
    scale_bytes,
)
from aiter_moe.formats.fp4 import (
    CODE_VALUES,
    code_bytes,
    f32_to_fp4_codes,
    f32_to_mxfp4,
    mxfp4_to_f32,
    pack_fp4_codes,
)
from aiter_moe.formats.mxfp4 import MX_BLOCK, dequantise, quantise_1x32

__all__ = [
    "CODE_VALUES",
    "MX_BLOCK",
    "NAN_SCALE",
    "UNIT_SCALE",
    "as_rounding",
    "code_bytes",
    "dequantise",
    "e8m0_to_f32",
    "f32_to_e8m0_scale",
    "f32_to_fp4_codes",
    "f32_to_mxfp4",
    "mxfp4_to_f32",
    "pack_fp4_codes",
    "quantise_1x32",
    "scale_bytes",
]
