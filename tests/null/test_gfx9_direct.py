# SPDX-License-Identifier: MIT
"""Direct kernels as data: which problems they take, their grids, what arguments they refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aiter_moe.codegen.gfx9 import launches
from aiter_moe.codegen.gfx9.direct import DirectTile, direct_instances
from aiter_moe.codegen.instance import Instance, Output
from aiter_moe.codegen.pairs import pair_refusal
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.errors import LaunchError
from aiter_moe.problem import Q_DTYPE_A, Problem
from aiter_moe.targets.arguments import ElementType, StageArgs

FIRST = DirectTile(1, 32, 4, 4, 1, 2, True, Output.FP4)
SECOND = DirectTile(2, 16, 8, 2, 3, 2, True, Output.FINAL)


def stage(tile: DirectTile, kind: Kind = Kind.A4W4) -> Instance:
    activation = ActivationType.Silu if tile.stage == 1 else None
    return Instance("gfx950", kind, tile.stage, 16, activation, False, tile)


def problem(**fields: object) -> Problem:
    base = Problem(16, 3072, 192, 256, 8, ActivationType.Silu, Q_DTYPE_A[Kind.A4W4])
    return replace(base, **fields)


def test_names_say_the_cut():
    assert stage(FIRST).name == "aiter_moe_gfx950_a4w4_s1_silu_m16_n32k256_w4k4d1_nt_fp4_direct"
    assert stage(SECOND).name == "aiter_moe_gfx950_a4w4_s2_m16_n16k256_w8k2d3_nt_direct"
    names = [i.name for target in ("gfx950", "gfx942") for i in direct_instances(target)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("inter", [128, 192, 256, 384, 512, 640, 1536])
@pytest.mark.parametrize("token", [1, 2, 16])
def test_sizes_of_tensor_parallelism_have_kernels(token, inter):
    for hidden in (2880, 3072, 7168):
        asked = problem(token=token, model_dim=hidden, inter_dim=inter)
        for tile in (FIRST, SECOND):
            assert asked.supports(stage(tile)), asked.supports(stage(tile))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"token": 32}, "32 tokens, the routing is read directly up to 16"),
        ({"topk": 17, "experts": 64}, "topk 17"),
        ({"experts": 4097}, "4097 experts"),
    ],
)
def test_what_the_routing_table_does_not_hold_is_refused(fields, reason):
    assert reason in problem(**fields).supports(stage(SECOND)).reason


@pytest.mark.parametrize(
    ("tile", "reason"),
    [
        (replace(FIRST, columns=16), "16 columns are no MX block"),
        (replace(FIRST, parts=2), "4 waves share a block of stage 1"),
        (replace(SECOND, waves=6), "wanted powers of two"),
        (replace(SECOND, waves=32), "2048 threads"),
        (replace(SECOND, waves=16, parts=16), "bytes of LDS"),
        (replace(FIRST, depth=3), "VGPRs"),
    ],
)
def test_a_tile_that_cannot_be_built_is_refused(tile, reason):
    assert reason in problem().supports(stage(tile)).reason


def arguments(**fields: int) -> StageArgs:
    return StageArgs(**{
        "tokens": 16, "topk": 8, "experts": 256, "n": 192, "k": 3072, "w_rows": 384,
        "w_k": 3072, "x_stride": 3072, "out_stride": 192, **fields,
    })  # fmt: skip


def test_stage_1_has_a_workgroup_for_every_block_there_can_be():
    first = stage(FIRST)
    assert launches(first, arguments())[0].grid == (128 * 6, 1, 1)
    assert launches(first, arguments(tokens=1))[0].grid == (8 * 6, 1, 1)
    # Two experts: at most 128 / 16 whole blocks and two that are not full.
    assert launches(first, arguments(experts=2))[0].grid == (64, 1, 1)
    assert launches(first, arguments())[0].threads == 256


def test_stage_2_has_a_workgroup_for_its_columns_padding_included():
    second = stage(SECOND)
    down = {"n": 3072, "k": 192, "w_rows": 3072, "w_k": 192, "x_stride": 192}
    assert launches(second, arguments(**down, out_columns=3072))[0].grid == (192, 1, 1)
    assert launches(second, arguments(**down, out_columns=3200))[0].grid == (200, 1, 1)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"tokens": 17}, "tokens is 17"),
        ({"experts": 5000}, "experts is 5000"),
        ({"n": 48}, "n is 48"),
        ({"x_stride": 3073}, "x_stride is 3073"),
        ({"out_stride": 193}, "out_stride is 193"),
    ],
)
def test_arguments_that_a_kernel_cannot_take_are_refused(fields, reason):
    with pytest.raises(LaunchError, match=reason):
        launches(stage(FIRST), arguments(**fields))


@pytest.mark.parametrize(
    ("kind", "tile", "refused"),
    [
        (Kind.A16W4, replace(FIRST, output=Output.BF16), {"f16", "f32", "fp4"}),
        (Kind.A4W4, FIRST, {"f32"}),
        (Kind.A4W4, SECOND, {"f16", "f32"}),
    ],
)
def test_rows_of_types_that_a_kernel_does_not_read_are_refused(kind, tile, refused):
    for x_type in ElementType:
        given = arguments(x_type=x_type, out_columns=192)
        if x_type.name in refused:
            with pytest.raises(LaunchError, match=f"x_type is {x_type.value}"):
                launches(stage(tile, kind), given)
        else:
            assert launches(stage(tile, kind), given)


def test_scales_of_rows_begin_at_multiples_of_8():
    with pytest.raises(LaunchError, match="x_scale_stride is 6"):
        launches(stage(SECOND), arguments(x_scale_stride=6, out_columns=192))


def test_rows_and_codes_may_both_come_before_stage_2():
    bf16 = stage(replace(FIRST, output=Output.BF16))
    assert pair_refusal(stage(FIRST), stage(SECOND)) is None
    assert pair_refusal(bf16, stage(SECOND)) is None
    assert pair_refusal(bf16, stage(SECOND, Kind.A16W4)) is None
    assert pair_refusal(stage(FIRST), stage(SECOND, Kind.A16W4)) is not None
