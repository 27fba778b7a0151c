# SPDX-License-Identifier: MIT
"""What the CPU support library is passed: ctypes mirrors of its structs.

Sizes are compared when the library is loaded.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_long, c_void_p

from aiter_moe.targets.arguments import StageArgs


class SortArgs(ctypes.Structure):
    """Mirror of SortArgs in csrc/cpu/runtime/sort.h."""

    _fields_ = [
        *(
            (name, c_void_p)
            for name in (
                "topk_ids", "topk_weights", "expert_mask", "sorted_ids", "sorted_weights",
                "sorted_expert_ids", "num_valid", "local_topk_ids", "m_indices", "reverse_sorted",
            )
        ),
        *(
            (name, c_int)
            for name in (
                "tokens", "topk", "experts", "block", "processed", "capacity", "blocks",
                "bad_token", "bad_slot", "bad_bits", "held",
            )
        ),
    ]  # fmt: skip


TASK = ("phases", "items", "run")
"""Entry points of a task, each a symbol ``aiter_moe_<name>`` of a kernel artifact."""


class Task(ctypes.Structure):
    """Mirror of Task in csrc/common/crew.h: entry points of what the pool runs."""

    _fields_ = [(name, c_void_p) for name in TASK]


class StageKernel(ctypes.Structure):
    """Mirror of StageKernel in csrc/cpu/runtime/layer.h."""

    _fields_ = [("task", Task), ("scratch_bytes", c_void_p)]


class LayerPlan(ctypes.Structure):
    """Mirror of LayerPlan in csrc/cpu/runtime/layer.h."""

    _fields_ = [
        ("kernel1", StageKernel),
        ("kernel2", StageKernel),
        ("stage1", StageArgs),
        ("stage2", StageArgs),
        ("experts", c_int),
        ("held", c_int),
        ("quantise", c_int),
        ("reduce", c_int),
    ]


class LayerCall(ctypes.Structure):
    """Mirror of LayerCall in csrc/cpu/runtime/layer.h."""

    _fields_ = [
        *(
            (name, c_void_p)
            for name in (
                "x", "x_scale", "topk_ids", "topk_weights", "expert_mask", "w1", "w2", "bias1",
                "bias2", "out", "arena",
            )
        ),
        ("arena_bytes", c_long),
        ("wanted_bytes", c_long),
        *((name, c_int) for name in ("processed", "bad_token", "bad_slot", "bad_bits")),
    ]  # fmt: skip
