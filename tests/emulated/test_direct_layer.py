# SPDX-License-Identifier: MIT
"""A layer of up to 16 tokens by two kernels that read the routing themselves.

Against float64, and bit for bit against the stages after a sort where no reduction is cut into
parts. The emulator executes every kernel with every check on.
"""

from __future__ import annotations

import pytest
import torch
from gfx9_direct import Layer, direct, pair, quantised
from reference import problem_of_a_rank, random_problem, relative_l2

from aiter_moe.codegen.instance import ACTIVATIONS, Output
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.targets.arguments import ElementType

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

KINDS = pytest.mark.parametrize("kind", Kind, ids=str)
BOUND = {Kind.A16W4: 3e-3, Kind.A4W4: 4e-3}


def check(layer: Layer, columns: int = 16, output: Output | None = None) -> torch.Tensor:
    """Compare kernels that cut reductions into parts with float64."""
    got = layer.run(*pair(layer.kind, columns, activation=layer.activation, output=output))
    want = layer.reference()
    assert relative_l2(got[:, : want.shape[1]], want) <= BOUND[layer.kind]
    assert torch.count_nonzero(got[:, want.shape[1] :]) == 0
    return got


def check_bits(layer: Layer, columns: int = 16) -> None:
    """Compare kernels that reduce in order with the stages after a sort."""
    first, second = pair(layer.kind, columns, activation=layer.activation, in_order=True)
    rows, sorted_rows = layer.stage1(first), layer.sorted_stage1()
    held = (layer.experts_of() >= 0).reshape(-1)
    assert torch.equal(rows[held], sorted_rows[held])
    assert rows[~held].isnan().all()
    rows = rows.masked_fill(~held[:, None], 0)
    assert torch.equal(layer.stage2(second, rows), layer.sorted_stage2(rows))


SIZES = (  # tokens, hidden, inter, experts, topk
    (1, 256, 128, 4, 1),
    (3, 352, 192, 9, 8),
    (16, 192, 384, 5, 4),
    (7, 288, 640, 33, 10),
    (16, 64, 96, 512, 16),
)


@pytest.mark.parametrize("index", range(5))
@KINDS
def test_the_bits_are_those_of_the_stages_after_a_sort(kind, index):
    check_bits(
        Layer(
            random_problem(*SIZES[index], seed=index, bias=index != 1), kind,
            ACTIVATIONS[index % 4], interleaved=index in (0, 3), doweight_stage1=index == 2,
        ),
        columns=32 if index % 2 else 16,
    )  # fmt: skip


@pytest.mark.parametrize("index", range(5))
@KINDS
def test_reductions_in_parts_add_up(kind, index):
    check(
        Layer(
            random_problem(*SIZES[index], seed=index, bias=index != 1), kind,
            ACTIVATIONS[index % 4], interleaved=index in (0, 3), doweight_stage1=index == 2,
        ),
        columns=16 if index % 2 else 32,
    )  # fmt: skip


@KINDS
def test_hidden_size_2880(kind):
    check(Layer(random_problem(2, 2880, 64, 2, 1, bias=True), kind, ActivationType.Swiglu))


@KINDS
def test_inter_size_2880_and_more_parts_than_waves_need(kind):
    p = random_problem(2, 64, 2880, 2, 2, bias=True)
    layer = Layer(p, kind, ActivationType.Swiglu)
    first = direct("gfx950", kind, 1, waves=8, activation=layer.activation)
    for parts, depth in ((8, 1), (4, 2), (2, 3)):
        second = direct("gfx950", kind, 2, waves=8, parts=parts, depth=depth)
        assert relative_l2(layer.run(first, second), layer.reference()) <= BOUND[kind]


# Routing.


@KINDS
def test_one_expert_has_all_pairs_in_sixteen_blocks(kind):
    p = random_problem(16, 64, 64, 16, 16, bias=True)
    p.topk_ids[:] = 3
    check_bits(Layer(p, kind))


@KINDS
def test_tokens_may_name_an_expert_twice(kind):
    p = random_problem(9, 96, 64, 3, 3, bias=True)
    p.topk_ids[:] = torch.randint(0, 3, (9, 3), generator=torch.Generator().manual_seed(1))
    check_bits(Layer(p, kind))
    check(Layer(p, kind))


@pytest.mark.parametrize("tokens", [0, 1, 11, 16])
@KINDS
def test_masked_experts_and_foreign_tokens_contribute_nothing(kind, tokens):
    p, local = problem_of_a_rank()
    p.x, p.topk_ids, p.topk_weights = p.x[:16], p.topk_ids[:16], p.topk_weights[:16]
    p.topk_ids[tokens:] = 2**30  # never looked at
    layer = Layer(p, kind, local=local, local_tokens=tokens)
    check_bits(layer)
    out = layer.run(*pair(kind))
    assert torch.count_nonzero(out[tokens:]) == 0
    assert torch.count_nonzero(out[0]) == 0


