# SPDX-License-Identifier: MIT
"""A call like one before runs as that one did; a call that differs in anything does not."""

from __future__ import annotations

import os
from importlib import import_module

import pytest
import torch
from reference import panel_operands, random_problem
from torch._subclasses.fake_tensor import FakeTensorMode

from aiter_moe import (
    ActivationType,
    ArgumentError,
    ConfigError,
    DtypeError,
    Layout,
    PackedWeight,
    UnsupportedProblemError,
    dtypes,
    env,
    forward,
    fused_moe,
    known_calls,
)
from aiter_moe.targets.cpu import CpuLauncher


@pytest.fixture
def call():
    p = random_problem(5, 128, 128, 4, 2, bias=True)
    return {**panel_operands(p), "activation": ActivationType.Swiglu}


@pytest.fixture
def planned(monkeypatch):
    """The target of each call that was planned."""
    targets = []
    plan = forward.plan_moe

    def counting(*arguments):
        targets.append(arguments[-1])
        return plan(*arguments)

    monkeypatch.setattr(import_module("aiter_moe.fused_moe"), "plan_moe", counting)
    return targets


def test_a_call_is_planned_once(call, planned):
    first = fused_moe(**call)
    for _ in range(3):
        assert torch.equal(fused_moe(**call), first)
    other = {name: call[name].clone() for name in ("hidden_states", "topk_weight", "topk_ids")}
    other["w1"], other["w2"] = call["w1"].clone(), call["w2"].clone()
    assert torch.equal(fused_moe(**call | other), first)
    assert len(planned) == 1


def test_layers_share_a_plan_and_have_their_own_weights(call, planned):
    p = random_problem(5, 128, 128, 4, 2, seed=9)
    w1 = PackedWeight.pack(p.w1, p.s1, Layout.PANEL_GATE_UP)
    first, second = fused_moe(**call), fused_moe(**call | {"w1": w1})
    assert not torch.equal(first, second)
    assert torch.equal(fused_moe(**call), first)
    assert len(planned) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"activation": ActivationType.Silu},
        {"q_dtype_a": dtypes.fp4x2},
        {"swiglu_limit": 1.0},
        {"block_size_M": 16},
        {"doweight_stage1": True},
        {"gate_mode": "separated"},
        {"hidden_pad": 32},
        {"expert_mask": torch.ones(4, dtype=torch.int32)},
        {"num_local_tokens": 5},
        {"bias1": torch.zeros(4, 256)},
        {"output": torch.empty(5, 128, dtype=torch.bfloat16)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_option_is_another_plan(call, planned, change):
    fused_moe(**call)
    fused_moe(**call | change)
    fused_moe(**call | change)
    assert len(planned) == 2


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        (env.THREADS, "2"), (env.CPU_ISA, "portable"), (env.AITER_KSPLIT, "2"),
        (env.AITER_BYPASS_TUNE_CONFIG, "1"), (env.SWIGLU_BF16_BOUND, "0"), (env.TARGET, "cpu"),
    ],
    ids=lambda value: getattr(value, "name", value),
)  # fmt: skip
def test_the_environment_is_looked_at_on_every_call(call, planned, monkeypatch, variable, text):
    monkeypatch.delenv(variable.name, raising=False)
    first = fused_moe(**call)
    monkeypatch.setenv(variable.name, text)
    fused_moe(**call)
    assert len(planned) == 2
    monkeypatch.delenv(variable.name)
    assert torch.equal(fused_moe(**call), first)
    assert len(planned) == 2


def test_a_snapshot_is_what_the_environment_says(monkeypatch):
    before = env.snapshot()
    monkeypatch.setenv(env.AITER_USE_NT.name, "1")
    assert env.snapshot() != before
    monkeypatch.delenv(env.AITER_USE_NT.name)
    assert env.snapshot() == before
    monkeypatch.setattr(os, "environ", {env.AITER_USE_NT.name: "1"})
    assert "1" in env.snapshot()


def test_torchs_threads_are_looked_at_on_every_call(call, planned):
    fused_moe(**call)
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        fused_moe(**call)
    finally:
        torch.set_num_threads(before)
    assert len(planned) == 2


def test_files_are_looked_at_on_every_call(call, planned, monkeypatch, tmp_path):
    path = tmp_path / "tuned.csv"
    monkeypatch.setenv(env.CONFIG.name, str(path))
    with pytest.raises(ConfigError):
        fused_moe(**call)
    header = "cu_num,token,model_dim,inter_dim,expert,topk,act_type,dtype,q_dtype_a,q_dtype_w,"
    header += "q_type,use_g1u1,doweight_stage1,block_m,ksplit,kernelName1,kernelName2\n"
    path.write_text(header)
    fused_moe(**call)
    fused_moe(**call)
    assert len(planned) == 1
    path.write_text(header + "\n\n")
    fused_moe(**call)
    assert len(planned) == 2
    path.unlink()
    with pytest.raises(ConfigError):
        fused_moe(**call)


