# SPDX-License-Identifier: MIT
"""A layer inspected: its chain of kernels, the work of its stages, what bounds them, by hand."""

from __future__ import annotations

import json

import pytest
from inspected import code_object
from typer import Typer
from typer.testing import CliRunner

from aiter_moe.cli.inspect import inspect
from aiter_moe.configs.table import ConfigTable
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.errors import ArgumentError
from aiter_moe.inspect import inspect_code, shape_view
from aiter_moe.inspect.inspection import Inspection
from aiter_moe.inspect.shape import expert_load, plan_of, problem_of, shape_of, stage_work, tiers_of
from aiter_moe.inspect.stage_cost import StageWork, stage_cost

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

SMALL = "E=4,topk=2,hidden=512,inter=256"
FP4 = (
    "v_mfma_scale_f32_16x16x128_f8f6f4 v[0:3], v[4:7], v[8:11], v[0:3], v12, v13"
    " op_sel_hi:[0,0,0] cbsz:4 blgp:4"
)
LOAD = "buffer_load_dwordx4 v[4:7], v20, s[16:19], s5 offen nt"


def test_a_layer_is_named_or_spelled_out():
    named = shape_of("deepseek-r1-tp8")
    assert problem_of(named, Kind.A4W4, 100).inter_dim == 256
    spelled = shape_of("E=32, topk=4, hidden=2880, inter=2880, act=swiglu")
    assert (spelled.experts, spelled.topk, spelled.hidden, spelled.inter) == (32, 4, 2880, 2880)
    assert spelled.activation is ActivationType.Swiglu
    problem = problem_of(spelled, Kind.A16W4, 100)
    assert problem.token == 128 and problem.has_bias


@pytest.mark.parametrize(
    "text", ["gptoss", "E=32,topk=4,hidden=2880", "E=32,topk=4,hidden=2880,inter=x", SMALL + ",k=1"]
)
def test_what_is_no_layer_is_refused(text):
    with pytest.raises(ArgumentError, match="E=32,topk=4,hidden=2880,inter=2880"):
        shape_of(text)


def test_an_unknown_activation_is_refused():
    with pytest.raises(ArgumentError, match="act=tanh: give one of silu"):
        shape_of(SMALL + ",act=tanh")


def test_the_work_of_both_stages():
    problem = problem_of(shape_of(SMALL), Kind.A16W4, 3)
    plan = plan_of(problem, "gfx950", ConfigTable())
    assert sum(expert_load(problem, 3).values()) == 6
    first, second = (stage_work(plan, i, 3, 2, 2) for i in (plan.stage1, plan.stage2))
    # 2 blocks, 512 gate and up rows of 512 elements; then 512 rows of 256
    assert first.flops == 2 * 2 * plan.block_m * 512 * 512
    assert second.flops == 2 * 2 * plan.block_m * 512 * 256
    byte = 0.5 + 1 / 32
    assert first.bytes == 2 * 512 * 512 * byte + 3 * 512 * 2 + 6 * 256 * 2
    # rows of 6 pairs in f32, or of 3 tokens in bf16 where the kernel sums them itself
    out = 3 * 512 * 2 if plan.direct else 6 * 512 * 4
    assert second.bytes == 2 * 512 * 256 * byte + 6 * 256 * 2 + out


def test_time_of_a_stage_by_what_it_waits_for():
    body = "\n".join(
        ["loop:", *[LOAD] * 4, "s_waitcnt vmcnt(4)", *[FP4] * 4, "s_cbranch_scc1 loop"]
    )
    code = code_object({"kernel": body}, vgprs=256)
    inspection = Inspection(inspect_code(code)["kernel"])
    flops = 512 * 4 * 1000 * 4 * 65536  # 1000 turns of 4 waves of each of 512 groups
    cost = stage_cost(inspection, StageWork(512, flops, 80_000_000))
    assert (cost.resident, cost.rounds) == (2, 1)
    found = cost.microseconds
    # two waves a SIMD, 4 instructions of 16 cycles; 10 instructions a turn
    assert found.matrix == pytest.approx(1000 * 2 * 4 * 16 / 2400)
    assert found.issue == pytest.approx(1000 * 4 * 10 / 2400)
    # 8, 7, 6 and 5 KiB while 4 come: 2048 waves ask for more than the peak
    assert cost.bytes_per_s == 8e12 and found.memory == pytest.approx(10)
    assert cost.bound == "matrix"
    few = stage_cost(inspection, StageWork(16, flops // 32, 80_000_000))
    assert (few.resident, few.rounds) == (1, 1)
    assert few.bytes_per_s == pytest.approx(16 * 4 * 6.5 * 1024 / 1e-6)
    assert few.bound == "memory"
    many = stage_cost(inspection, StageWork(513, flops, 0))
    assert many.rounds == 2


def test_no_work_has_no_cost():
    kernel = inspect_code(code_object({"kernel": "s_nop 0"}))["kernel"]
    assert stage_cost(Inspection(kernel), StageWork(1, 1, 1)) is None


def test_every_tier_names_its_kernels():
    tiers = tiers_of(shape_of(SMALL), "gfx950", tuple(Kind), (1, 512))
    for tier in tiers:
        assert {i.name for i, _ in tier.stages} <= set(tier.kernels)
        # rows of direct kernels are found by their vector units, block by block
        assert tier.plan.direct or [i.findings for i, _ in tier.stages] == [(), ()]
        assert all(cost is not None for _, cost in tier.stages)
    assert [shape_view.promised(n) for n in (1, 16, 17)] == [2, 2, 5]


def test_the_command_prints_a_layer():
    app = Typer()
    app.command()(inspect)
    arguments = ["--shape", SMALL, "--tokens", "3,40", "--kind", "a16w4"]
    text = CliRunner().invoke(app, arguments).stdout
    assert "Device kernels of a call" in text and "a16w4, tokens 3: rule" in text
    assert "memory" in text and "weights in flight" in text
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert [tier["tokens"] for tier in found["tiers"]] == [3, 40]
    stage = found["tiers"][0]["stages"][0]
    assert stage["cost"]["bound"] in stage["cost"]["microseconds"]
    assert {k["name"] for k in found["kernels"]} >= {stage["kernel"]}
    with pytest.raises(ArgumentError, match="--tokens 3,x"):
        CliRunner().invoke(app, ["--shape", SMALL, "--tokens", "3,x"], catch_exceptions=False)
    with pytest.raises(ArgumentError, match="--target cpu: give one of gfx950, gfx942"):
        CliRunner().invoke(app, ["x", "--target", "cpu"], catch_exceptions=False)
