# SPDX-License-Identifier: MIT
"""fused_moe as one operator: compiled with symbolic sizes, traced, faked, and without gradients."""

from __future__ import annotations

import pytest
import torch
from reference import random_problem, reference_moe, relative_l2
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from aiter_moe import (
    ActivationType,
    ArgumentError,
    ConfigError,
    Kind,
    PackedWeight,
    dtypes,
    e8m0_shuffle,
    fused_moe,
    prepare_weights,
    shuffle_weight,
)
from aiter_moe.targets.registry import running_target

TOKENS, MODEL, INTER, EXPERTS, TOPK = 5, 128, 128, 4, 2


@pytest.fixture
def problem():
    torch._dynamo.reset()
    return random_problem(TOKENS, MODEL, INTER, EXPERTS, TOPK)


def operands(p, form):
    """Return (w1, w2) and scale arguments in one of the forms callers hold weights in."""
    if form == "packed":
        return (PackedWeight.pack(p.w1, p.s1), PackedWeight.pack(p.w2, p.s2)), {}
    if form == "panels":
        return prepare_weights(p.w1, p.w2, p.s1, p.s2, target="cpu"), {}
    if form == "row-major":
        return (p.w1.clone(), p.w2.clone()), {"w1_scale": p.s1, "w2_scale": p.s2}
    scales = [e8m0_shuffle(s.reshape(-1, s.shape[-1])) for s in (p.s1, p.s2)]
    return (shuffle_weight(p.w1), shuffle_weight(p.w2)), dict(
        zip(("w1_scale", "w2_scale"), scales, strict=True)
    )


def moe(x, w1, w2, weights, ids, **kwargs):
    return fused_moe(x, w1, w2, weights, ids, activation=ActivationType.Swiglu, **kwargs)