def test_what_was_good_once_is_refused_when_it_is_not(call):
    out = torch.empty(5, 128, dtype=torch.bfloat16)
    fused_moe(**call, output=out)
    for change, error in (
        ({"hidden_states": call["hidden_states"].float()}, DtypeError),
        ({"hidden_states": call["hidden_states"][:, :64]}, ArgumentError),
        ({"topk_ids": call["topk_ids"].long()}, DtypeError),
        ({"topk_weight": call["topk_weight"][:, :1]}, ArgumentError),
        ({"bias1": torch.zeros(4, 256, device="meta")}, ArgumentError),
        ({"bias2": torch.zeros(256, 4).t()[:, :128]}, ArgumentError),
        ({"w2": call["w2"][:2]}, ArgumentError),
        ({"block_size_M": 48}, UnsupportedProblemError),
        ({"swiglu_limit": -1.0}, ArgumentError),
        ({"output": call["hidden_states"]}, ArgumentError),
        ({"output": torch.empty(128, 5, dtype=torch.bfloat16).t()}, ArgumentError),
    ):
        with pytest.raises(error):
            fused_moe(**{**call, "output": out, **change})


def test_an_output_that_overlaps_is_refused_on_a_warm_call_too(call):
    memory = torch.zeros(2, 5, 128, dtype=torch.bfloat16)
    memory[0] = call["hidden_states"]
    warm = {**call, "hidden_states": memory[0], "output": memory[1]}
    fused_moe(**warm)
    with pytest.raises(ArgumentError, match="overlaps"):
        fused_moe(**warm | {"output": memory[0]})


def test_the_gaps_between_rows_count_when_memory_overlaps(call):
    memory = torch.zeros(10 * 128 + 640, dtype=torch.bfloat16)
    rows = memory[: 10 * 128].view(5, 256)[:, :128]
    rows.copy_(call["hidden_states"])
    want = fused_moe(**call)
    behind = memory[9 * 128 : 14 * 128].view(5, 128)
    assert torch.equal(fused_moe(**call | {"hidden_states": rows, "output": behind}), want)
    across = memory[640:1280].view(5, 128)
    for _ in range(2):
        with pytest.raises(ArgumentError, match="overlaps"):
            fused_moe(**call | {"hidden_states": rows, "output": across})
    same = memory[:128].expand(5, 128)
    assert fused_moe(**call | {"hidden_states": same, "output": memory[128:768].view(5, 128)}).any()


@pytest.mark.parametrize("kind", [torch.bfloat16, dtypes.fp4x2], ids=["a16w4", "a4w4"])
def test_torchs_default_device_is_not_that_of_the_layer(call, kind, monkeypatch):
    call["q_dtype_a"] = kind
    with torch.device("meta"):
        cold = fused_moe(**call)
        warm = fused_moe(**call)
        monkeypatch.setattr(CpuLauncher, "runs_layers", False)
        known_calls.forget()
        by_stages = fused_moe(**call)
    assert cold.is_cpu
    assert torch.equal(warm, cold)
    assert torch.equal(by_stages, cold)


@pytest.mark.filterwarnings("ignore:Accessing the data pointer:UserWarning")
@pytest.mark.parametrize("name", ["hidden_states", "topk_weight", "topk_ids", "output"])
def test_a_fake_tensor_among_others_is_refused_cold_and_warm(call, name):
    call["output"] = torch.empty(5, 128, dtype=torch.bfloat16)
    call[name] = FakeTensorMode().from_tensor(call[name])
    with pytest.raises((ArgumentError, RuntimeError), match=r"no memory of its own|data pointer"):
        fused_moe(**call)
    good = call | {name: torch.zeros(call[name].shape, dtype=call[name].dtype)}
    fused_moe(**good)
    with pytest.raises((ArgumentError, RuntimeError), match=r"no memory of its own|data pointer"):
        fused_moe(**call)


def test_weights_of_no_experts_are_refused(call):
    none = {"w1": call["w1"][:0], "w2": call["w2"][:0]}
    with pytest.raises(ArgumentError, match="no experts"):
        fused_moe(**call | none, expert_mask=torch.zeros(4, dtype=torch.int32))


def test_weights_that_are_converted_stay_found(call, planned):
    p = random_problem(5, 128, 128, 4, 2, bias=True)
    want = fused_moe(**call)
    plain = {"w1": p.w1, "w2": p.w2, "w1_scale": p.s1, "w2_scale": p.s2}
    assert torch.equal(fused_moe(**call | plain), want)
    assert torch.equal(fused_moe(**call | plain), want)
    p.w1.zero_()
    assert not torch.equal(fused_moe(**call | plain), want)


def test_no_more_calls_are_kept_than_a_bound(call, monkeypatch):
    monkeypatch.setattr(known_calls, "_MOST", 2)
    for tokens in (1, 2, 3, 4, 5):
        few = {name: call[name][:tokens] for name in ("hidden_states", "topk_weight", "topk_ids")}
        fused_moe(**call | few)
        assert len(known_calls._calls) <= 2
