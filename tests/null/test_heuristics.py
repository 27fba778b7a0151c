# SPDX-License-Identifier: MIT
"""aiter's numbers for untuned problems, against what aiter itself computed."""

from __future__ import annotations

import json

import pytest
import torch
from golden import golden
from hypothesis import given
from hypothesis import strategies as st

from aiter_moe import dtypes
from aiter_moe.enums import ActivationType, GateMode
from aiter_moe.errors import ConfigError
from aiter_moe.heuristics import (
    activation_dtype,
    get_block_size_M,
    get_ksplit,
    get_padded_M,
    use_nt,
)

DEVICES = {"gfx950_cu256": 256, "gfx942_cu304": 304}
ACTS = {
    "silu": ActivationType.Silu,
    "gelu": ActivationType.Gelu,
    "swiglu": ActivationType.Swiglu,
    "situv2": ActivationType.Situv2,
}


@pytest.mark.parametrize("device", DEVICES)
def test_ksplit_equals_aiter(device):
    for *args, expected in golden("heuristic_formulas")[f"{device}_ksplit"].tolist():
        assert get_ksplit(*args, cu_num=DEVICES[device]) == expected, args


@pytest.mark.parametrize("device", DEVICES)
def test_generic_block_equals_aiter(device):
    for *args, expected in golden("heuristic_formulas")[f"{device}_block_m"].tolist():
        assert get_block_size_M(*args, cu_num=DEVICES[device]) == expected, args


@pytest.mark.parametrize("device", DEVICES)
def test_non_temporal_rule_equals_aiter(device):
    for *args, expected in golden("heuristic_formulas")[f"{device}_use_nt"].tolist():
        assert use_nt(*args) == bool(expected), args


def test_token_tiers_equal_aiter():
    for tokens, expected in golden("heuristic_formulas")["padded_m"].tolist():
        assert get_padded_M(tokens) == expected, tokens


@pytest.mark.parametrize("device", ["gfx950_0", "gfx942_0", "gfx1250_0", "gfx950_1"])
def test_activation_dtype_equals_aiter_where_kernels_exist(device):
    data = golden("activation_dtype")
    checked = 0
    for text, said in zip(data[f"{device}_in"], data[f"{device}_out"], strict=True):
        case = json.loads(str(text))
        act, mode = ACTS[case["act"]], GateMode(case["gate_mode"])
        ours = activation_dtype(act, mode, case["M"], device.split("_")[0])
        if str(said).startswith("NotImplementedError"):
            # Situv2 without FlyDSL raises in aiter; with it (gfx950_1) it takes bf16.
            assert act is ActivationType.Situv2
            assert ours is torch.bfloat16
        elif "float8" in str(said):
            # aiter's a8w4 for prefill of interleaved weights has no kernel here.
            assert mode is GateMode.INTERLEAVE
            assert case["M"] >= 256
            assert ours is torch.bfloat16
        else:
            assert str(ours) == str(said), case
            checked += 1
    assert checked >= 18


def test_every_gate_mode_and_activation_gets_a_type_with_kernels():
    for act in ACTS.values():
        for mode in GateMode:
            for tokens in (1, 255, 256, 100000):
                for gfx in ("cpu", "gfx942", "gfx950"):
                    found = activation_dtype(act, mode, tokens, gfx)
                    assert found in (dtypes.fp4x2, torch.bfloat16)


def test_bounds_are_read_from_the_environment_on_every_call(monkeypatch):
    args = (ActivationType.Swiglu, "separated")
    assert activation_dtype(*args, 300, "cpu") == dtypes.fp4x2
    monkeypatch.setenv("GPTOSS_SWIGLU_MXFP4_BF16_BOUND", "512")
    assert activation_dtype(*args, 300, "cpu") is torch.bfloat16
    assert activation_dtype(ActivationType.Situv2, "separated", 9, "cpu") is torch.bfloat16
    monkeypatch.setenv("AITER_SITUV2_A4W4", "1")
    assert activation_dtype(ActivationType.Situv2, "separated", 9, "cpu") == dtypes.fp4x2


def test_aiters_variables_override_the_formulas(monkeypatch):
    assert get_ksplit(1, 9, 385, 512, 7168) == 7
    monkeypatch.setenv("CU_NUM", "64")
    assert get_ksplit(1, 9, 385, 512, 7168) == 2
    monkeypatch.setenv("AITER_KSPLIT", "-1")
    assert get_ksplit(1, 9, 385, 512, 7168) == -1
    assert use_nt(1, 9, 385)
    monkeypatch.setenv("AITER_USE_NT", "0")
    assert not use_nt(1, 9, 385)


def test_a_variable_that_is_no_number_is_named(monkeypatch):
    monkeypatch.setenv("AITER_KSPLIT", "two")
    with pytest.raises(ConfigError, match="AITER_KSPLIT='two'"):
        get_ksplit(1, 1, 8, 128, 1024)


@given(
    pairs=st.tuples(st.integers(1, 4096), st.integers(1, 16), st.integers(1, 512)),
    sizes=st.tuples(*[st.integers(1, 256).map(lambda i: 32 * i)] * 2),
    units=st.integers(1, 512),
)
def test_a_suggested_split_leaves_whole_parts_of_256(pairs, sizes, units):
    split = get_ksplit(*pairs, *sizes, units, forced=0)
    token, topk, expert = pairs
    assert split == 0 or (split >= 2 and sizes[1] % (256 * split) == 0)
    assert split == 0 or token * topk <= expert
