# SPDX-License-Identifier: MIT
"""gfx950 stage kernels, as the compiler emits them, against float64 of the same operands.

The emulator executes them with every check on.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cpu_kernels import ACTIVATION_CONSTANTS, Shape, bound, make_case, relative_l2
from gfx9_kernels import Run, compiled, gfx950, run

from aiter_moe.codegen.instance import ACTIVATIONS, BLOCK_M
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.targets.emulator_report import EmulatorFaultError, FaultKind

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

STAGE1_SHAPES = (
    Shape(tokens=1, topk=2, experts=4, n=128, k=256),
    Shape(tokens=3, topk=3, experts=5, n=192, k=352),
    Shape(tokens=17, topk=2, experts=3, n=384, k=192),
    Shape(tokens=129, topk=1, experts=2, n=32, k=640),
)
STAGE2_SHAPES = (
    Shape(tokens=1, topk=2, experts=4, n=256, k=128),
    Shape(tokens=3, topk=3, experts=5, n=352, k=192),
    Shape(tokens=17, topk=2, experts=3, n=192, k=384),
    Shape(tokens=129, topk=1, experts=2, n=96, k=640),
)


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("kind", Kind, ids=str)
def test_stage_1_is_the_activated_product(kind, index):
    activation = ACTIVATIONS[index]
    instance = gfx950(kind, 1, BLOCK_M[index], activation)
    case = make_case(
        instance, STAGE1_SHAPES[index], seed=index, bias=index != 1, doweight=index > 1,
        interleaved=index in (0, 3), constants=ACTIVATION_CONSTANTS[activation],
    )  # fmt: skip
    assert relative_l2(run(case), case.reference()) <= bound(instance)


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("kind", Kind, ids=str)
def test_stage_2_is_the_product(kind, index):
    instance = gfx950(kind, 2, BLOCK_M[index])
    case = make_case(
        instance, STAGE2_SHAPES[index], seed=index, bias=index != 1, doweight=index % 2 == 1
    )
    assert relative_l2(run(case), case.reference()) <= bound(instance)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.name)
@pytest.mark.parametrize("kind", Kind, ids=str)
def test_the_narrow_tile_and_each_activation(kind, activation):
    instance = gfx950(kind, 1, 16, activation, widest=False)
    case = make_case(
        instance, Shape(tokens=5, topk=2, experts=3, n=96, k=64), bias=True,
        constants=ACTIVATION_CONSTANTS[activation],
    )  # fmt: skip
    assert relative_l2(run(case), case.reference()) <= bound(instance)


@pytest.mark.parametrize("limit", [0.0, 0.75])
def test_silu_clamps_when_a_limit_is_given(limit):
    instance = gfx950(Kind.A4W4, 1, 16, ActivationType.Silu)
    shape = Shape(tokens=5, topk=2, experts=3, n=64, k=96)
    case = make_case(instance, shape, constants={"limit": limit})
    assert relative_l2(run(case), case.reference()) <= bound(instance)


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("kind", Kind, ids=str)
def test_hidden_size_2880_fits(kind, stage):
    activation = ActivationType.Swiglu if stage == 1 else None
    instance = gfx950(kind, stage, 32, activation)
    n, k = (64, 2880) if stage == 1 else (2880, 128)
    case = make_case(
        instance, Shape(tokens=3, topk=2, experts=2, n=n, k=k), bias=True,
        constants=ACTIVATION_CONSTANTS[activation],
    )  # fmt: skip
    assert relative_l2(run(case), case.reference()) <= bound(instance)


@pytest.mark.parametrize("ksplit", [1, 2, 3, 4])
def test_split_k_adds_up_also_when_parts_differ_or_are_empty(ksplit):
    instance = gfx950(Kind.A16W4, 1, 16, ActivationType.Swiglu, split_k=True)
    case = make_case(
        instance, Shape(tokens=7, topk=2, experts=3, n=160, k=672), seed=ksplit, bias=True,
        doweight=True, interleaved=ksplit == 2, ksplit=ksplit, constants={"limit": 7.0},
    )  # fmt: skip
    assert relative_l2(run(case), case.reference()) <= bound(instance)


@pytest.mark.parametrize("block_m", [16, 32])
def test_split_k_at_every_block_size(block_m):
    instance = gfx950(Kind.A16W4, 1, block_m, ActivationType.Silu, split_k=True)
    shape = Shape(tokens=21, topk=2, experts=2, n=32, k=512)
    case = make_case(instance, shape, ksplit=2)
    assert relative_l2(run(case), case.reference()) <= bound(instance)


@pytest.mark.parametrize("routing", ["one", "sparse"])
@pytest.mark.parametrize("kind", Kind, ids=str)
@pytest.mark.parametrize("stage", [1, 2])
def test_experts_without_tokens_and_one_with_all_leave_other_rows_alone(stage, kind, routing):
    activation = ActivationType.Gelu if stage == 1 else None
    instance = gfx950(kind, stage, 32, activation)
    shape = Shape(tokens=37, topk=3, experts=4, n=32, k=160)
    case = make_case(instance, shape, routing=routing, doweight=True)
    assert relative_l2(run(case), case.reference()) <= bound(instance)


@pytest.mark.parametrize("kind", Kind, ids=str)
def test_no_used_rows_is_no_work(kind):
    case = make_case(gfx950(kind, 2, 16), Shape(tokens=2, topk=1, experts=2, n=32, k=64))
    case.sorted.valid[:] = 0
    assert run(case).isnan().all()


@pytest.mark.parametrize("kind", Kind, ids=str)
def test_the_order_of_waves_changes_nothing(kind):
    shape = Shape(tokens=9, topk=2, experts=3, n=288, k=352)
    case = make_case(gfx950(kind, 2, 64), shape, bias=True)
    first = run(case)
    for seed in range(1, 6):
        assert torch.equal(run(case, seed), first)


@pytest.mark.parametrize("kind", Kind, ids=str)
def test_interleaved_and_separated_weights_give_the_same_bits(kind):
    instance = gfx950(kind, 1, 16, ActivationType.Silu)
    shape = Shape(tokens=5, topk=2, experts=3, n=160, k=96)
    outputs = [run(make_case(instance, shape, interleaved=i, bias=True)) for i in (False, True)]
    assert torch.equal(*outputs)


S_BARRIER, S_WAITCNT = 0xBF8A0000, 0xBF8C
VMCNT = 0xC00F  # bits of the count of vector memory in the immediate


def with_waits_longer_by_one(code: bytes) -> bytes:
    """Let every wait for vector memory before a barrier leave one more request unfinished."""
    words = np.frombuffer(code, np.uint32).copy()
    waits = (words[:-1] >> 16 == S_WAITCNT) & (words[1:] == S_BARRIER)
    waits &= words[:-1] & VMCNT != VMCNT
    assert waits.any()
    assert (words[:-1][waits] & 0xF < 0xF).all(), "the count would carry"
    words[:-1][waits] += 1
    return words.tobytes()


@pytest.mark.parametrize("block_m", [32, 64])
@pytest.mark.parametrize("kind", Kind, ids=str)
def test_a_wait_for_one_request_too_few_would_be_found(kind, block_m):
    instance = gfx950(kind, 2, block_m)
    case = make_case(instance, Shape(tokens=block_m, topk=1, experts=1, n=32, k=768))
    assert relative_l2(run(case), case.reference()) <= bound(instance)
    with pytest.raises(EmulatorFaultError) as caught:
        run(case, code_object=with_waits_longer_by_one(compiled(instance)))
    kinds = {fault.kind for fault in caught.value.report.faults}
    assert kinds & {FaultKind.in_flight_lds, FaultKind.lds_race}


@pytest.mark.parametrize("name", ["w", "w_scale", "x", "sorted_expert_ids"])
def test_a_tensor_shorter_than_its_shape_says_would_be_found(name, monkeypatch):
    point = Run.point

    def shortened(self: Run, which: str, array: np.ndarray) -> np.ndarray:
        full = point(self, which, array)
        if which == name:
            self.tensors[-1] = full.reshape(-1)[: -max(full.nbytes // full.itemsize // 4, 1)]
        return full

    monkeypatch.setattr(Run, "point", shortened)
    case = make_case(gfx950(Kind.A4W4, 2, 16), Shape(tokens=8, topk=1, experts=1, n=64, k=256))
    if name == "sorted_expert_ids":
        case.sorted.experts = case.sorted.experts[:1]
    with pytest.raises(EmulatorFaultError, match="out_of_range"):
        run(case)
