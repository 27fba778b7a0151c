# SPDX-License-Identifier: MIT
"""How MXFP4 weights and scales lie in memory: layouts with inverses, aiter's functions."""

from aiter_moe.layouts.aiter_scales import (
    e8m0_shuffle,
    e8m0_unshuffle,
    moe_shuffle_scale,
    shuffle_scale,
    shuffle_scale_a16w4,
    shuffle_scale_n32k4,
    unshuffle_scale,
    unshuffle_scale_a16w4,
    unshuffle_scale_n32k4,
)
from aiter_moe.layouts.aiter_weights import (
    interleave_gate_up_rows,
    moe_shuffle_weight,
    separate_gate_up_rows,
    shuffle_weight,
    shuffle_weight_a16w4,
    unshuffle_weight,
    unshuffle_weight_a16w4,
)
from aiter_moe.layouts.layout import Layout
from aiter_moe.layouts.packed import PackedWeight
from aiter_moe.layouts.quantise import per_1x32_f4_quant
from aiter_moe.layouts.rows import GateUpRows
from aiter_moe.layouts.safetensors_file import load_packed, save_packed
from aiter_moe.layouts.scales import R16_S, S, ScaleLayout
from aiter_moe.layouts.weights import R16_W, W, WeightLayout

__all__ = [
    "R16_S",
    "R16_W",
    "GateUpRows",
    "Layout",
    "PackedWeight",
    "S",
    "ScaleLayout",
    "W",
    "WeightLayout",
    "e8m0_shuffle",
    "e8m0_unshuffle",
    "interleave_gate_up_rows",
    "load_packed",
    "moe_shuffle_scale",
    "moe_shuffle_weight",
    "per_1x32_f4_quant",
    "save_packed",
    "separate_gate_up_rows",
    "shuffle_scale",
    "shuffle_scale_a16w4",
    "shuffle_scale_n32k4",
    "shuffle_weight",
    "shuffle_weight_a16w4",
    "unshuffle_scale",
    "unshuffle_scale_a16w4",
    "unshuffle_scale_n32k4",
    "unshuffle_weight",
    "unshuffle_weight_a16w4",
]
