# SPDX-License-Identifier: MIT
"""How CPU drivers cut up work: into segments, passes, ranges of columns; and the final output."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from cpu_kernels import (
    Case,
    Crew,
    Shape,
    bound,
    every_kernel,
    instance_of,
    make_case,
    relative_l2,
)

from aiter_moe.codegen.cpu import SHAPES
from aiter_moe.codegen.instance import BLOCK_M, Output
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.formats.mxfp4 import quantise_1x32

CREWS = (Crew(1, 1000), Crew(1, 1), Crew(3, 2, seed=1), Crew(7, 1, seed=2))
OUTPUTS = pytest.mark.parametrize(
    "output", [Output.BF16, Output.ROWS, Output.FINAL], ids=lambda o: o.value
)


def instance_with(isa: str, kind: Kind, output: Output, block_m: int):
    if output is Output.BF16:
        return instance_of(isa, kind, 1, block_m, activation=ActivationType.Silu, split_k=False)
    return instance_of(isa, kind, 2, block_m, output)


def bits(out: torch.Tensor) -> torch.Tensor:
    return out.view(torch.int16 if out.element_size() == 2 else torch.int32)


def same(first: Case, second: Case) -> bool:
    return torch.equal(bits(first.run()), bits(second.run()))


@OUTPUTS
@every_kernel
def test_results_do_not_depend_on_who_runs_what(isa, kind, output):
    instance = instance_with(isa, kind, output, 16)
    case = make_case(
        instance, Shape(tokens=70, topk=3, experts=4, n=448, k=96), bias=True, doweight=True
    )
    assert all(same(case, replace(case, crew=crew)) for crew in CREWS)


@pytest.mark.parametrize("columns", [64, 4096])
@OUTPUTS
@every_kernel
def test_any_width_of_an_item_gives_the_same(isa, kind, output, columns):
    instance = instance_with(isa, kind, output, 32)
    wide = replace(instance, tile=replace(instance.tile, columns=columns))
    for tokens in (21, 90):  # of 90 a segment of stage 1 is packed by the one item that reads it
        shape = Shape(tokens, topk=2, experts=6, n=400, k=96)
        case = make_case(instance, shape, bias=True)
        assert same(case, replace(case, instance=wide)), tokens


@pytest.mark.parametrize("block_m", BLOCK_M)
@OUTPUTS
@every_kernel
def test_an_expert_with_everything_is_cut_into_segments(isa, kind, output, block_m):
    instance = instance_with(isa, kind, output, block_m)
    case = make_case(
        instance, Shape(tokens=307, topk=2, experts=3, n=80, k=64), routing="one", doweight=True
    )
    assert relative_l2(case.run(), case.reference()) <= bound(instance)


@every_kernel
def test_long_rows_make_short_segments(isa, kind):
    # 512 KB hold a few packed rows only.
    instance = instance_of(isa, kind, 2, 128, Output.FINAL)
    case = make_case(instance, Shape(tokens=67, topk=1, experts=1, n=16, k=16384))
    assert relative_l2(case.run(), case.reference()) <= bound(instance)


@every_kernel
def test_every_number_of_rows_adds_to_a_final_output(isa, kind):
    instance = instance_of(isa, kind, 2, 64, Output.FINAL)
    for tokens in (*range(1, 100), 191, 192, 193, 257):
        case = make_case(instance, Shape(tokens, topk=1, experts=1, n=80, k=64), seed=tokens)
        assert relative_l2(case.run(), case.reference()) <= bound(instance), tokens


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@every_kernel
def test_a_final_output_is_the_sum_in_f32_rounded_once(isa, kind, dtype):
    instance = instance_of(isa, kind, 2, 32, Output.FINAL)
    for tokens in (1, 3, 17, 129):
        shape = Shape(tokens, topk=4, experts=6, n=336, k=128)
        case = make_case(instance, shape, bias=True, doweight=True)
        rounded = replace(case, final_dtype=dtype).run()
        assert torch.equal(bits(rounded[:, :336]), bits(case.run()[:, :336].to(dtype))), tokens


@pytest.mark.parametrize("tokens", [700, 2100])
@every_kernel
def test_sums_of_many_tokens_stay_small(isa, kind, tokens):
    instance = instance_of(isa, kind, 2, 128, Output.FINAL)
    wide = replace(instance, tile=replace(instance.tile, columns=256))
    case = make_case(wide, Shape(tokens, topk=2, experts=3, n=288, k=32), routing="sparse")
    assert relative_l2(case.run(), case.reference()) <= bound(instance)


@every_kernel
def test_without_local_experts_a_final_output_is_zero(isa, kind):
    instance = instance_of(isa, kind, 2, 16, Output.FINAL)
    case = make_case(instance, Shape(tokens=5, topk=2, experts=4, n=160, k=64), bias=True)
    case.sorted.valid[:] = 0
    assert (case.run()[:, :160] == 0).all()


@pytest.mark.parametrize("columns", [64, 256])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@OUTPUTS
@pytest.mark.parametrize("isa", [isa for isa, kind in SHAPES if kind is Kind.A4W4])
def test_floats_for_fp4_kernels_are_quantised_as_they_are_packed(isa, output, dtype, columns):
    instance = instance_with(isa, Kind.A4W4, output, 16)
    instance = replace(instance, tile=replace(instance.tile, columns=columns))
    for tokens in (2, 90):  # packed by one thread, and by all
        case = make_case(instance, Shape(tokens, topk=3, experts=4, n=80, k=416), doweight=True)
        g = torch.Generator().manual_seed(tokens)
        x = torch.randn(case.x.shape[0], 416, generator=g).mul(3).to(dtype)
        codes, scales = quantise_1x32(x)
        floats = replace(case, x=x, x_scale=None, crew=Crew(1 if columns == 256 else 3, 1, seed=3))
        assert same(floats, replace(case, x=codes, x_scale=scales))
