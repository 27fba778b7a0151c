# SPDX-License-Identifier: MIT
"""Long calls are cut into runs whose kernels exist and reach all their rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aiter_moe import dtypes
from aiter_moe.codegen.gfx9 import launches
from aiter_moe.configs.table import ConfigTable
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.errors import LaunchError, UnsupportedProblemError
from aiter_moe.plan import Plan, make_plan
from aiter_moe.problem import Problem, token_tier
from aiter_moe.runs import RUN_BYTES, run_length, token_bytes
from aiter_moe.sizes import ceil_div, round_up
from aiter_moe.targets.arguments import StageArgs
from aiter_moe.targets.base import DeviceFacts
from aiter_moe.targets.routed_pairs import used_slots_bound


@dataclass(frozen=True)
class Model:
    hidden: int
    inter: int
    experts: int
    topk: int


MODELS = {
    "gpt-oss-120b": Model(2880, 2880, 128, 4),
    "DeepSeek-R1": Model(7168, 2048, 256, 8),
    "Kimi-K2": Model(7168, 2048, 384, 8),
    "MiniMax-M2 TP8": Model(3072, 192, 256, 8),
    "wide intermediate": Model(1024, 8192, 8, 2),
}


@given(tokens=st.integers(0, 1 << 24), row=st.integers(1, 1 << 24))
def test_runs_are_few_even_and_within_the_limit(tokens, row):
    step = run_length(tokens, row)
    if tokens == 0:
        assert step == 0
        return
    runs = ceil_div(tokens, step)
    if runs == 1:
        assert max(tokens, token_tier(tokens)) * row < 2 * RUN_BYTES or tokens * row <= RUN_BYTES
        return
    assert step * row <= RUN_BYTES or step == 1
    assert runs == ceil_div(tokens, RUN_BYTES // row)
    last = tokens - (runs - 1) * step
    assert 0 < last <= step
    assert step - last < runs


def test_the_widest_tensor_of_a_token_counts():
    narrow = torch.empty(9, 256, dtype=torch.bfloat16)
    assert token_bytes(narrow, 2, 256, 64, "cpu") == 2048
    assert token_bytes(narrow, 2, 256, 64, "gfx950") == 512
    assert token_bytes(narrow, 2, 64, 256, "gfx950") == 1024
    wide = torch.empty(9, 4096, dtype=torch.bfloat16)
    assert token_bytes(wide[:, :256], 2, 256, 64, "gfx950") == 8192
    assert token_bytes(torch.empty(256, 9, dtype=torch.bfloat16).t(), 1, 8, 8, "gfx950") == 512


def test_a_long_prefill_of_a_large_model_is_one_run():
    model = MODELS["DeepSeek-R1"]
    for tokens in (32_768, 65_535):
        hidden = torch.empty((tokens, model.hidden), dtype=torch.bfloat16, device="meta")
        row = token_bytes(hidden, model.topk, model.hidden, model.inter, "gfx950")
        assert run_length(tokens, row) == tokens


def planned(model: Model, kind: Kind, tokens: int) -> Plan:
    problem = Problem(
        token=token_tier(tokens), model_dim=model.hidden, inter_dim=model.inter,
        experts=model.experts, topk=model.topk, activation=ActivationType.Silu,
        q_dtype_a=dtypes.fp4x2 if kind is Kind.A4W4 else dtypes.bf16,
    )  # fmt: skip
    return make_plan(problem, DeviceFacts("gfx950", 256), ConfigTable())


def sizes(model: Model, plan: Plan, stage: int, tokens: int) -> StageArgs:
    instance = plan.stage1 if stage == 1 else plan.stage2
    n, k = (model.inter, model.hidden) if stage == 1 else (model.hidden, model.inter)
    slots = used_slots_bound(tokens * model.topk, model.experts, plan.block_m)
    return StageArgs(
        tokens=tokens, topk=model.topk, n=n, k=k, x_stride=k, out_stride=n,
        x_scale_stride=round_up(k // 32, 8) if instance.kind is Kind.A4W4 else 0,
        w_rows=2 * n if stage == 1 else n, w_k=round_up(k, 64), w_scale_cols=round_up(k // 32, 8),
        sorted_rows=slots, ksplit=plan.ksplit if stage == 1 else 1,
    )  # fmt: skip


@pytest.mark.parametrize("tokens", [1, 4096, 40_000, 131_071, 131_072, 1_000_000, (1 << 24) - 1])
@pytest.mark.parametrize("kind", Kind, ids=str)
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_run_of_a_prefill_has_kernels_on_gfx9_that_take_it(model, kind, tokens):
    hidden = torch.empty((tokens, model.hidden), dtype=torch.bfloat16, device="meta")
    step = run_length(tokens, token_bytes(hidden, model.topk, model.hidden, model.inter, "gfx950"))
    plan = planned(model, kind, step)
    for stage in (1, 2):
        instance = plan.stage1 if stage == 1 else plan.stage2
        assert launches(instance, sizes(model, plan, stage, step))


def test_the_same_prefill_uncut_would_be_refused():
    model = MODELS["DeepSeek-R1"]
    with pytest.raises(UnsupportedProblemError, match="descriptor"):
        planned(model, Kind.A16W4, 131_072)
    # The tier says less than the tokens.
    narrow = replace(model, inter=1536)
    plan = planned(narrow, Kind.A16W4, 40_000)
    with pytest.raises(LaunchError, match="activations"):
        launches(plan.stage2, sizes(narrow, plan, 2, 100_000))
