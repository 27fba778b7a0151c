# SPDX-License-Identifier: MIT
"""gfx950 tiles as data: names, limits with reasons, launches."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from aiter_moe import dtypes
from aiter_moe.codegen.catalogue import catalogue, instances_for
from aiter_moe.codegen.gfx9 import Gfx9Tile, Launch, launches
from aiter_moe.codegen.gfx9.device import DEVICES
from aiter_moe.codegen.gfx9.resources import lds_bytes, vgpr_estimate, workgroups_per_cu
from aiter_moe.codegen.instance import ACTIVATIONS, BLOCK_M, Instance
from aiter_moe.codegen.render import render
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.errors import LaunchError
from aiter_moe.problem import Problem
from aiter_moe.targets.arguments import StageArgs

TILE = Gfx9Tile(
    stage=1, strips=2, waves=4, depth=2, stages=3, waves_per_simd=2, non_temporal=False,
    split_k=False,
)  # fmt: skip


def sorting() -> list[Instance]:
    """Every instance that reads a sort."""
    return [i for i in catalogue("gfx950") if not i.tile.direct]


def instance(kind: Kind = Kind.A4W4, block_m: int = 32, **changes: object) -> Instance:
    if "depth" in changes:
        changes.setdefault("stages", changes["depth"] + 1)
    tile = dataclasses.replace(TILE, **changes)
    activation = ActivationType.Silu if tile.stage == 1 else None
    return Instance("gfx950", kind, tile.stage, block_m, activation, tile.split_k, tile)


def problem(kind: Kind = Kind.A4W4, **changes: object) -> Problem:
    q_dtype = dtypes.fp4x2 if kind is Kind.A4W4 else torch.bfloat16
    base = Problem(64, 2880, 384, 32, 4, ActivationType.Silu, q_dtype)
    return dataclasses.replace(base, **changes)


def arguments(**changes: int) -> StageArgs:
    base = {
        "tokens": 64, "topk": 4, "n": 384, "k": 2880, "x_stride": 2880, "x_scale_stride": 96,
        "out_stride": 384, "w_rows": 768, "w_k": 2880, "w_scale_cols": 96, "sorted_rows": 1024,
        "ksplit": 1,
    }  # fmt: skip
    return StageArgs(**(base | changes))


def test_names_are_unique_and_tell_target_kind_and_stage():
    names = [i.name for i in catalogue("gfx950")]
    assert len(set(names)) == len(names)
    assert instance().name == "aiter_moe_gfx950_a4w4_s1_silu_m32_n128k256_w4d2"


@pytest.mark.parametrize("block_m", BLOCK_M)
@pytest.mark.parametrize("kind", Kind, ids=str)
def test_every_block_size_and_activation_has_both_stages(kind, block_m):
    for activation in ACTIVATIONS:
        wanted = problem(kind, activation=activation)
        for stage in (1, 2):
            found = instances_for(wanted, "gfx950", stage)
            assert any(i.kind is kind and i.block_m == block_m for i in found), (activation, stage)


def test_fp4_activations_have_no_split_k_and_bf16_ones_have():
    split = {i.kind for i in catalogue("gfx950") if i.split_k}
    assert split == {Kind.A16W4}


@pytest.mark.parametrize("size", [192, 384, 640, 2880])
@pytest.mark.parametrize("kind", Kind, ids=str)
def test_sizes_that_are_no_multiple_of_a_step_are_supported(kind, size):
    for i in sorting():
        if i.kind is kind and i.activation in (None, ActivationType.Silu):
            assert problem(kind, inter_dim=size).supports(i), i.name


@pytest.mark.parametrize(
    ("made", "word"),
    [
        (instance(strips=3), "half gate and half up"),
        (instance(block_m=256, waves=8, depth=1, row_waves=3), "do not divide into 3 rows"),
        (instance(Kind.A16W4, 128, row_waves=2), "decode the same weights"),
        (instance(block_m=128, waves_per_simd=1), "no registers for weights 2 steps ahead"),
        (instance(block_m=256, depth=1, waves_per_simd=1), "256 rows x 2 strips a wave"),
        (instance(waves=32), "threads"),
        (instance(Kind.A16W4, block_m=128), "bytes of LDS"),
        (instance(Kind.A16W4, block_m=16, waves=3), "do not divide"),
        (instance(strips=6, block_m=128), "VGPRs"),
        (instance(depth=2, stages=2), "2 stages of rows, a depth of 2 takes 3"),
        (instance(depth=6, waves_per_simd=1), "loads in flight"),
    ],
)
def test_tiles_past_the_limits_of_the_device_are_refused_with_the_figure(made, word):
    verdict = problem(made.kind).supports(made)
    assert not verdict and word in verdict.reason


def test_activations_past_the_reach_of_a_descriptor_are_refused():
    wanted = problem(Kind.A16W4, token=131072, topk=8, inter_dim=2048)
    verdict = wanted.supports(instance(Kind.A16W4, stage=2))
    assert not verdict and "activations take 4294967296 bytes" in verdict.reason


def test_lds_is_a_ring_of_depth_plus_one_stages():
    # 32 rows of 256 elements: 4 KiB of fp4, 16 KiB of bf16 and 16 bytes more for every 2 rows.
    assert lds_bytes(instance()) == 3 * 4096
    assert lds_bytes(instance(Kind.A16W4, depth=1)) == 2 * (16384 + 16 * 16)
    # 16 rows of fp4 are 2 fragments; four waves fetch one each all the same.
    assert lds_bytes(instance(block_m=16)) == 3 * 4096


def test_the_catalogue_obeys_its_own_limits():
    for i in sorting():
        assert lds_bytes(i) <= DEVICES["gfx950"].lds_bytes
        assert vgpr_estimate(i) <= i.tile.vgpr_budget


def test_a_grid_covers_rows_columns_and_parts():
    made = instance(Kind.A16W4, split_k=True)
    assert launches(made, arguments(ksplit=3)) == (
        Launch(made.name, (288, 1, 1), 256),
        Launch(made.name + "_finish", (256, 2, 1), 256),
    )
    assert launches(instance(stage=2), arguments(n=2880, k=384, w_rows=2880))[0].grid == (384, 1, 1)


def test_persistent_kernels_fill_the_compute_units_there_are():
    made = instance(block_m=64, persistent=True)
    assert launches(made, arguments(sorted_rows=1 << 16))[0].grid == (512, 1, 1)
    assert launches(made, arguments(sorted_rows=1 << 16), 20)[0].grid == (40, 1, 1)
    assert launches(made, arguments(sorted_rows=64), 20)[0].grid == (8, 1, 1)  # 3 work items


def test_a_compute_unit_holds_what_registers_lds_and_barriers_leave_room_for():
    assert workgroups_per_cu(instance()) == 2  # 8 waves of half the registers
    assert workgroups_per_cu(instance(waves=2)) == 4
    assert workgroups_per_cu(instance(waves_per_simd=1)) == 1
    assert workgroups_per_cu(instance(Kind.A16W4, block_m=64, depth=2)) == 1  # 96 KiB of LDS
    assert workgroups_per_cu(instance(waves=2, waves_per_simd=8, block_m=16, depth=1)) == 16


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"n": 400}, "n is 400"),
        ({"k": 2872}, "k is 2872"),
        ({"w_rows": 784}, "w_rows is 784"),
        ({"out_stride": 386}, "out_stride is 386"),
        ({"x_stride": 2888}, "x_stride of codes is 2888"),
        ({"ksplit": 2}, "needs a split-k instance"),
        ({"tokens": 1 << 21}, "activations take"),
        # a descriptor that begins 4 KiB before these rows would reach masked lanes
        ({"tokens": (1 << 20) - 1, "x_stride": 4096}, "activations take 2147481600 bytes"),
        ({"sorted_rows": 1 << 25}, "activation scales take"),
    ],
)
def test_a_launch_the_kernel_could_not_do_is_refused(changes, word):
    with pytest.raises(LaunchError, match=word):
        launches(instance(), arguments(**changes))


def test_a_rendered_kernel_instantiates_and_names_itself():
    made = instance(Kind.A16W4, split_k=True)
    source = render(made).source
    assert f"{made.name}(aiter_moe::StageArgs args)" in source
    assert f"{made.name}_finish(aiter_moe::StageArgs args)" in source
    assert "for (" not in source and "Activation::silu" in source
