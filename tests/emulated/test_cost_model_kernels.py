# SPDX-License-Identifier: MIT
"""What the cost model says of a kernel's loop and work, beside its machine code and its run."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from planning import FACTS

from aiter_moe import dtypes, fused_moe
from aiter_moe.codegen.catalogue import by_name, catalogue
from aiter_moe.codegen.gfx9.device import SIMDS
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.inspect.inspection import inspect_instance
from aiter_moe.inspect.shape import shape_of, tiers_of
from aiter_moe.problem import Problem
from aiter_moe.targets.emulator import EmulatorLauncher
from aiter_moe.targets.emulator_report import InstructionClass
from aiter_moe.targets.registry import running_target
from aiter_moe.tuning.candidates import Candidate
from aiter_moe.tuning.cost_model.choose import predict
from aiter_moe.tuning.cost_model.tiles import workgroup_of
from aiter_moe.tuning.cost_model.work import stage_work
from aiter_moe.tuning.operands import Layer, hidden_states, pack_experts, routing

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

SEED = 3
# All experts get all tokens, so that the expected number of blocks is the number of blocks.
LAYER = Layer(512, 512, 2, 2, ActivationType.Silu, has_bias=False)


def _covering():
    """One sorted kernel of every operand kind, stage and block of rows."""
    found = {}
    for instance in catalogue("gfx950"):
        usual = instance.activation in (None, ActivationType.Silu) and not instance.split_k
        if usual and not instance.tile.direct:
            found.setdefault((instance.kind, instance.stage, instance.block_m), instance)
    return list(found.values())


@pytest.mark.parametrize("instance", _covering(), ids=str)
def test_turn_and_residents_are_those_of_the_machine_code(instance):
    found = inspect_instance(instance)[0]
    group, loop = workgroup_of(instance), found.loop
    told = group.turn.instructions / group.turn.mfma
    assert told == pytest.approx(loop.per_mfma, rel=0.12)
    assert loop.mfma % group.turn.mfma == 0
    assert group.waves == found.occupancy.waves_a_group
    resident = group.resident * group.waves / SIMDS
    assert abs(resident - found.occupancy.waves_per_simd) <= 1


def _reports(tokens, q_dtype_a, block_m):
    """Run a layer on the emulator; return the report of each stage's kernel, by instance."""
    found = {}
    launcher = EmulatorLauncher("gfx950", on_report=found.__setitem__)
    target = dataclasses.replace(running_target("gfx950:emulator"), launcher=lambda: launcher)
    experts, route = pack_experts(LAYER, SEED, "gfx950"), routing(LAYER, SEED, tokens)
    fused_moe(
        hidden_states(LAYER, SEED, tokens), experts.w1, experts.w2, route.weights, route.ids,
        activation=LAYER.activation, block_size_M=block_m, q_dtype_a=q_dtype_a, target=target,
    )  # fmt: skip
    kernels = by_name("gfx950")
    return {kernels[name]: report for name, report in found.items() if name in kernels}


@pytest.mark.parametrize("block_m", [16, 32, 64])
@pytest.mark.parametrize("q_dtype_a", [torch.bfloat16, dtypes.fp4x2], ids=["a16w4", "a4w4"])
def test_work_is_what_the_emulator_counts(q_dtype_a, block_m):
    tokens = 64
    asked = Problem(tokens, 512, 512, 2, 2, ActivationType.Silu, q_dtype_a)
    reports = _reports(tokens, q_dtype_a, block_m)
    assert {instance.stage for instance in reports} == {1, 2}
    for instance, report in reports.items():
        group = workgroup_of(instance, 1)
        work, counted = stage_work(asked, group), report.counters
        turns = work.items * group.waves * work.turns
        lds = ("lds_read_bytes", "lds_write_bytes", "lds_dma_bytes")
        assert report.by_class()[InstructionClass.mfma] == turns * group.turn.mfma
        assert sum(counted[name] for name in lds) == pytest.approx(
            turns * group.turn.lds_bytes, rel=0.05
        )
        read = work.weight_bytes + work.row_bytes
        assert counted["vmem_load_bytes"] == pytest.approx(read, rel=0.2)
        assert counted["workgroups"] >= work.items


@pytest.mark.parametrize("kind", list(Kind), ids=str)
def test_no_prediction_beats_the_bounds_of_the_machine_code(kind):
    """Bounds of `aiter_moe.inspect` leave out prologues, launches and clocks under load."""
    for tier in tiers_of(shape_of("gptoss-20b"), "gfx950", (kind,), (16, 128, 1024, 16384)):
        plan = tier.plan
        first, second = Candidate(plan.stage1, plan.ksplit), Candidate(plan.stage2)
        for candidate, (_, cost) in zip((first, second), tier.stages, strict=True):
            told = predict(plan.problem, candidate, FACTS)
            assert cost.microseconds.most < told.us < 6 * cost.microseconds.most + 20
