# SPDX-License-Identifier: MIT
"""Bad input to fused_moe and moe_sorting: one clear, typed error each, and nothing written."""

from __future__ import annotations

import math
import re

import pytest
import torch
from reference import random_problem

import aiter_moe
from aiter_moe import (
    ActivationType,
    ArgumentError,
    DtypeError,
    Layout,
    LayoutError,
    PackedWeight,
    QuantType,
    UnsupportedProblemError,
    dtypes,
    fused_moe,
    moe_sorting,
    shuffle_weight,
)


@pytest.fixture
def call():
    """Arguments of a good call; a test spoils one of them."""
    p = random_problem(3, 128, 128, 4, 2)
    return {
        "hidden_states": p.x,
        "w1": PackedWeight.pack(p.w1, p.s1),
        "w2": PackedWeight.pack(p.w2, p.s2),
        "topk_weight": p.topk_weights,
        "topk_ids": p.topk_ids,
        "activation": ActivationType.Silu,
        "q_dtype_a": torch.bfloat16,
    }


def raw(problem_seed=0):
    return random_problem(3, 128, 128, 4, 2, seed=problem_seed)


def refused(call, error, *words, **spoiled):
    out = torch.full((3, 128), math.nan, dtype=torch.bfloat16)
    with pytest.raises(error) as caught:
        fused_moe(**{**call, "output": out, **spoiled})
    for word in words:
        assert re.search(word, str(caught.value)), str(caught.value)
    assert torch.isnan(out).all()


def test_the_good_call_is_good(call):
    assert torch.isfinite(fused_moe(**call)).all()


def test_hidden_states_of_another_dtype(call):
    refused(call, DtypeError, "float32", "bfloat16", hidden_states=torch.zeros(3, 128),
            dtype=torch.bfloat16)  # fmt: skip


def test_hidden_states_of_another_width(call):
    refused(call, ArgumentError, r"\[3, 64\]", "128",
            hidden_states=torch.zeros(3, 64, dtype=torch.bfloat16))  # fmt: skip


def test_codes_without_scales(call):
    refused(call, ArgumentError, "a1_scale", dtype=torch.bfloat16,
            hidden_states=torch.zeros(3, 64, dtype=torch.uint8), q_dtype_a=None)  # fmt: skip


def test_an_a2_scale_is_not_ignored(call):
    refused(call, ArgumentError, "a2_scale", a2_scale=torch.ones(1))


def test_weights_of_another_dtype(call):
    refused(call, DtypeError, "w1", "float32", w1=torch.zeros(4, 256, 64))


def test_raw_weights_without_scales(call):
    refused(call, ArgumentError, "w1_scale", w1=raw().w1)


def test_scales_of_another_dtype(call):
    p = raw()
    refused(call, DtypeError, "w1_scale", w1=p.w1, w1_scale=p.s1.float())


def test_scales_beside_a_packed_weight(call):
    refused(call, ArgumentError, "w1_scale", w1_scale=raw().s1)


def test_shuffled_codes_with_plain_scales(call):
    p = raw()
    refused(call, LayoutError, "w1", w1=shuffle_weight(p.w1), w1_scale=p.s1)


def test_an_interleaved_down_projection(call):
    p = raw()
    refused(call, LayoutError, "w2", "SHUFFLED_GATE_UP",
            w2=PackedWeight.pack(p.w2, p.s2, Layout.SHUFFLED_GATE_UP))  # fmt: skip


def test_a_gate_mode_the_weight_contradicts(call):
    refused(call, LayoutError, "SHUFFLED", "interleave", gate_mode="interleave")


def test_weights_that_lost_their_mark(call):
    p = random_problem(3, 96, 128, 4, 2)
    w1 = torch.nn.Parameter(shuffle_weight(
        torch.nn.functional.pad(p.w1, (0, 16)).contiguous()), requires_grad=False)  # fmt: skip
    scale = aiter_moe.e8m0_shuffle(p.s1.reshape(-1, 3))
    refused(call, LayoutError, "w1", "is_shuffled", w1=w1.data.clone(), w1_scale=scale)


def test_two_weights_of_different_layers(call):
    p = random_problem(3, 256, 128, 4, 2)
    refused(call, ArgumentError, "model_dim", w2=PackedWeight.pack(p.w2, p.s2))


def test_weights_of_different_expert_counts(call):
    refused(call, ArgumentError, "experts", w2=call["w2"][:2])


def test_a_weight_without_up_rows(call):
    p = raw()
    refused(call, UnsupportedProblemError, "g1u0",
            w1=PackedWeight.pack(p.w1[:, :128], p.s1[:, :128]))  # fmt: skip


