# SPDX-License-Identifier: MIT
"""Short dtype names as aiter spells them, e.g. ``dtypes.fp4x2`` and ``dtypes.bf16``."""

from __future__ import annotations

import torch

fp4x2 = getattr(torch, "float4_e2m1fn_x2", torch.uint8)
fp8_e8m0 = getattr(torch, "float8_e8m0fnu", torch.uint8)
fp8 = torch.float8_e4m3fn
fp16 = torch.float16
bf16 = torch.bfloat16
fp32 = torch.float32
i8 = torch.int8
i16 = torch.int16
i32 = torch.int32
i64 = torch.int64
u8 = torch.uint8
u32 = torch.uint32
