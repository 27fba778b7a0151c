# SPDX-License-Identifier: MIT
"""The candidate list: every legal way to run a stage, and nothing else."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aiter_moe import dtypes
from aiter_moe.codegen.catalogue import catalogue
from aiter_moe.codegen.constraints import legal_ksplit
from aiter_moe.codegen.cpu import AHEAD, COLUMNS, REQUIRES
from aiter_moe.codegen.cpu import isas as kernels_of
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.problem import Problem
from aiter_moe.targets.base import DeviceFacts
from aiter_moe.tuning.candidates import candidates

FAST = DeviceFacts("cpu", 2, frozenset().union(*REQUIRES.values()))
PLAIN = DeviceFacts("cpu", 2)


def problem(kind=Kind.A16W4, **changes):
    sizes = {
        "token": 16, "model_dim": 2880, "inter_dim": 2880, "experts": 32, "topk": 4,
        "activation": ActivationType.Swiglu, "has_bias": True,
        "q_dtype_a": dtypes.fp4x2 if kind is Kind.A4W4 else torch.bfloat16,
    }  # fmt: skip
    return Problem(**(sizes | changes))


problems = st.builds(
    problem,
    kind=st.sampled_from(Kind),
    token=st.sampled_from([1, 16, 128, 4096]),
    model_dim=st.sampled_from([32, 64, 96, 128, 256, 2880, 7168]),
    inter_dim=st.sampled_from([32, 128, 192, 384, 640, 2880]),
    activation=st.sampled_from(
        [ActivationType.Silu, ActivationType.Gelu, ActivationType.Swiglu, ActivationType.Situv2]
    ),
)


@settings(deadline=None, max_examples=30)
@given(problems)
def test_every_candidate_supports_the_problem(p):
    found = candidates(p, FAST)
    assert found
    assert all(p.supports(c.instance) for c in found)


@settings(deadline=None, max_examples=30)
@given(problems)
def test_a4w4_never_gets_a_split(p):
    if p.kind is Kind.A4W4:
        found = candidates(p, FAST, all_isa=True)
        assert all(c.ksplit == 0 and not c.instance.split_k for c in found)


@settings(deadline=None, max_examples=30)
@given(problems)
def test_a16w4_splits_are_legal_and_run_the_split_kernel(p):
    if p.kind is Kind.A16W4:
        for c in (c for c in candidates(p, FAST) if c.stage == 1):
            assert c.instance.split_k is (c.ksplit > 1)
            assert c.ksplit >= 1
            assert legal_ksplit(p, c.ksplit) is None


def test_splits_that_leave_a_part_without_a_block_are_left_out():
    splits = {c.ksplit for c in candidates(problem(model_dim=128), FAST) if c.stage == 1}
    assert splits == {1, 2}


def test_all_block_sizes_and_splits_of_a_full_layer_are_tried():
    found = {(c.block_m, c.ksplit) for c in candidates(problem(), FAST) if c.stage == 1}
    assert found == {(m, k) for m in (16, 32, 64, 128) for k in (1, 2, 4)}


def test_all_columns_and_prefetch_distances_are_tried():
    found = {(c.instance.tile.columns, c.instance.tile.ahead) for c in candidates(problem(), FAST)}
    assert found == {(columns, ahead) for columns in COLUMNS for ahead in AHEAD}


def test_stage_two_of_a4w4_is_tried_requantised_and_in_bf16():
    found = {c.instance.kind for c in candidates(problem(Kind.A4W4), FAST) if c.stage == 2}
    assert found == {Kind.A4W4, Kind.A16W4}


def test_stage_two_of_a16w4_never_reads_fp4():
    found = {c.instance.kind for c in candidates(problem(), FAST) if c.stage == 2}
    assert found == {Kind.A16W4}


def isas(of, features, all_isa=False):
    facts = DeviceFacts("cpu", 2, frozenset().union(*(REQUIRES[name] for name in features)))
    return {c.instance.tile.isa for c in candidates(of, facts, all_isa) if c.stage == 1}


@pytest.mark.parametrize("kind", Kind)
def test_only_the_best_instruction_set_of_a_kind_is_timed_unless_asked(kind):
    for isa in kernels_of(kind):
        assert isas(problem(kind), [isa]) == {isa}
    best, *others = kernels_of(kind)
    assert isas(problem(kind), REQUIRES) == {best}
    assert isas(problem(kind), REQUIRES, all_isa=True) == {best, *others}
    assert isas(problem(kind), []) == {"portable"}


def test_all_isa_tries_every_supported_kernel_of_the_catalogue():
    p = problem()
    names = {c.instance.name for c in candidates(p, FAST, all_isa=True)}
    assert names == {i.name for i in catalogue("cpu") if p.supports(i)}


@settings(deadline=None, max_examples=30)
@given(problems)
def test_the_order_is_fixed_and_nothing_is_tried_twice(p):
    found = candidates(p, FAST)
    assert found == candidates(p, FAST)
    assert len(set(found)) == len(found)
    assert [c.stage for c in found] == sorted(c.stage for c in found)
