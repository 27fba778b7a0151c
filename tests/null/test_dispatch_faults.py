# SPDX-License-Identifier: MIT
"""Faults of aiter's dispatch that must not come back."""

from __future__ import annotations

import json
import os

import pytest
import torch
from golden import golden
from hypothesis import given, settings
from hypothesis import strategies as st
from planning import FACTS, KERNELS, PUBLIC_DATA, name, problem, row

from aiter_moe import dtypes
from aiter_moe.configs.lookup import stamps, table_of
from aiter_moe.configs.table import ConfigTable, Key
from aiter_moe.dispatch import get_2stage_cfgs
from aiter_moe.enums import ActivationType, GateMode, Kind, QuantType
from aiter_moe.errors import UnsupportedProblemError
from aiter_moe.heuristics import get_ksplit
from aiter_moe.plan import make_plan
from aiter_moe.problem import token_tier
from aiter_moe.verdict import Overrides


def test_a_gelu_call_does_not_take_a_silu_row():
    silu = problem(activation=ActivationType.Silu)
    gelu = problem(activation=ActivationType.Gelu)
    table = ConfigTable.of([row(silu, block_m=128, kernel1="", kernel2="")])
    assert make_plan(silu, FACTS, table, None, KERNELS).block_m == 128
    found = make_plan(gelu, FACTS, table, None, KERNELS)
    assert found.block_m == 16
    assert found.stage1.activation is ActivationType.Gelu


def test_each_activation_takes_its_own_row_whatever_stands_first():
    acts = [ActivationType.Silu, ActivationType.Gelu, ActivationType.Swiglu]
    rows = [
        row(problem(activation=act), block_m=16 << i, kernel1="", kernel2="")
        for i, act in enumerate(acts)
    ]
    for order in (rows, rows[::-1]):
        table = ConfigTable.of(order)
        for i, act in enumerate(acts):
            found = make_plan(problem(activation=act), FACTS, table, None, KERNELS)
            assert found.block_m == 16 << i


def test_rows_of_missing_back_ends_are_never_dispatched():
    paths = [p for p in sorted(PUBLIC_DATA.glob("*_tuned_fmoe.csv")) if "untuned" not in p.name]
    if not paths:
        pytest.skip("the public tables are not beside the checkout")
    names = {i.name for i in KERNELS.instances}
    table = table_of(stamps(os.pathsep.join(map(str, paths))))
    dispatched = 0
    for found in table.rows:
        of = found.key.problem()
        if of.activation is ActivationType.Situv2:
            continue
        plan = make_plan(of, FACTS, table, None, KERNELS)
        assert {plan.stage1.name, plan.stage2.name} <= names
        assert plan.source.startswith("rule"), plan.source
        assert any("is stale" in notice.text for notice in plan.notices)
        dispatched += 1
    assert dispatched > 200


@pytest.mark.parametrize("asker", ["row", "argument", "environment", "heuristic"])
def test_an_a4w4_problem_is_never_split_and_never_becomes_a16w4(asker, monkeypatch):
    # One token over a shared expert of inter_dim 256: aiter's heuristic says 2 and more.
    args = {"token": 1, "model_dim": 1024, "inter_dim": 256, "expert": 33, "topk": 9}
    assert get_ksplit(1, 9, 33, 256, 1024, 256, forced=0) >= 2
    of = problem("a4w4", token=1, model_dim=1024, inter_dim=256, experts=33, topk=9)
    rows, overrides = [], Overrides()
    if asker == "row":
        rows = [row(of, ksplit=2)]
    if asker == "argument":
        overrides = Overrides(ksplit=4)
    if asker == "environment":
        monkeypatch.setenv("AITER_KSPLIT", "4")
        metadata = get_2stage_cfgs(
            **args, dtype=torch.bfloat16, q_dtype_a=dtypes.fp4x2, q_dtype_w=dtypes.fp4x2,
            q_type=QuantType.per_1x32, use_g1u1=True, activation=ActivationType.Silu,
            doweight_stage1=False, target="gfx950",
        )  # fmt: skip
        plan = metadata.plan
        assert metadata.ksplit == metadata.stage1.keywords["ksplit"] == 0
    else:
        plan = make_plan(of, FACTS, ConfigTable.of(rows), overrides, KERNELS)
    assert plan.ksplit == 0
    assert plan.stage1.kind is plan.stage2.kind is Kind.A4W4
    assert not plan.stage1.split_k
    said = [n.text for n in plan.notices if "split-k is never used with fp4x2" in n.text]
    assert len(said) == (0 if asker == "heuristic" else 1)
    if asker == "row":
        assert plan.source == "tuned.csv:2"


