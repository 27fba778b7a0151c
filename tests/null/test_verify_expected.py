# SPDX-License-Identifier: MIT
"""verify's operands, its reference, and its judgement of an output."""

from __future__ import annotations

import math

import pytest
import torch
from reference import activate

from aiter_moe.codegen.catalogue import catalogue
from aiter_moe.enums import GateMode, Kind
from aiter_moe.formats import NAN_SCALE, dequantise
from aiter_moe.verify.expected import expected_rows, judge, tolerance_of
from aiter_moe.verify.matrices import SIX_SIX
from aiter_moe.verify.operands import prepare
from aiter_moe.verify.problems import CONSTANTS, Padding, Scales, Size, Spread, StageCase, axes_of


def case_of(kind, stage, **changes):
    instance = [i for i in catalogue("cpu") if (i.kind, i.stage) == (kind, stage)][-1]
    values = {axis.name: axis.values[0] for axis in axes_of(instance)}
    values |= {"size": Size(96, 64), "tokens": 5, "topk": 4} | changes
    return StageCase(instance=instance, seed=3, **values)


def weight_of(prepared, expert):
    """The weight as the packed bytes say, without padding, in float64."""
    case = prepared.case
    codes, scales = (part[expert] for part in prepared.weight.unpack())
    rows = codes.shape[0]
    halves = 2 if case.instance.stage == 1 else 1
    keep = [half * rows // halves + i for half in range(halves) for i in range(case.columns)]
    k = case.reduction
    return dequantise(codes[keep, : k // 2], scales[keep, : k // 32])


def slow(prepared):
    """Row by row, from the tensors a kernel gets."""
    case, route = prepared.case, prepared.routing
    first = case.instance.stage == 1
    local = None if route.expert_mask is None else route.expert_mask.cumsum(0) - 1
    out = torch.full((case.tokens * case.topk, case.columns), torch.nan, dtype=torch.float64)
    k = case.reduction
    for token in range(case.local_tokens):
        for slot in range(case.topk):
            expert = int(route.ids[token, slot])
            if local is not None:
                if not route.expert_mask[expert]:
                    continue
                expert = int(local[expert])
            row = token if first else token * case.topk + slot
            values = prepared.x.values[row, :k].double()
            if prepared.x.scales is not None:
                codes, scales = prepared.x.values[row, : k // 2], prepared.x.scales[row, : k // 32]
                values = dequantise(codes[None], scales[None])[0]
            y = weight_of(prepared, expert) @ values
            bias = torch.zeros(1, dtype=torch.float64)
            if prepared.bias is not None:
                halves = prepared.bias[expert].view(2 if first else 1, -1)[:, : case.columns]
                bias = halves.flatten().double()
            weight = float(route.weights[token, slot]) if case.doweight else 1.0
            if first:
                gate, up = (y * weight + bias).chunk(2)
                constants = case.constants
                y = activate(
                    gate, up, case.instance.activation, limit=constants.limit,
                    beta=constants.beta, linear_beta=constants.linear_beta,
                )  # fmt: skip
            else:
                y = (y + bias) * weight
            out[token * case.topk + slot] = y
    return out


CASES = [
    {},
    {"spread": Spread.MASKED, "padding": Padding.BOTH, "bias": True, "doweight": True},
    {"spread": Spread.LOCAL, "padding": Padding.INTER, "topk": 1, "bias": True},
    {"spread": Spread.ONE, "padding": Padding.HIDDEN, "doweight": True, "scales": Scales.EXTREME},
    {"spread": Spread.SPARSE, "size": Size(192, 160), "scales": Scales.EXTREME},
]


@pytest.mark.parametrize("changes", CASES)
@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("kind", Kind, ids=str)
def test_the_reference_is_the_product_of_what_the_kernel_gets(kind, stage, changes):
    changes = dict(changes)
    if stage == 1 and changes.get("bias"):
        changes |= {"gate_mode": GateMode.INTERLEAVE}
    prepared = prepare(case_of(kind, stage, **changes), 1)
    torch.testing.assert_close(
        expected_rows(prepared), slow(prepared), rtol=1e-12, atol=1e-12, equal_nan=True
    )


@pytest.mark.parametrize("activation", [a for a in CONSTANTS if a is not None], ids=str)
def test_the_reference_has_every_activation_with_its_constants(activation):
    for constants in CONSTANTS[activation]:
        instance = next(i for i in catalogue("cpu") if i.activation is activation)
        values = {axis.name: axis.values[0] for axis in axes_of(instance)}
        values |= {"size": Size(96, 64), "tokens": 5, "topk": 1, "constants": constants}
        prepared = prepare(StageCase(instance=instance, seed=5, **values), 1)
        torch.testing.assert_close(expected_rows(prepared), slow(prepared), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("stage", [1, 2])
def test_padding_of_weights_and_whole_idle_experts_are_hostile(stage):
    case = case_of(Kind.A4W4, stage, padding=Padding.BOTH, spread=Spread.SPARSE, bias=True)
    prepared = prepare(case, 1)
    codes, scales = prepared.weight.unpack()
    busy = set(prepared.owners.flatten().tolist())
    assert busy < set(range(len(codes)))
    for expert in range(len(codes)):
        inside = codes[expert][: case.columns, : case.reduction // 2]
        outside = codes[expert][:, case.reduction // 2 :]
        assert (outside == SIX_SIX).all()
        assert (scales[expert][:, case.reduction // 32 :] == NAN_SCALE).all()
        assert bool((inside == SIX_SIX).all()) is (expert not in busy)
        assert bool(prepared.bias[expert].isnan().all()) is (expert not in busy)
    physical = prepared.bias.view(len(codes), -1, codes.shape[1] // (2 if stage == 1 else 1))
    assert physical[:, :, case.columns :].isnan().all()


def test_rows_nobody_reads_and_the_gaps_between_rows_are_hostile():
    bf16 = prepare(case_of(Kind.A16W4, 1, spread=Spread.LOCAL, padding=Padding.HIDDEN), 1)
    rows = bf16.x.values
    whole = rows.as_strided((len(rows), rows.stride(0)), rows.stride())
    used = bf16.case.local_tokens
    assert whole[:used, bf16.case.reduction :].isnan().all()
    assert whole[used:].isnan().all()
    assert not whole[:used, : bf16.case.reduction].isnan().any()
    fp4 = prepare(case_of(Kind.A4W4, 2, spread=Spread.MASKED), 1)
    idle = (fp4.owners < 0).flatten()
    assert idle.any()
    assert (fp4.x.scales[idle] == NAN_SCALE).all()
    assert not (fp4.x.scales[~idle] == NAN_SCALE).any()


def test_extreme_scales_reach_both_ends_and_products_stay_of_order_one():
    for kind in Kind:
        prepared = prepare(case_of(kind, 2, scales=Scales.EXTREME, size=Size(64, 640)), 1)
        used = prepared.weight.unpack()[1][sorted(set(prepared.owners.flatten().tolist()))]
        assert {0, 254} <= set(used.flatten().tolist())
        want = expected_rows(prepared)
        assert 0.3 < float(want.square().mean().sqrt()) < 30


def test_the_same_case_has_the_same_tensors_and_another_seed_others():
    case = case_of(Kind.A4W4, 1)
    one, two, other = prepare(case, 1), prepare(case, 1), prepare(case, 2)
    assert torch.equal(one.weight.codes, two.weight.codes)
    assert torch.equal(one.x.values, two.x.values)
    assert not torch.equal(one.weight.codes, other.weight.codes)


def rounded(stage, want):
    return want.to(torch.bfloat16 if stage == 1 else torch.float32)


@pytest.mark.parametrize("stage", [1, 2])
def test_rounding_alone_passes(stage):
    want = torch.randn(64, 512, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = judge(rounded(stage, want), want, tolerance_of(stage, 512))
    assert not found.reasons
    assert found.error < tolerance_of(stage, 512).relative_l2
    assert found.worst < 1


def test_a_float32_product_passes_as_stage_2_and_its_bf16_rounding_does_not():
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(32, 640, generator=generator, dtype=torch.float64)
    b = torch.randn(640, 96, generator=generator, dtype=torch.float64)
    want = a.float().double() @ b.float().double()
    found = judge(a.float() @ b.float(), want, tolerance_of(2, 640))
    assert not found.reasons
    assert judge(want.to(torch.bfloat16), want, tolerance_of(2, 640)).reasons


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("change", [0.02, -0.05, 3.0])
def test_one_wrong_element_among_many_is_found(stage, change):
    want = torch.randn(512, 2880, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    got = rounded(stage, want)
    got[317, 2001] += change
    found = judge(got, want, tolerance_of(stage, 2880))
    assert "[317, 2001]" in found.reasons[-1]
    assert found.worst > 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_one_nan_or_infinity_is_found(bad):
    want = torch.ones(8, 64, dtype=torch.float64)
    got = rounded(1, want)
    got[3, 5] = bad
    found = judge(got, want, tolerance_of(1, 64))
    assert found.reasons == ("1 of 8 rows hold NaN or infinity",)
    assert math.isnan(found.error)


def test_an_even_error_of_half_a_percent_is_found():
    want = torch.randn(64, 64, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = judge(rounded(1, want * 1.005), want, tolerance_of(1, 64))
    assert any("relative L2" in reason for reason in found.reasons)


def test_nothing_computed_is_nothing_wrong():
    empty = torch.empty(0, 64, dtype=torch.float64)
    assert judge(empty, empty, tolerance_of(1, 64)).reasons == ()
