# SPDX-License-Identifier: MIT
"""fused_moe on the CPU target: golden references, odd shapes, every way in and out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from golden import golden
from reference import ODD_SHAPES, problem_of_a_rank, random_problem, reference_moe, relative_l2

from aiter_moe import (
    ActivationType,
    Kind,
    Layout,
    PackedWeight,
    QuantType,
    dtypes,
    e8m0_shuffle,
    fused_moe,
    known_calls,
    per_1x32_f4_quant,
    prepare_weights,
    shuffle_scale_a16w4,
    shuffle_weight,
    shuffle_weight_a16w4,
)

A16W4_TOLERANCE = 4e-3
Q_DTYPE = {Kind.A16W4: torch.bfloat16, Kind.A4W4: dtypes.fp4x2}


def packed(p, layout1=Layout.SHUFFLED):
    return (
        PackedWeight.pack(p.w1, p.s1, layout1),
        PackedWeight.pack(p.w2, p.s2, Layout.SHUFFLED),
    )


def run(p, activation, kind, layout1=Layout.SHUFFLED, **kwargs):
    w1, w2 = packed(p, layout1)
    return fused_moe(
        p.x, w1, w2, p.topk_weights, p.topk_ids, activation=activation, bias1=p.bias1,
        bias2=p.bias2, q_dtype_a=Q_DTYPE[kind], **kwargs,
    )  # fmt: skip


MOE_REFERENCES = [
    "moe_ref_silu_a4w4_i128", "moe_ref_silu_a16w4_i128", "moe_ref_silu_a4w4_i384",
    "moe_ref_silu_a16w4_i192_bias", "moe_ref_silu_a4w4_dw1", "moe_ref_silu_limit_a16w4",
    "moe_ref_swiglu_a16w4_bias", "moe_ref_swiglu_a4w4_bias",
    "moe_ref_swiglu_a16w4_bias_dw1_limit", "moe_ref_gelu_a4w4", "moe_ref_situv2_a16w4",
]  # fmt: skip


@pytest.mark.parametrize("name", MOE_REFERENCES)
@pytest.mark.parametrize("way", ["plain", "shuffled", "packed gate-up"])
def test_aiters_reference_outputs_are_met(name, way):
    data = golden(name)

    def tensor(key, view=None):
        return torch.from_numpy(data[key].view(view) if view else data[key].copy())

    def bias(key):
        return tensor(key, np.float32).clone() if key in data.files else None

    cfg = data["cfg"]
    w1, s1, w2, s2 = (tensor(k) for k in ("w1_q", "w1_s", "w2_q", "w2_s"))
    scales = {}
    if way == "plain":
        scales = {"w1_scale": s1, "w2_scale": s2}
    elif way == "shuffled":
        scales = {
            "w1_scale": e8m0_shuffle(s1.reshape(-1, s1.shape[-1])),
            "w2_scale": e8m0_shuffle(s2.reshape(-1, s2.shape[-1])),
        }
        w1, w2 = shuffle_weight(w1), shuffle_weight(w2)
    else:
        w1 = PackedWeight.pack(w1, s1, Layout.SHUFFLED_GATE_UP)
        w2 = PackedWeight.pack(w2, s2)
    limit = float(data["swiglu_limit"])
    beta, linear_beta = (float(v) for v in data["situ"])
    got = fused_moe(
        tensor("x_bf16", np.int16).view(torch.bfloat16),
        w1, w2, tensor("topk_weights"), tensor("topk_ids"),
        activation=ActivationType[str(data["act"]).capitalize()],
        quant_type=QuantType.per_1x32,
        doweight_stage1=bool(cfg[7]),
        bias1=bias("bias1_f32"), bias2=bias("bias2_f32"),
        swiglu_limit=None if math.isnan(limit) else limit,
        beta=beta, linear_beta=linear_beta,
        q_dtype_a=dtypes.fp4x2 if cfg[5] else torch.bfloat16,
        skip_inter_quant=False if cfg[5] else None,
        **scales,
    )  # fmt: skip
    assert relative_l2(got, tensor("stage2_f32", np.float32).double()) <= A16W4_TOLERANCE


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize(("tokens", "hidden", "inter", "experts", "topk", "routing"), ODD_SHAPES)
def test_odd_shapes_agree_with_float64(kind, tokens, hidden, inter, experts, topk, routing):
    p = random_problem(tokens, hidden, inter, experts, topk, bias=True, routing=routing)
    want = reference_moe(p, ActivationType.Swiglu, kind, skip_inter_quant=False)
    got = run(
        p, ActivationType.Swiglu, kind,
        skip_inter_quant=False if kind is Kind.A4W4 else None,
        output=torch.full((tokens, hidden), math.nan, dtype=torch.bfloat16),
    )  # fmt: skip
    assert relative_l2(got, want) <= A16W4_TOLERANCE


@pytest.mark.parametrize("activation", ["Silu", "Gelu", "Swiglu", "Situv2"])
@pytest.mark.parametrize("kind", list(Kind))
def test_every_activation_agrees_with_float64(activation, kind):
    p = random_problem(9, 128, 192, 4, 2, bias=True)
    activation = ActivationType[activation]
    want = reference_moe(p, activation, kind, beta=4.0, linear_beta=25.0)
    got = run(p, activation, kind, beta=4.0, linear_beta=25.0,
              skip_inter_quant=False if kind is Kind.A4W4 else None)  # fmt: skip
    assert relative_l2(got, want) <= A16W4_TOLERANCE


def test_a4w4_may_leave_the_intermediate_in_bf16():
    p = random_problem(9, 256, 128, 4, 2)
    want = reference_moe(p, ActivationType.Silu, Kind.A4W4, skip_inter_quant=True)
    other = reference_moe(p, ActivationType.Silu, Kind.A4W4, skip_inter_quant=False)
    got = run(p, ActivationType.Silu, Kind.A4W4, skip_inter_quant=True)
    assert relative_l2(got, want) <= A16W4_TOLERANCE
    assert relative_l2(got, other) > 10 * A16W4_TOLERANCE


@pytest.mark.parametrize("block_m", [16, 32, 64, 128])
@pytest.mark.parametrize("kind", list(Kind))
def test_every_block_m_gives_the_same_answer(kind, block_m):
    p = random_problem(33, 128, 128, 4, 2)
    want = reference_moe(p, ActivationType.Silu, kind)
    got = run(p, ActivationType.Silu, kind, block_size_M=block_m,
              skip_inter_quant=False if kind is Kind.A4W4 else None)  # fmt: skip
    assert relative_l2(got, want) <= A16W4_TOLERANCE


@pytest.mark.parametrize("ksplit", [1, 2, 4])
def test_split_k_sums_in_a_fixed_order(ksplit):
    p = random_problem(17, 2880, 128, 4, 2, bias=True)
    want = reference_moe(p, ActivationType.Swiglu, Kind.A16W4)
    first = run(p, ActivationType.Swiglu, Kind.A16W4, splitk=ksplit)
    again = run(p, ActivationType.Swiglu, Kind.A16W4, splitk=ksplit)
    assert relative_l2(first, want) <= A16W4_TOLERANCE
    assert torch.equal(first, again)


def test_interleaved_weights_give_the_same_bits_as_separated_ones():
    p = random_problem(17, 256, 192, 4, 2, bias=True)
    separated = run(p, ActivationType.Swiglu, Kind.A16W4)
    interleaved = run(p, ActivationType.Swiglu, Kind.A16W4, Layout.SHUFFLED_GATE_UP)
    assert torch.equal(separated, interleaved)


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("rows", list(Layout))
def test_weights_in_any_layout_give_the_bits_of_prepared_ones(rows, kind):
    p = random_problem(17, 224, 160, 4, 2, bias=True)  # neither size fills panels or 64 columns
    w1, w2 = prepare_weights(p.w1, p.w2, p.s1, p.s2, target="cpu")
    want = fused_moe(
        p.x, w1, w2, p.topk_weights, p.topk_ids, activation=ActivationType.Swiglu, bias1=p.bias1,
        bias2=p.bias2, q_dtype_a=Q_DTYPE[kind],
    )  # fmt: skip
    assert relative_l2(want, reference_moe(p, ActivationType.Swiglu, kind)) <= A16W4_TOLERANCE
    assert torch.equal(run(p, ActivationType.Swiglu, kind, rows), want)


def test_aiters_a16w4_functions_feed_the_kernels():
    p = random_problem(5, 256, 128, 4, 2)
    w1 = shuffle_weight_a16w4(p.w1.view(dtypes.fp4x2), 16, True)
    w2 = shuffle_weight_a16w4(p.w2.view(dtypes.fp4x2), 16, False)
    s1 = shuffle_scale_a16w4(p.s1.reshape(-1, 8).view(dtypes.fp8_e8m0), 4, True)
    s2 = shuffle_scale_a16w4(p.s2.reshape(-1, 4).view(dtypes.fp8_e8m0), 4, False)
    got = fused_moe(
        p.x, w1, w2, p.topk_weights, p.topk_ids, activation=ActivationType.Swiglu,
        quant_type=QuantType.per_1x32, w1_scale=s1, w2_scale=s2, gate_mode="interleave",
    )  # fmt: skip
    want = reference_moe(p, ActivationType.Swiglu, Kind.A16W4)
    assert relative_l2(got, want) <= A16W4_TOLERANCE


@pytest.mark.parametrize("kind", list(Kind))
def test_masked_experts_contribute_nothing(kind):
    p, local = problem_of_a_rank()
    want = reference_moe(p, ActivationType.Silu, kind, local=local.bool())
    got = run(p, ActivationType.Silu, kind, expert_mask=local,
              skip_inter_quant=False if kind is Kind.A4W4 else None)  # fmt: skip
    assert relative_l2(got, want) <= A16W4_TOLERANCE
    assert torch.count_nonzero(got[0]) == 0


def test_only_local_tokens_are_computed():
    p = random_problem(17, 128, 128, 4, 2)
    want = reference_moe(p, ActivationType.Silu, Kind.A16W4)
    out = torch.full((17, 128), math.nan, dtype=torch.bfloat16)
    got = run(p, ActivationType.Silu, Kind.A16W4, output=out,
              num_local_tokens=torch.tensor([11], dtype=torch.int32))  # fmt: skip
    assert got is out
    assert relative_l2(got[:11], want[:11]) <= A16W4_TOLERANCE
    assert torch.count_nonzero(got[11:]) == 0


def test_ids_past_the_local_tokens_are_never_looked_at():
    p = random_problem(9, 128, 128, 4, 2)
    p.topk_ids[5:] = 2**30
    want = reference_moe(random_problem(9, 128, 128, 4, 2), ActivationType.Silu, Kind.A16W4)
    got = run(
        p, ActivationType.Silu, Kind.A16W4, num_local_tokens=torch.tensor([5], dtype=torch.int32),
        expert_mask=torch.ones(4, dtype=torch.int32),
    )  # fmt: skip
    assert relative_l2(got[:5], want[:5]) <= A16W4_TOLERANCE
    assert torch.count_nonzero(got[5:]) == 0


@pytest.mark.parametrize("local_tokens", [None, 11])
def test_long_calls_are_cut_into_runs_without_a_trace(monkeypatch, local_tokens):
    p = random_problem(17, 128, 128, 4, 2)
    local = None if local_tokens is None else torch.tensor([local_tokens], dtype=torch.int32)
    whole = run(p, ActivationType.Silu, Kind.A4W4, num_local_tokens=local)
    monkeypatch.setattr("aiter_moe.runs.RUN_BYTES", 5 * 4 * 2 * 128)
    known_calls.forget()
    assert torch.equal(run(p, ActivationType.Silu, Kind.A4W4, num_local_tokens=local), whole)


@pytest.mark.parametrize("kind", list(Kind))
def test_declared_padding_is_not_computed(kind):
    p = random_problem(9, 192, 96, 4, 2, bias=True)
    want = reference_moe(p, ActivationType.Swiglu, kind)
    wide = random_problem(9, 256, 256, 4, 2, bias=True)
    hidden, inter = 192, 96
    wide.x = torch.cat((p.x, torch.zeros(9, 64, dtype=torch.bfloat16)), 1)
    wide.w1.zero_(), wide.w2.zero_()
    for half in (0, 1):
        rows, into = slice(half * inter, (half + 1) * inter), slice(half * 256, half * 256 + inter)
        wide.w1[:, into, : hidden // 2] = p.w1[:, rows]
        wide.s1[:, into, : hidden // 32] = p.s1[:, rows]
        wide.bias1[:, into] = p.bias1[:, rows]
    wide.w2[:, :hidden, : inter // 2] = p.w2
    wide.s2[:, :hidden, : inter // 32] = p.s2
    wide.bias2[:, :hidden] = p.bias2
    wide.bias2[:, hidden:] = math.nan  # loaders leave the padding of a bias undefined
    wide.topk_ids, wide.topk_weights = p.topk_ids, p.topk_weights
    got = run(wide, ActivationType.Swiglu, kind, hidden_pad=64, intermediate_pad=160,
              skip_inter_quant=False if kind is Kind.A4W4 else None)  # fmt: skip
    assert relative_l2(got[:, :hidden], want) <= A16W4_TOLERANCE
    assert torch.count_nonzero(got[:, hidden:]) == 0


def test_quantised_hidden_states_are_taken_as_they_are():
    p = random_problem(9, 256, 128, 4, 2)
    codes, scale = per_1x32_f4_quant(p.x)
    w1, w2 = packed(p)
    got = fused_moe(codes, w1, w2, p.topk_weights, p.topk_ids, a1_scale=scale,
                    dtype=torch.bfloat16, skip_inter_quant=False)  # fmt: skip
    want = run(p, ActivationType.Silu, Kind.A4W4, skip_inter_quant=False)
    assert torch.equal(got, want)


def test_half_precision_hidden_states_run_as_a4w4():
    p = random_problem(9, 256, 128, 4, 2)
    p.x = p.x.to(torch.float16)
    got = run(p, ActivationType.Silu, Kind.A4W4, skip_inter_quant=False)
    assert got.dtype is torch.float16
    want = reference_moe(p, ActivationType.Silu, Kind.A4W4)
    assert relative_l2(got, want) <= A16W4_TOLERANCE


def test_no_tokens_give_no_rows():
    p = random_problem(1, 128, 128, 4, 2)
    p.x, p.topk_ids, p.topk_weights = p.x[:0], p.topk_ids[:0], p.topk_weights[:0]
    assert run(p, ActivationType.Silu, Kind.A16W4).shape == (0, 128)


def test_torch_compile_traces_the_call_as_one_operator():
    p = random_problem(5, 128, 128, 4, 2, bias=True)
    w1, w2 = packed(p)

    def layer(x):
        return 2 * fused_moe(
            x, w1, w2, p.topk_weights, p.topk_ids, activation=ActivationType.Swiglu,
            bias1=p.bias1, bias2=p.bias2,
        )  # fmt: skip

    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    assert torch.equal(compiled(p.x), layer(p.x))