def test_routing_of_another_dtype_or_shape(call):
    ids, weight = call["topk_ids"], call["topk_weight"]
    refused(call, DtypeError, "topk_ids", "int32", topk_ids=ids.long())
    refused(call, DtypeError, "topk_weight", "float32", topk_weight=weight.bfloat16())
    refused(call, ArgumentError, "topk_ids", topk_ids=ids[:2], topk_weight=weight[:2])
    refused(call, ArgumentError, "topk_weight", topk_weight=weight[:, :1])


@pytest.mark.parametrize("bad", [4, -1, 2**30])
def test_an_expert_id_out_of_range(call, bad):
    ids = call["topk_ids"].clone()
    ids[1, 1] = bad
    refused(call, ArgumentError, f"{bad}", "token 1", topk_ids=ids)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_routing_weight_that_is_no_number(call, bad):
    weight = call["topk_weight"].clone()
    weight[2, 0] = bad
    refused(call, ArgumentError, "token 2", topk_weight=weight)


def test_a_mask_that_does_not_fit_the_weights(call):
    refused(call, ArgumentError, "expert_mask",
            expert_mask=torch.tensor([1, 1, 0, 0], dtype=torch.int32))  # fmt: skip


def test_biases_of_another_dtype_or_shape(call):
    refused(call, DtypeError, "bias1", bias1=torch.zeros(4, 256, dtype=torch.bfloat16))
    refused(call, ArgumentError, "bias2", bias2=torch.zeros(4, 64))


def test_padding_that_leaves_nothing(call):
    refused(call, ArgumentError, "hidden_pad", hidden_pad=128)
    refused(call, ArgumentError, "intermediate_pad", intermediate_pad=-1)


def test_other_quantisations(call):
    refused(call, UnsupportedProblemError, "per_1x32", quant_type=QuantType.per_Token)


def test_activations_without_a_kernel(call):
    refused(call, UnsupportedProblemError, "activation", activation=ActivationType.No)


def test_half_precision_has_no_a16w4_kernel(call):
    refused(call, UnsupportedProblemError, "float16", output=None,
            hidden_states=call["hidden_states"].half())  # fmt: skip


def test_a_block_m_without_a_kernel(call):
    refused(call, UnsupportedProblemError, "48", block_size_M=48)


def test_split_k_of_an_fp4_problem_is_not_obeyed(call):
    plain = fused_moe(**{**call, "q_dtype_a": dtypes.fp4x2})
    split = fused_moe(**{**call, "q_dtype_a": dtypes.fp4x2, "splitk": 4})
    assert torch.equal(plain, split)


def test_tensors_on_another_device(call):
    refused(call, ArgumentError, "bias1", "meta", bias1=torch.zeros(4, 256, device="meta"))


def test_an_output_that_does_not_fit(call):
    refused(call, ArgumentError, "output", output=torch.empty(3, 64, dtype=torch.bfloat16))
    refused(call, ArgumentError, "overlaps", output=call["hidden_states"])


def test_sorting_refuses_what_fused_moe_refuses():
    ids = torch.tensor([[0, 9]], dtype=torch.int32)
    with pytest.raises(ArgumentError, match="9"):
        moe_sorting(ids, torch.ones(1, 2), 4, 128, torch.bfloat16)


@pytest.mark.parametrize(
    ("name", "value", "error", "word"),
    [
        ("gate_mode", "sideways", ArgumentError, "interleave"),
        ("gate_mode", "gate_only", UnsupportedProblemError, "gate_only"),
        ("activation", 9, ArgumentError, "Swiglu"),
        ("quant_type", 2, UnsupportedProblemError, "per_1x32"),
        ("swiglu_limit", -1.0, ArgumentError, "swiglu_limit"),
        ("swiglu_limit", math.nan, ArgumentError, "swiglu_limit"),
        ("beta", 0.0, ArgumentError, "beta"),
        ("linear_beta", math.inf, ArgumentError, "linear_beta"),
    ],
)
def test_an_option_without_a_meaning_is_refused_by_name(call, name, value, error, word):
    refused(call, error, word, **{name: value})


def test_float32_hidden_states_are_named_as_such(call):
    with pytest.raises(DtypeError, match=r"hidden_states are .*float32"):
        fused_moe(**{**call, "hidden_states": call["hidden_states"].float()})


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_float16_activations_never_enter_a_bf16_kernel(call, dtype):
    with pytest.raises(UnsupportedProblemError, match="float16"):
        fused_moe(**{**call, "hidden_states": call["hidden_states"].half(), "dtype": dtype})