@pytest.mark.parametrize("form", ["packed", "shuffled", "row-major", "panels"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_whole_graph_compiles_from_weights_in_any_form(problem, form, dynamic):
    (w1, w2), scales = operands(problem, form)

    def layer(x, w1, w2, weights, ids, scales, output):
        return moe(x, w1, w2, weights, ids, output=output, **scales) * 1

    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    for tokens in (TOKENS, 3):
        x, weights = problem.x[:tokens], problem.topk_weights[:tokens]
        ids = problem.topk_ids[:tokens]
        output = torch.empty(tokens, MODEL, dtype=torch.bfloat16)
        result = compiled(x, w1, w2, weights, ids, scales, output)
        assert torch.equal(result, moe(x, w1, w2, weights, ids, **scales))
        assert torch.equal(output, result)


def test_parameters_that_require_a_gradient_give_the_same_result_without_one(problem):
    (w1, w2), _ = operands(problem, "packed")
    bias = torch.nn.Parameter(torch.randn(EXPERTS, 2 * INTER))
    router = torch.nn.Parameter(torch.randn(EXPERTS, MODEL))

    def layer(x):
        weights, ids = torch.softmax(x.float() @ router.T, -1).topk(TOPK)
        return moe(x, w1, w2, weights, ids.int(), bias1=bias)

    eager = layer(problem.x)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)(problem.x)
    assert torch.equal(compiled, eager)
    assert not eager.requires_grad
    assert not compiled.requires_grad


def test_a_compiled_call_still_refuses_a_mask_of_other_experts(problem):
    (w1, w2), _ = operands(problem, "packed")
    mask = torch.ones(EXPERTS + 3, dtype=torch.int32)
    args = (problem.x, w1, w2, problem.topk_weights, problem.topk_ids, mask)
    compiled = torch.compile(fused_moe, backend="eager", fullgraph=True)
    with pytest.raises(ArgumentError, match="expert_mask"):
        compiled(*args)


def test_tracing_records_one_operator_and_fake_tensors_need_no_kernel(problem):
    (w1, w2), _ = operands(problem, "packed")

    def layer(x):
        return moe(x, w1, w2, problem.topk_weights, problem.topk_ids)

    called = [n.target for n in make_fx(layer)(problem.x).graph.nodes if n.op == "call_function"]
    assert called.count(torch.ops.aiter_moe.fused_moe.default) == 1
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        out = layer(mode.from_tensor(problem.x))
    assert out.shape == (TOKENS, MODEL)
    assert out.dtype == torch.bfloat16


def test_row_major_weights_are_converted_again_only_when_they_change(problem, monkeypatch):
    (w1, w2), scales = operands(problem, "row-major")
    made = []
    to_layout = PackedWeight.to_layout

    def counting(self, layout):
        made.append(layout)
        return to_layout(self, layout)

    monkeypatch.setattr(PackedWeight, "to_layout", counting)

    def call():
        return moe(
            problem.x, w1.view(torch.uint8), w2.view(torch.uint8), problem.topk_weights,
            problem.topk_ids, q_dtype_a=torch.bfloat16, **scales,
        )  # fmt: skip

    first = call()
    assert torch.equal(call(), first)
    assert len(made) == 2
    scales["w1_scale"] = scales["w1_scale"].clone()
    scales["w1_scale"] -= 1
    changed = call()
    assert len(made) == 3
    problem.s1 = scales["w1_scale"]
    wanted = reference_moe(problem, ActivationType.Swiglu, Kind.A16W4)
    assert relative_l2(changed, wanted) <= 4e-3
    w2.zero_()
    assert not call().any()


@pytest.mark.parametrize("gate_mode", [None, "separated", "interleave"])
def test_a_traced_call_keeps_what_the_caller_says_of_panels(problem, gate_mode, monkeypatch):
    (w1, w2), _ = operands(problem, "panels")
    orders = []
    monkeypatch.setattr(
        "aiter_moe.forward.activation_dtype",
        lambda activation, order, tokens, gfx: orders.append(order) or torch.bfloat16,
    )

    def layer(x):
        weights, ids = problem.topk_weights, problem.topk_ids
        return fused_moe(x, w1, w2, weights, ids, gate_mode=gate_mode)

    traced = make_fx(layer)(problem.x)(problem.x)
    assert torch.equal(traced, layer(problem.x))
    assert {order.value for order in orders} == {gate_mode or "separated"}


def test_weights_made_in_inference_mode_are_used_as_they_are_now(problem):
    with torch.inference_mode():
        (w1, w2), scales = operands(problem, "row-major")
        args = (problem.x, w1, w2, problem.topk_weights, problem.topk_ids)
        assert moe(*args, **scales).any()
        w2.zero_()
        assert not moe(*args, **scales).any()


def test_the_number_of_local_tokens_may_be_a_plain_integer(problem):
    (w1, w2), _ = operands(problem, "packed")
    args = (problem.x, w1, w2, problem.topk_weights, problem.topk_ids)
    out = moe(*args, num_local_tokens=2)
    assert torch.equal(out[:2], moe(*args)[:2])
    assert not out[2:].any()


@pytest.mark.parametrize("kind", [Kind.A16W4, Kind.A4W4])
def test_the_output_type_is_the_callers_whatever_the_hidden_states_are(problem, kind):
    (w1, w2), _ = operands(problem, "packed")
    q_dtype_a = torch.bfloat16 if kind is Kind.A16W4 else dtypes.fp4x2
    out = moe(
        problem.x, w1, w2, problem.topk_weights, problem.topk_ids, q_dtype_a=q_dtype_a,
        dtype=torch.float16,
    )  # fmt: skip
    assert out.dtype == torch.float16
    assert relative_l2(out, reference_moe(problem, ActivationType.Swiglu, kind)) <= 4e-3


def test_a_traced_call_takes_its_target_by_name(problem, monkeypatch):
    (w1, w2), _ = operands(problem, "packed")
    monkeypatch.setenv("AITER_MOE_TARGET", "gfx950")  # the name goes before the environment

    def layer(x, target):
        return moe(x, w1, w2, problem.topk_weights, problem.topk_ids, target=target)

    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    assert torch.equal(compiled(problem.x, "cpu"), layer(problem.x, running_target("cpu")))
    with pytest.raises(ConfigError, match="tpu"):
        compiled(problem.x, "tpu")
    with pytest.raises(ArgumentError, match="target='cpu'"):
        make_fx(lambda x: layer(x, running_target("cpu")))(problem.x)
