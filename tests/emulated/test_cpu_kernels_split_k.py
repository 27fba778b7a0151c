# SPDX-License-Identifier: MIT
"""Split-k of the CPU's a16w4 stage 1: right, repeatable, and summed in ascending order."""

from __future__ import annotations

import pytest
import torch
from cpu_kernels import (
    ACTIVATION_CONSTANTS,
    BF16_OUT,
    Shape,
    instance_of,
    make_case,
    relative_l2,
)

from aiter_moe.codegen.catalogue import catalogue
from aiter_moe.codegen.cpu import isas
from aiter_moe.codegen.instance import ACTIVATIONS, BLOCK_M
from aiter_moe.enums import Kind


def split_instance(isa: str, index: int):
    return instance_of(
        isa, Kind.A16W4, 1, BLOCK_M[index], activation=ACTIVATIONS[index], split_k=True
    )


@pytest.mark.parametrize("index", [0, 2])
@pytest.mark.parametrize("ksplit", [1, 2, 4])
@pytest.mark.parametrize("isa", isas(Kind.A16W4))
def test_parts_add_up_to_the_whole(isa, ksplit, index):
    instance = split_instance(isa, index)
    for number, k in enumerate((256, 320, 352)):
        case = make_case(
            instance, Shape(tokens=19, topk=2, experts=3, n=192, k=k), seed=number, bias=True,
            doweight=number > 0, ksplit=ksplit, routing="sparse",
            constants=ACTIVATION_CONSTANTS[instance.activation],
        )  # fmt: skip
        got = case.run()
        assert relative_l2(got, case.reference()) <= BF16_OUT
        assert torch.equal(got.view(torch.int16), case.run().view(torch.int16))


@pytest.mark.parametrize("isa", isas(Kind.A16W4))
def test_parts_are_added_in_ascending_order(isa):
    # Parts of 64 elements that sum to 2^24, 1, 1, -2^24: only ((a + b) + c) + d gives 0 in f32,
    # other orders keep a 1 or the 2.
    instance = split_instance(isa, 0)
    case = make_case(instance, Shape(1, 1, 1, 32, 256), ksplit=4)
    case.codes[:] = 0
    case.scales[:] = 127
    case.codes[:, :, [0, 32, 64, 96]] = 2  # 1.0 at the first k of each part
    case.x[:] = 0
    case.x[0, [0, 64, 128, 192]] = torch.tensor([2.0**24, 1.0, 1.0, -(2.0**24)]).bfloat16()
    case.bias = torch.ones(1, 64)
    got = case.run()[:, :32]
    assert torch.allclose(got.float(), torch.full_like(got, 0.7311).float(), atol=4e-3)


def test_split_k_is_for_a16w4_stage_1_alone():
    split = [i for i in catalogue("cpu") if i.split_k]
    assert split
    assert all(i.stage == 1 and i.kind is Kind.A16W4 for i in split)
