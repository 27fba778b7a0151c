# SPDX-License-Identifier: MIT
"""The kernel arguments every launcher packs: the ctypes mirror of csrc/common/stage_args.h."""

from __future__ import annotations

import ctypes
import enum

import torch

_POINTERS = (
    "x", "x_scale", "w", "w_scale", "bias", "sorted_ids", "sorted_weights",
    "sorted_expert_ids", "num_valid_ids", "out", "workspace", "scratch",
)  # fmt: skip
_INTEGERS = (
    "tokens", "topk", "n", "k", "x_stride", "x_scale_stride", "out_stride",
    "w_rows", "w_k", "w_scale_cols", "bias_stride", "sorted_rows", "ksplit", "doweight",
    "interleaved",
)  # fmt: skip
_FLOATS = ("limit", "beta", "linear_beta")
_LATER_POINTERS = ("out_scale", "topk_ids", "topk_weights", "expert_mask", "local_tokens")
_LATER_INTEGERS = (
    "out_scale_stride", "experts", "out_columns", "x_type", "out_type",
    "block_m", "columns", "ahead", "threads",
)  # fmt: skip


class ElementType(enum.IntEnum):
    """What rows hold, where a kernel takes or makes several types."""

    bf16 = 0
    f16 = 1
    f32 = 2
    fp4 = 3

    @classmethod
    def of(cls, dtype: torch.dtype) -> ElementType:
        """Return the type of rows of `dtype`; codes are uint8.

        Raises
        ------
        KeyError
            Kernels take no rows of this dtype.
        """
        return _ELEMENT_TYPES[dtype]


_ELEMENT_TYPES = {
    torch.bfloat16: ElementType.bf16,
    torch.float16: ElementType.f16,
    torch.float32: ElementType.f32,
    torch.uint8: ElementType.fp4,
}


class StageArgs(ctypes.Structure):
    """Arguments of one stage launch; fields and units are those of the C struct."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in _POINTERS),
        *((name, ctypes.c_int) for name in _INTEGERS),
        *((name, ctypes.c_float) for name in _FLOATS),
        *((name, ctypes.c_void_p) for name in _LATER_POINTERS),
        *((name, ctypes.c_int) for name in _LATER_INTEGERS),
    ]
