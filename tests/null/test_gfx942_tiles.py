# SPDX-License-Identifier: MIT
"""gfx942 tiles as data: names, limits with reasons, launches, plans."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from aiter_moe import dtypes
from aiter_moe.codegen.catalogue import catalogue, instances_for
from aiter_moe.codegen.gfx9 import Gfx9Tile, Launch, launches
from aiter_moe.codegen.gfx9.device import DEVICES
from aiter_moe.codegen.gfx9.resources import lds_bytes, loads_in_flight, vgpr_estimate
from aiter_moe.codegen.instance import ACTIVATIONS, BLOCK_M, Instance
from aiter_moe.codegen.render import render
from aiter_moe.configs.table import ConfigTable
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.errors import UnsupportedProblemError
from aiter_moe.plan import make_plan
from aiter_moe.problem import Problem
from aiter_moe.targets.arguments import StageArgs
from aiter_moe.targets.base import DeviceFacts
from aiter_moe.verdict import Overrides

CATALOGUE = [i for i in catalogue("gfx942") if not i.tile.direct]
FACTS = DeviceFacts("gfx942", 304)
TILE = Gfx9Tile(
    stage=1, strips=2, waves=4, depth=1, stages=2, waves_per_simd=2, non_temporal=False,
    split_k=False,
)  # fmt: skip


def instance(block_m: int = 32, **changes: object) -> Instance:
    tile = dataclasses.replace(TILE, **changes)
    activation = ActivationType.Silu if tile.stage == 1 else None
    return Instance(
        "gfx942", Kind.A16W4, tile.stage, block_m, activation, tile.split_k, tile
    )  # fmt: skip


def problem(**changes: object) -> Problem:
    base = Problem(64, 2880, 384, 32, 4, ActivationType.Silu, torch.bfloat16)
    return dataclasses.replace(base, **changes)


def plan(wanted: Problem, **overrides: object):
    return make_plan(wanted, FACTS, ConfigTable(()), Overrides(**overrides))


def test_names_are_unique_and_tell_stages_where_they_are_not_depth_plus_one():
    names = [i.name for i in CATALOGUE]
    assert len(set(names)) == len(names)
    assert instance().name == "aiter_moe_gfx942_a16w4_s1_silu_m32_n128k256_w4d1"
    assert instance(depth=3).name.endswith("_n128k256_w4d3s2")
    assert not set(names) & {i.name for i in catalogue("gfx950")}


@pytest.mark.parametrize("split_k", [False, True])
@pytest.mark.parametrize("block_m", BLOCK_M)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.name)
def test_every_block_size_and_activation_has_both_stages(activation, block_m, split_k):
    wanted = problem(activation=activation)
    first = instances_for(wanted, "gfx942", 1)
    few_rows = block_m <= 32  # more of them fill the device without parts of the reduction
    found = any(i.block_m == block_m and i.split_k is split_k for i in first)
    assert found is (few_rows or not split_k)
    assert any(i.block_m == block_m for i in instances_for(wanted, "gfx942", 2))


def test_the_catalogue_obeys_its_own_limits():
    device = DEVICES["gfx942"]
    assert device.lds_bytes == 65536
    for i in CATALOGUE:
        assert lds_bytes(i) <= device.lds_bytes, i
        assert vgpr_estimate(i) <= i.tile.vgpr_budget, i
        assert loads_in_flight(i) <= 63, i


@pytest.mark.parametrize("size", [128, 192, 384, 640, 1536, 2880])
def test_sizes_that_are_no_multiple_of_a_step_are_supported(size):
    for i in CATALOGUE:
        if i.activation in (None, ActivationType.Silu):
            assert problem(inter_dim=size).supports(i), i.name


def test_two_workgroups_of_few_rows_share_a_compute_unit():
    for i in CATALOGUE:
        if i.block_m <= 32:
            assert 2 * lds_bytes(i) <= DEVICES["gfx942"].lds_bytes, i


def test_lds_holds_the_stages_whatever_the_depth():
    # 32 rows of 256 bf16 elements are 16 KiB.
    assert lds_bytes(instance()) == 2 * 16384
    assert lds_bytes(instance(depth=3)) == 2 * 16384
    assert lds_bytes(instance(stages=1)) == 16384
    assert lds_bytes(instance(block_m=128, stages=1)) == 65536


@pytest.mark.parametrize(
    ("made", "word"),
    [
        (instance(depth=2), "2 stages of rows do not divide 3 sets of registers"),
        (instance(block_m=128), "131072 bytes of LDS, a CU has 65536"),
        (instance(strips=3), "half gate and half up"),
        (instance(block_m=16, waves=3), "do not divide"),
        (instance(strips=4, block_m=64), "VGPRs, 2 waves a SIMD leave 256"),
        (instance(depth=7, waves_per_simd=1), "loads in flight"),
    ],
)
def test_tiles_past_the_limits_of_the_device_are_refused_with_the_figure(made, word):
    verdict = problem().supports(made)
    assert not verdict and word in verdict.reason


def test_rows_in_registers_count_towards_the_budget():
    near = instance(block_m=64, stages=1)
    far = instance(block_m=64, stages=1, depth=2)
    waiting = 4 * (64 // 16 * 8 // 4)  # 4 registers for each request of a wave
    weights = 8 * 4 + 2
    assert vgpr_estimate(far) - vgpr_estimate(near) == waiting + weights


def test_a_grid_covers_rows_columns_and_parts():
    args = StageArgs(
        tokens=64, topk=4, n=384, k=2880, x_stride=2880, out_stride=384, w_rows=768, w_k=2880,
        w_scale_cols=96, sorted_rows=1024, ksplit=3,
    )  # fmt: skip
    made = instance(split_k=True, waves=2)
    assert launches(made, args) == (
        Launch(made.name, (576, 1, 1), 128),
        Launch(made.name + "_finish", (256, 2, 1), 256),
    )


def test_a_rendered_kernel_names_its_operands_its_stages_and_itself():
    made = instance(depth=3)
    source = render(made).source
    assert '#include "hip/a16w4_tile.h"' in source and "a4w4_tile.h" not in source
    assert "/*Depth=*/3" in source and "/*Stages=*/2" in source
    assert f"{made.name}(aiter_moe::StageArgs args)" in source
    assert "--offload-arch=gfx942" in source


@pytest.mark.parametrize("token", [1, 16, 2048, 16384])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.name)
def test_untuned_problems_get_kernels_of_the_usual_block(activation, token):
    found = plan(problem(activation=activation, token=token))
    assert found.block_m == (16 if token < 2048 else 32 if token < 16384 else 64)
    assert {found.stage1.target, found.stage2.target} == {"gfx942"}
    assert found.stage1.activation is activation
    assert found.stage1.split_k is (found.ksplit > 1)


def test_a_split_that_is_asked_for_is_taken():
    found = plan(problem(token=1), ksplit=4)
    assert found.ksplit == 4 and found.stage1.split_k


def test_fp4_activations_are_refused_with_the_reason_and_a_way_out():
    wanted = problem(q_dtype_a=dtypes.fp4x2)
    with pytest.raises(UnsupportedProblemError) as refused:
        plan(wanted)
    text = str(refused.value)
    assert "gfx942 has no matrix instruction for fp4 operands" in text
    assert "nearest supported problem: q_dtype_a=torch.bfloat16 (a16w4)" in text
    assert all(i.kind is Kind.A16W4 for i in CATALOGUE)


def test_a_gpu_without_a_catalogue_is_refused_by_name():
    with pytest.raises(UnsupportedProblemError, match=r"gfx90a has no kernels .*gfx950, gfx942"):
        make_plan(problem(), DeviceFacts("gfx90a", 104), ConfigTable(()))
