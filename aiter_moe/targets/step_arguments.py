# SPDX-License-Identifier: MIT
"""The arguments of the GPU kernels between stages: the ctypes mirror of csrc/common/step_args.h."""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_long, c_void_p


class SortStepArgs(ctypes.Structure):
    """Arguments of the sort; fields and units are those of the C struct."""

    _fields_ = [
        *((name, c_void_p) for name in (
            "topk_ids", "topk_weights", "expert_mask", "local_tokens", "sorted_ids",
            "sorted_weights", "sorted_expert_ids", "num_valid", "positions", "cleared",
        )),
        ("cleared_pitch", c_long),
        *((name, c_int) for name in (
            "cleared_rows", "cleared_bytes", "tokens", "topk", "experts", "block_shift", "capacity",
            "first_token", "threads", "groups", "wave_batches",
        )),
    ]  # fmt: skip


class QuantiseStepArgs(ctypes.Structure):
    """Arguments of the quantisation, and of the scatter of given scales."""

    _fields_ = [
        *((name, c_void_p) for name in (
            "x", "codes", "given", "scales", "positions", "num_valid",
        )),
        ("x_stride", c_long),
        *((name, c_int) for name in (
            "rows", "columns", "given_stride", "scale_stride", "fan", "rows_per_token", "threads",
        )),
    ]  # fmt: skip


class ReduceStepArgs(ctypes.Structure):
    """Arguments of the sum over slots."""

    _fields_ = [
        *((name, c_void_p) for name in ("rows", "positions", "out")),
        ("out_stride", c_long),
        *((name, c_int) for name in ("tokens", "topk", "columns", "out_columns", "threads")),
    ]
