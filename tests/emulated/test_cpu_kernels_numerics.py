# SPDX-License-Identifier: MIT
"""CPU stage kernels against float64 of the same quantised operands."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cpu_kernels import (
    ACTIVATION_CONSTANTS,
    F32_OUT,
    Shape,
    bound,
    every_kernel,
    instance_of,
    make_case,
    relative_l2,
)

from aiter_moe.codegen.catalogue import catalogue
from aiter_moe.codegen.instance import ACTIVATIONS, BLOCK_M, Output
from aiter_moe.codegen.render import unit_name
from aiter_moe.enums import ActivationType, Kind

STAGE1_SHAPES = (
    Shape(tokens=1, topk=2, experts=4, n=128, k=256),
    Shape(tokens=3, topk=3, experts=5, n=192, k=352),
    Shape(tokens=17, topk=4, experts=6, n=384, k=192),
    Shape(tokens=129, topk=2, experts=3, n=640, k=96),
)
STAGE2_SHAPES = (
    Shape(tokens=1, topk=2, experts=4, n=256, k=128),
    Shape(tokens=3, topk=3, experts=5, n=352, k=192),
    Shape(tokens=17, topk=4, experts=6, n=192, k=384),
    Shape(tokens=129, topk=2, experts=3, n=96, k=640),
)


# Four block sizes meet the four activations, the tiles, and the shapes in turn.
@pytest.mark.parametrize("index", range(4))
@every_kernel
def test_stage_1_is_the_activated_product_at_every_shape(isa, kind, index):
    activation = ACTIVATIONS[(index + (kind is Kind.A4W4)) % 4]
    instance = instance_of(isa, kind, 1, BLOCK_M[index], activation=activation, split_k=False)
    for number, shape in enumerate(STAGE1_SHAPES):
        case = make_case(
            instance, shape, seed=number, bias=number % 2 == 1, doweight=number > 1,
            constants=ACTIVATION_CONSTANTS[activation],
        )  # fmt: skip
        assert relative_l2(case.run(), case.reference()) <= bound(instance), shape


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("output", [Output.ROWS, Output.FINAL], ids=lambda o: o.value)
@every_kernel
def test_stage_2_is_the_product_at_every_shape(isa, kind, output, index):
    instance = instance_of(isa, kind, 2, BLOCK_M[index], output)
    for number, shape in enumerate(STAGE2_SHAPES):
        case = make_case(instance, shape, seed=number, bias=number > 1, doweight=number % 2 == 1)
        assert relative_l2(case.run(), case.reference()) <= bound(instance), shape


@pytest.mark.parametrize("stage", [1, 2])
@every_kernel
def test_hidden_size_2880_fits(isa, kind, stage):
    fields = {"activation": ActivationType.Swiglu, "split_k": False} if stage == 1 else {}
    instance = instance_of(isa, kind, stage, 32, **fields)
    n, k = (192, 2880) if stage == 1 else (2880, 192)
    case = make_case(
        instance, Shape(tokens=5, topk=2, experts=3, n=n, k=k), bias=True,
        constants={"limit": 7.0} if stage == 1 else {},
    )  # fmt: skip
    assert relative_l2(case.run(), case.reference()) <= bound(instance)


@pytest.mark.parametrize("routing", ["one", "sparse"])
@pytest.mark.parametrize("output", [Output.ROWS, Output.FINAL], ids=lambda o: o.value)
@every_kernel
def test_experts_without_tokens_and_one_with_all_leave_other_rows_alone(isa, kind, output, routing):
    instance = instance_of(isa, kind, 2, 16, output)
    shape = Shape(tokens=67, topk=3, experts=4, n=64, k=64)
    case = make_case(instance, shape, routing=routing, doweight=True)
    assert relative_l2(case.run(), case.reference()) <= F32_OUT


@every_kernel
def test_every_number_of_rows_of_a_block_is_served(isa, kind):
    instance = instance_of(isa, kind, 2, 64)
    for tokens in range(1, 66):
        shape = Shape(tokens, topk=1, experts=1, n=16, k=64)
        case = make_case(instance, shape, seed=tokens)
        assert relative_l2(case.run(), case.reference()) <= F32_OUT, tokens


@every_kernel
def test_no_tokens_of_local_experts_is_no_work(isa, kind):
    instance = instance_of(isa, kind, 2, 16)
    case = make_case(instance, Shape(tokens=2, topk=1, experts=2, n=32, k=64))
    case.sorted.valid[:] = 0
    assert case.run().isnan().all()


@pytest.mark.parametrize("slot", [127, 200, 254])
def test_high_slot_numbers_are_not_negative(slot):
    instance = instance_of("portable", Kind.A16W4, 2, 16)
    shape = Shape(tokens=2, topk=255, experts=256, n=16, k=32)
    case = make_case(instance, shape)
    got, want = case.run(), case.reference()
    rows = torch.arange(2) * 255 + slot
    assert torch.allclose(got[rows, :16].double(), want[rows], rtol=1e-5, atol=1e-6)


@every_kernel
def test_results_do_not_depend_on_block_size_or_tile(isa, kind):
    shape = Shape(tokens=40, topk=2, experts=3, n=320, k=192)
    outputs = [
        make_case(i, shape).run()
        for i in (instance_of(isa, kind, 2, block_m) for block_m in BLOCK_M)
    ]
    for other in outputs[1:]:
        assert np.allclose(outputs[0].numpy(), other.numpy(), rtol=1e-5, atol=1e-6, equal_nan=True)


def one_of_each_kernel():
    """Return an instance of every compiled kernel; their numbers differ."""
    found = {}
    for instance in catalogue("cpu"):
        found.setdefault(unit_name(instance), []).append(instance)
    return [same[7 * at % len(same)] for at, same in enumerate(found.values())]


@pytest.mark.slow
@pytest.mark.parametrize("instance", one_of_each_kernel(), ids=str)
def test_every_compiled_kernel_is_right(instance):
    shape = (STAGE1_SHAPES if instance.stage == 1 else STAGE2_SHAPES)[2]
    case = make_case(
        instance, shape, bias=True, doweight=True,
        constants=ACTIVATION_CONSTANTS[instance.activation], ksplit=2 if instance.split_k else 1,
    )  # fmt: skip
    assert relative_l2(case.run(), case.reference()) <= bound(instance)
