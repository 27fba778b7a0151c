# SPDX-License-Identifier: MIT
"""aiter_moe: MXFP4 mixture-of-experts GEMMs, from template to tuned kernel.

The public names, most of them aiter's. Importing this writes nothing and starts nothing.
"""

from aiter_moe import dtypes
from aiter_moe.codegen.catalogue import catalogue
from aiter_moe.codegen.instance import Instance
from aiter_moe.dispatch import MOEMetadata, get_2stage_cfgs
from aiter_moe.enums import ActivationType, GateMode, Kind, QuantType, ScaleRounding
from aiter_moe.errors import (
    AiterMoeError,
    ArgumentError,
    BuildError,
    CacheError,
    ConfigError,
    DtypeError,
    LaunchError,
    LayoutError,
    ToolchainError,
    UnsupportedProblemError,
)
from aiter_moe.formats import (
    dequantise,
    e8m0_to_f32,
    f32_to_e8m0_scale,
    f32_to_mxfp4,
    mxfp4_to_f32,
)
from aiter_moe.fused_moe import fused_moe
from aiter_moe.heuristics import get_block_size_M, get_ksplit, get_padded_M, use_nt
from aiter_moe.layouts import (
    Layout,
    PackedWeight,
    e8m0_shuffle,
    e8m0_unshuffle,
    interleave_gate_up_rows,
    load_packed,
    moe_shuffle_scale,
    moe_shuffle_weight,
    per_1x32_f4_quant,
    save_packed,
    separate_gate_up_rows,
    shuffle_scale,
    shuffle_scale_a16w4,
    shuffle_scale_n32k4,
    shuffle_weight,
    shuffle_weight_a16w4,
    unshuffle_scale,
    unshuffle_scale_a16w4,
    unshuffle_scale_n32k4,
    unshuffle_weight,
    unshuffle_weight_a16w4,
)
from aiter_moe.plan import Plan
from aiter_moe.prepare import prepare_weights
from aiter_moe.problem import Problem
from aiter_moe.sorting import moe_mxfp4_sort, moe_sorting, mxfp4_moe_sort_fwd

__version__ = "0.1.0"

__all__ = [
    "ActivationType",
    "AiterMoeError",
    "ArgumentError",
    "BuildError",
    "CacheError",
    "ConfigError",
    "DtypeError",
    "GateMode",
    "Instance",
    "Kind",
    "LaunchError",
    "Layout",
    "LayoutError",
    "MOEMetadata",
    "PackedWeight",
    "Plan",
    "Problem",
    "QuantType",
    "ScaleRounding",
    "ToolchainError",
    "UnsupportedProblemError",
    "catalogue",
    "dequantise",
    "dtypes",
    "e8m0_shuffle",
    "e8m0_to_f32",
    "e8m0_unshuffle",
    "f32_to_e8m0_scale",
    "f32_to_mxfp4",
    "fused_moe",
    "get_2stage_cfgs",
    "get_block_size_M",
    "get_ksplit",
    "get_padded_M",
    "interleave_gate_up_rows",
    "load_packed",
    "moe_mxfp4_sort",
    "moe_shuffle_scale",
    "moe_shuffle_weight",
    "moe_sorting",
    "mxfp4_moe_sort_fwd",
    "mxfp4_to_f32",
    "per_1x32_f4_quant",
    "prepare_weights",
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
    "use_nt",
]
