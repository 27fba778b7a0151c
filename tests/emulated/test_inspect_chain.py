# SPDX-License-Identifier: MIT
"""The chain of device kernels that `inspect` tells is what `fused_moe` launches in the emulator."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from aiter_moe import fused_moe
from aiter_moe.configs.table import ConfigTable
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.inspect.chain import call_kernels, runs
from aiter_moe.inspect.shape import plan_of
from aiter_moe.problem import Q_DTYPE_A, Problem, token_tier
from aiter_moe.targets.emulator import EmulatorLauncher
from aiter_moe.targets.launch_record import recorded_launches
from aiter_moe.targets.registry import running_target
from aiter_moe.tuning.operands import Layer, hidden_states, pack_experts, routing

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

SEED = 5


def launched(layer: Layer, kind: Kind, tokens: int) -> list[str]:
    """Return the kernels of a call in the order of their launches."""
    launcher = EmulatorLauncher("gfx950", checks=0, on_report=lambda symbol, report: None)
    target = dataclasses.replace(running_target("gfx950:emulator"), launcher=lambda: launcher)
    experts, route = pack_experts(layer, SEED, "gfx950"), routing(layer, SEED, tokens)
    with recorded_launches() as launches:
        fused_moe(
            hidden_states(layer, SEED, tokens), experts.w1, experts.w2, route.weights, route.ids,
            activation=layer.activation, q_dtype_a=Q_DTYPE_A[kind], target=target,
        )  # fmt: skip
    return [launch.symbol for launch in launches]


def problem_of(layer: Layer, kind: Kind, tokens: int) -> Problem:
    return Problem(
        token_tier(tokens), layer.model_dim, layer.inter_dim, layer.experts, layer.topk,
        layer.activation, Q_DTYPE_A[kind], layer.dtype,
    )  # fmt: skip


@pytest.mark.parametrize("tokens", [3, 20])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", Kind)
def test_the_chain_is_what_a_call_launches(kind, dtype, tokens):
    if kind is Kind.A16W4 and dtype is torch.float16:
        pytest.skip("a16w4 takes bfloat16")
    layer = Layer(512, 256, 4, 2, ActivationType.Silu, dtype)
    plan = plan_of(problem_of(layer, kind, tokens), "gfx950", ConfigTable())
    assert launched(layer, kind, tokens) == list(call_kernels(plan, tokens))


def test_a_long_prefill_is_one_chain_and_more_runs_in_parts():
    layer = Layer(7168, 2048, 8, 8, ActivationType.Silu)
    problem = problem_of(layer, Kind.A4W4, 32_768)
    plan = plan_of(problem, "gfx950", ConfigTable())
    one = call_kernels(plan, 1)
    assert call_kernels(plan, 32_768) == one
    parts = runs(problem, 500_000, "gfx950")
    assert parts > 1
    assert len(call_kernels(plan, 500_000)) == parts * len(one)
