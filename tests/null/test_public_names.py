# SPDX-License-Identifier: MIT
"""What `import aiter_moe` offers: the names aiter's users look for, and nothing heavy loaded."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from golden import golden

import aiter_moe
from aiter_moe import (
    ArgumentError,
    MOEMetadata,
    QuantType,
    dtypes,
    f32_to_e8m0_scale,
    f32_to_mxfp4,
    get_2stage_cfgs,
    moe_shuffle_scale,
    moe_shuffle_weight,
    shuffle_scale,
    shuffle_weight,
    shuffle_weight_a16w4,
)

# aiter's MOEMetadata, in the order its callers may pass by position
METADATA_FIELDS = (
    "stage1", "stage2", "block_m", "ksplit", "run_1stage", "has_bias", "use_non_temporal_load",
    "fuse_quant", "stage2_has_bias", "flat", "output_aux", "prequant", "skip_inter_quant",
    "route_bucket", "expected_sorted_blocks", "min_sorted_blocks", "max_sorted_blocks",
)  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "ActivationType", "GateMode", "QuantType", "dtypes", "fused_moe", "get_2stage_cfgs",
        "moe_sorting", "moe_mxfp4_sort", "mxfp4_moe_sort_fwd", "get_padded_M", "get_ksplit",
        "get_block_size_M", "use_nt", "shuffle_weight", "shuffle_weight_a16w4", "shuffle_scale",
        "shuffle_scale_a16w4", "moe_shuffle_weight", "moe_shuffle_scale", "e8m0_shuffle",
        "e8m0_unshuffle", "interleave_gate_up_rows", "per_1x32_f4_quant", "mxfp4_to_f32",
        "e8m0_to_f32", "f32_to_mxfp4", "MOEMetadata",
    ],
)  # fmt: skip
def test_aiters_name_is_importable_from_the_package(name):
    assert name in aiter_moe.__all__
    assert hasattr(aiter_moe, name)


def test_every_public_name_exists_once_and_importing_loads_no_compiler_or_table_library():
    assert len(set(aiter_moe.__all__)) == len(aiter_moe.__all__)
    code = (
        "import sys, aiter_moe\n"
        "assert all(hasattr(aiter_moe, name) for name in aiter_moe.__all__)\n"
        "heavy = {'torch._dynamo', 'jinja2', 'pandas', 'safetensors', 'typer', 'filelock'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_metadata_has_aiters_fields_in_aiters_order():
    names = tuple(f.name for f in dataclasses.fields(MOEMetadata))
    assert names[: len(METADATA_FIELDS)] == METADATA_FIELDS
    found = get_2stage_cfgs(
        16, 256, 256, 8, 2, torch.bfloat16, dtypes.fp4x2, dtypes.fp4x2, QuantType.per_1x32, True,
        aiter_moe.ActivationType.Silu, False, target="gfx950",
    )  # fmt: skip
    for name in METADATA_FIELDS[-3:]:
        assert getattr(found, name) is None


def test_moe_shuffles_are_the_plain_ones_with_the_same_flags():
    weight = torch.randint(0, 256, (2, 64, 128), dtype=torch.uint8)
    scale = torch.randint(0, 256, (128, 8), dtype=torch.uint8)
    assert torch.equal(moe_shuffle_weight(weight, 2, False, True), shuffle_weight(weight))
    interleaved = moe_shuffle_weight(weight, experts_cnt=2, is_guinterleave=True, gate_up=True)
    assert torch.equal(interleaved, shuffle_weight_a16w4(weight, 16, True))
    for flags in ((False, True), (True, False), (True, True)):
        assert torch.equal(moe_shuffle_scale(scale, 2, *flags), shuffle_scale(scale, 2, *flags))
    with pytest.raises(ArgumentError, match="experts_cnt=3"):
        moe_shuffle_weight(weight, 3)


def test_single_elements_and_scales_equal_aiters():
    data = golden("mxfp4_scale_rule")
    amax = torch.from_numpy(data["amax_f32"].view(np.float32))
    for mode in range(4):
        assert np.array_equal(f32_to_e8m0_scale(amax, mode).numpy(), data[f"e8m0_m{mode}"])
    elements = f32_to_mxfp4(torch.from_numpy(data["elem_f32"].view(np.float32)))
    assert np.array_equal(elements.view(torch.uint8).numpy(), data["elem_fp4_packed"])