def test_a_mask_over_many_experts_numbers_those_that_are_held():
    g = torch.Generator().manual_seed(2)
    local = torch.zeros(300, dtype=torch.int32)
    local[torch.randperm(300, generator=g)[:20]] = 1
    p = random_problem(16, 64, 64, 20, 10, bias=True)
    p.topk_ids[:] = torch.stack([torch.randperm(300, generator=g)[:10] for _ in range(16)])
    held = local.nonzero()[:, 0]
    p.topk_ids[3, :5] = held[:5]
    check_bits(Layer(p, Kind.A16W4, local=local))


@pytest.mark.parametrize("expert", [-1, 5, 2**30])
def test_an_expert_out_of_range_makes_its_token_nan_and_no_other(expert):
    p = random_problem(3, 64, 64, 5, 2)
    want = Layer(p, Kind.A16W4).run(*pair(Kind.A16W4))
    p.topk_ids[1, 1] = expert
    got = Layer(p, Kind.A16W4).run(*pair(Kind.A16W4))
    assert got[1].isnan().all()
    assert torch.equal(got[[0, 2]], want[[0, 2]])


# Types and layouts.


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@KINDS
def test_the_output_is_rounded_once(kind, dtype):
    layer = Layer(random_problem(5, 64, 160, 3, 2, bias=True), kind)
    exact = layer.run(*pair(kind))
    layer.out_dtype = dtype
    assert torch.equal(layer.run(*pair(kind)), exact.to(dtype))


@pytest.mark.parametrize("pad", [8, 16, 160])
def test_columns_of_padding_are_zero(pad):
    layer = Layer(random_problem(5, 96, 64, 3, 2), Kind.A16W4, hidden_pad=pad)
    check(layer, columns=32)
    layer.out_dtype = torch.bfloat16
    check(layer, columns=16)


@pytest.mark.parametrize("x_type", [ElementType.f16, ElementType.fp4])
def test_a4w4_takes_halves_and_codes(x_type):
    p = random_problem(6, 352, 64, 3, 2, bias=True)
    layer = Layer(p, Kind.A4W4, x_type=x_type)
    if x_type is ElementType.f16:
        p.x[0, :3] = torch.tensor([1e-6, -3e-7, 6e-8])  # subnormal in f16
        p.x[0, 3:32] = 0
    rows = layer.stage1(pair(Kind.A4W4, in_order=True)[0])
    assert torch.equal(rows, layer.sorted_stage1())


def test_blocks_that_cannot_be_quantised_behave_as_in_the_quantiser():
    p = random_problem(2, 128, 64, 2, 1)
    p.x[0, :32] = 0
    p.x[0, 32:64] *= 2.0**-120
    p.x[0, 64:96] *= 2.0**120
    p.x[1, 5] = torch.inf
    layer = Layer(p, Kind.A4W4)
    rows, want = layer.stage1(pair(Kind.A4W4, in_order=True)[0]), layer.sorted_stage1()
    assert torch.equal(rows.view(torch.int16), want.view(torch.int16))
    assert rows[p.topk_ids.shape[1] :].isnan().all()


def test_stage_2_takes_codes_as_well_as_rows_that_it_quantises():
    layer = Layer(random_problem(4, 64, 352, 3, 2, bias=True), Kind.A4W4)
    first, second = pair(Kind.A4W4)
    rows = layer.stage1(first)
    codes = quantised(rows)
    assert torch.equal(layer.stage2(second, codes), layer.stage2(second, rows))


@KINDS
def test_the_order_of_waves_changes_no_bit(kind):
    layer = Layer(random_problem(5, 288, 544, 6, 4, bias=True), kind)
    first = layer.run(*pair(kind))
    for seed in (1, 2, 3):
        layer.seed = seed
        assert torch.equal(layer.run(*pair(kind)), first)


@pytest.mark.parametrize("columns", [16, 32])
def test_gfx942(columns):
    layer = Layer(random_problem(5, 352, 192, 6, 4, bias=True), Kind.A16W4)
    kernels = pair(Kind.A16W4, columns, target="gfx942", in_order=columns == 32)
    assert relative_l2(layer.run(*kernels), layer.reference()) <= BOUND[Kind.A16W4]


@pytest.mark.parametrize("tokens", [1, 3, 16])
def test_codes_out_of_stage_1_are_those_of_its_rows(tokens):
    layer = Layer(random_problem(tokens, 352, 192, 5, 3, bias=True), Kind.A4W4)
    layer.local = torch.tensor([1, 1, 0, 1, 1, 1])
    rows = layer.stage1(pair(Kind.A4W4, 32)[0])
    held = (layer.experts_of() >= 0).reshape(-1)
    codes, scales = layer.stage1(pair(Kind.A4W4, 32, output=Output.FP4)[0])
    want_codes, want_scales = quantised(rows[held])
    assert torch.equal(codes[held], want_codes)
    assert torch.equal(scales[held], want_scales)
    assert (codes[~held] == 0x77).all()
    assert (scales[~held] == 0xFF).all()
    check(layer, columns=32, output=Output.FP4)
