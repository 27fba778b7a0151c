# SPDX-License-Identifier: MIT
"""The kernel arguments every launcher packs: the ctypes mirror of csrc/common/stage_args.h."""

from __future__ import annotations

import ctypes

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


class StageArgs(ctypes.Structure):
    """Arguments of one stage launch; fields and units are those of the C struct."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in _POINTERS),
        *((name, ctypes.c_int) for name in _INTEGERS),
        *((name, ctypes.c_float) for name in _FLOATS),
    ]