def test_prefill_at_the_last_tier_takes_the_row_of_32768_but_no_other():
    of = problem("a4w4", token=token_tier(200_000))
    large = row(problem("a4w4", token=32768), block_m=128, kernel1="", kernel2="")
    decode = row(problem("a4w4", token=16384), block_m=16, kernel1="", kernel2="")
    served = make_plan(of, FACTS, ConfigTable.of([decode, large]), None, KERNELS)
    assert served.block_m == 128
    assert any("tier 131072 has no row" in reason for reason in served.reasons)
    assert make_plan(of, FACTS, ConfigTable.of([decode]), None, KERNELS).block_m == 64


def test_a_stale_row_at_the_last_tier_is_not_replaced_by_another_tiers():
    of = problem("a4w4", token=131072)
    large = row(problem("a4w4", token=32768), block_m=128, kernel1="", kernel2="")
    table = ConfigTable.of([row(of, kernel1="gone"), large])
    assert make_plan(of, FACTS, table, None, KERNELS).source.startswith("rule")


@given(st.integers(0, 15), st.integers(0, 140_000))
@settings(max_examples=100, deadline=None)
def test_a_prefill_never_runs_with_a_decode_row(shift, tokens):
    tuned = problem(token=1 << shift)
    table = ConfigTable.of([row(tuned, kernel1="", kernel2="", block_m=128)])
    found = make_plan(problem(token=token_tier(tokens)), FACTS, table, None, KERNELS)
    exact = token_tier(tokens) == 1 << shift
    fallback = token_tier(tokens) == 131072 and shift == 15
    assert (found.source == "tuned.csv:2") is (exact or fallback)


ACTS = {
    "silu": ActivationType.Silu, "gelu": ActivationType.Gelu, "swiglu": ActivationType.Swiglu,
    "situv2": ActivationType.Situv2,
}  # fmt: skip
A_TYPES = {"fp4x2": dtypes.fp4x2, "bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}


def _refusal(case) -> str:
    """What the gfx950 catalogue cannot do: fp8, and more than 2 GiB of intermediate rows."""
    if case["q_dtype_a"] == "fp8":
        return "only fp4x2 and bfloat16"
    bytes_per_element = 0.5 if case["q_dtype_a"] == "fp4x2" else 2
    width = max(case["model_dim"] / case["topk"], case["inter_dim"]) * bytes_per_element
    large = token_tier(case["M"]) * case["topk"] * width >= 1 << 31
    return "activations take" if large else ""


@pytest.mark.parametrize("file", ["dispatch_gfx950_cu256_flydsl0", "dispatch_gfx950_cu256_flydsl1"])
def test_every_call_aiter_was_recorded_with_gets_a_plan_that_obeys_the_design(file):
    served = 0
    for text in golden(file)["inputs"][::5]:
        case = json.loads(str(text))
        args = [
            case["M"], case["model_dim"], case["inter_dim"], case["expert"], case["topk"],
            torch.bfloat16, A_TYPES[case["q_dtype_a"]], dtypes.fp4x2, QuantType.per_1x32, True,
            ACTS[case["act"]], False, case["hidden_pad"], case["intermediate_pad"],
            bool(case["is_shuffled"]), case["gate_mode"],
        ]  # fmt: skip
        refusal = _refusal(case)
        if refusal:
            with pytest.raises(UnsupportedProblemError, match=refusal):
                get_2stage_cfgs(*args, target="gfx950")
            continue
        served += 1
        metadata = get_2stage_cfgs(*args, target="gfx950")
        plan = metadata.plan
        assert plan.stage1.kind is plan.stage2.kind is plan.problem.kind
        assert plan.stage1.activation is ACTS[case["act"]]
        assert plan.problem.gate_mode is GateMode(case["gate_mode"])
        assert Key.of(plan.problem, FACTS).token == token_tier(case["M"])
        if plan.problem.kind is Kind.A4W4:
            assert (metadata.ksplit, metadata.block_m) == (0, 16 if plan.direct else 64)
        else:
            assert metadata.ksplit in (1, 2, 4)
            assert metadata.block_m in (16, 32, 64)
    assert served > 100


def test_names_are_compared_whole_not_by_prefix():
    lookalike = name("a16w4", 1, 32)[:-1]
    table = ConfigTable.of([row(problem(), kernel1=lookalike)])
    assert make_plan(problem(), FACTS, table, None, KERNELS).source.startswith("rule")
