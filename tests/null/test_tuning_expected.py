# SPDX-License-Identifier: MIT
"""Operands and reference of the tuner: reproducible, prefix-stable, and right."""

import pytest
import torch
from reference import MoeProblem, reference_moe, relative_l2

from aiter_moe.enums import ActivationType, GateMode, Kind
from aiter_moe.tuning import operands
from aiter_moe.tuning.bench import compare, poisoned_memory
from aiter_moe.tuning.expected import STAGE2_WAYS, Expected, checked_tokens, compute_expected
from aiter_moe.tuning.operands import Layer
from aiter_moe.tuning.outcomes import Ok, WrongResult

SMALL = Layer(128, 64, 6, 2, ActivationType.Silu)


def as_problem(layer, seed, tokens):
    made = [operands.expert_weights(layer, seed, e) for e in range(layer.experts)]
    route = operands.routing(layer, seed, tokens)
    bias1, bias2 = operands.biases(layer, seed)
    return MoeProblem(
        operands.hidden_states(layer, seed, tokens),
        *(torch.stack(parts) for parts in zip(*made, strict=True)),
        route.ids, route.weights, bias1, bias2,
    )  # fmt: skip


@pytest.mark.parametrize(
    "layer",
    [
        SMALL,
        Layer(96, 128, 4, 3, ActivationType.Swiglu, has_bias=True),
        Layer(64, 32, 5, 2, ActivationType.Gelu, doweight_stage1=True, has_bias=True),
        Layer(64, 64, 4, 1, ActivationType.Situv2),
        Layer(64, 64, 4, 2, ActivationType.Silu, gate_mode=GateMode.INTERLEAVE),
    ],
    ids=lambda layer: layer.activation.name,
)
def test_the_reference_agrees_with_a_row_by_row_one(layer):
    found = compute_expected(layer, 3, 17)
    problem = as_problem(layer, 3, 17)
    for path in STAGE2_WAYS:
        want = reference_moe(
            problem, layer.activation, path.problem, doweight_stage1=layer.doweight_stage1,
            skip_inter_quant=path.stage2 is Kind.A16W4,
        )  # fmt: skip
        assert relative_l2(found.out[path], want) < 1e-6


def test_fewer_tokens_are_a_prefix_of_more():
    few, many = compute_expected(SMALL, 1, 5), compute_expected(SMALL, 1, 19)
    for kind in Kind:
        assert torch.equal(few.stage1[kind], many.stage1[kind][:5])
    for path in STAGE2_WAYS:
        torch.testing.assert_close(few.out[path], many.out[path][:5], rtol=1e-6, atol=1e-6)
    assert torch.equal(operands.routing(SMALL, 1, 5).ids, operands.routing(SMALL, 1, 19).ids[:5])


def test_outputs_are_of_order_one():
    found = compute_expected(Layer(512, 256, 4, 2, ActivationType.Swiglu, has_bias=True), 0, 32)
    for result in (*found.stage1.values(), *found.out.values()):
        assert 0.1 < float(result.std()) < 10


def test_seeds_differ_and_the_same_seed_gives_the_same_operands():
    same = operands.expert_weights(SMALL, 5, 2)
    assert all(
        torch.equal(a, b) for a, b in zip(same, operands.expert_weights(SMALL, 5, 2), strict=True)
    )
    assert not torch.equal(same.codes1, operands.expert_weights(SMALL, 6, 2).codes1)
    assert not torch.equal(same.codes1, operands.expert_weights(SMALL, 5, 3).codes1)


def test_routing_picks_distinct_experts_with_weights_that_sum_to_one():
    route = operands.routing(Layer(64, 64, 32, 4, ActivationType.Silu), 0, 200)
    assert all(len(set(ids)) == 4 for ids in route.ids.tolist())
    torch.testing.assert_close(route.weights.sum(1), torch.ones(200))
    assert len(set(route.ids.flatten().bincount().tolist())) > 5  # popular and unpopular experts


@pytest.mark.parametrize("experts", [1, 6, 32, 256])
def test_rotating_the_routing_keeps_every_experts_load(experts):
    route = operands.routing(Layer(64, 64, experts, 1, ActivationType.Silu), 0, 64)
    loads = sorted(route.ids.flatten().bincount(minlength=experts).tolist())
    for turn in range(10):
        turned = operands.rotated(route, turn, experts)
        assert sorted(turned.ids.flatten().bincount(minlength=experts).tolist()) == loads
        assert operands.active_experts(turned) == operands.active_experts(route)


def test_checked_tokens_are_all_up_to_512_then_a_sample_that_is_a_prefix():
    assert checked_tokens(512).tolist() == list(range(512))
    many = checked_tokens(16384)
    assert len(many) == 512 + 5 * 128
    assert int(many[-1]) == 16383
    assert torch.equal(many[many < 2048], checked_tokens(2048))
    assert torch.equal(torch.unique(many), many)


def test_the_reference_is_read_back_as_written_and_a_torn_file_is_not(tmp_path):
    found = compute_expected(SMALL, 0, 4)
    path = tmp_path / "reference.npz"
    assert Expected.load(path) is None
    found.save(path)
    again = Expected.load(path)
    assert torch.equal(again.tokens, found.tokens)
    assert all(torch.equal(again.stage1[k], found.stage1[k]) for k in Kind)
    assert all(torch.equal(again.out[p], found.out[p]) for p in STAGE2_WAYS)
    path.write_bytes(path.read_bytes()[:1000])
    assert Expected.load(path) is None
    assert [p.name for p in tmp_path.iterdir()] == ["reference.npz"]


def test_bf16_rounding_passes_and_one_wrong_row_or_hole_does_not():
    want = torch.randn(64, 512, generator=torch.Generator().manual_seed(0))
    rounded = want.to(torch.bfloat16)
    assert isinstance(compare(rounded, want), Ok)
    one_row = rounded.clone()
    one_row[7] *= 1.02
    assert isinstance(compare(one_row, want), WrongResult)
    hole = rounded.clone()
    hole[3, 5] = torch.nan
    verdict = compare(hole, want)
    assert isinstance(verdict, WrongResult)
    assert verdict.reason.startswith("1 rows hold NaN")


def test_poisoned_memory_is_nan_inside_and_ordinary_outside():
    with poisoned_memory():
        for dtype in (torch.float32, torch.bfloat16):
            assert bool(torch.empty(1000, dtype=dtype).isnan().all())
    assert not torch.are_deterministic_algorithms_enabled()
