# SPDX-License-Identifier: MIT
"""gfx942 stage kernels, as the compiler emits them, against float64 of the same operands.

The emulator executes them with every check on.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from cpu_kernels import ACTIVATION_CONSTANTS, Shape, bound, make_case, relative_l2
from gfx9_kernels import gfx950, instance_of, run

from aiter_moe.codegen.catalogue import catalogue
from aiter_moe.codegen.instance import ACTIVATIONS, BLOCK_M, Instance, Output
from aiter_moe.enums import ActivationType, Kind

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

gfx942 = partial(instance_of, "gfx942", Kind.A16W4)
# Sums by atomics: test_gfx9_atomic.py; kernels that read the routing: test_direct_layer.py.
TILES = [
    i for i in catalogue("gfx942")
    if i.activation in (None, ActivationType.Swiglu)
    and i.tile.output in (Output.BF16, Output.ROWS) and not i.tile.direct
]  # fmt: skip
SHAPES = {
    1: Shape(tokens=21, topk=3, experts=4, n=160, k=928),
    2: Shape(tokens=21, topk=3, experts=4, n=352, k=928),
}


@pytest.mark.parametrize("instance", TILES, ids=str)
def test_every_tile_with_pads_tails_bias_and_routing_weights(instance: Instance):
    case = make_case(
        instance, SHAPES[instance.stage], seed=1, bias=True, doweight=True,
        ksplit=2 if instance.split_k else 1, interleaved=instance.stage == 1 and instance.split_k,
        constants=ACTIVATION_CONSTANTS[instance.activation],
    )  # fmt: skip
    assert relative_l2(run(case), case.reference()) <= bound(instance)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.name)
def test_the_narrow_tile_and_each_activation(activation):
    instance = gfx942(1, 16, activation, widest=False)
    case = make_case(
        instance, Shape(tokens=5, topk=2, experts=3, n=96, k=64), bias=True,
        constants=ACTIVATION_CONSTANTS[activation],
    )  # fmt: skip
    assert relative_l2(run(case), case.reference()) <= bound(instance)


@pytest.mark.parametrize("stage", [1, 2])
def test_hidden_size_2880_fits(stage):
    activation = ActivationType.Swiglu if stage == 1 else None
    n, k = (64, 2880) if stage == 1 else (2880, 128)
    case = make_case(
        gfx942(stage, 32, activation), Shape(tokens=3, topk=2, experts=2, n=n, k=k), bias=True,
        constants=ACTIVATION_CONSTANTS[activation],
    )  # fmt: skip
    assert relative_l2(run(case), case.reference()) <= bound(case.instance)


@pytest.mark.parametrize("steps", range(1, 10))
@pytest.mark.parametrize("block_m", BLOCK_M)
def test_every_count_of_steps_around_the_rings(block_m, steps):
    shape = Shape(tokens=7, topk=1, experts=2, n=32, k=256 * steps)
    case = make_case(gfx942(2, block_m, widest=False), shape, seed=steps)
    assert relative_l2(run(case), case.reference()) <= bound(case.instance)


@pytest.mark.parametrize("ksplit", [1, 2, 3, 4])
def test_split_k_adds_up_also_when_parts_differ_or_are_empty(ksplit):
    case = make_case(
        gfx942(1, 16, ActivationType.Swiglu, split_k=True),
        Shape(tokens=7, topk=2, experts=3, n=160, k=672), seed=ksplit, bias=True,
        doweight=True, interleaved=ksplit == 2, ksplit=ksplit, constants={"limit": 7.0},
    )  # fmt: skip
    assert relative_l2(run(case), case.reference()) <= bound(case.instance)


@pytest.mark.parametrize("routing", ["one", "sparse"])
@pytest.mark.parametrize("stage", [1, 2])
def test_experts_without_tokens_and_one_with_all_leave_other_rows_alone(stage, routing):
    activation = ActivationType.Gelu if stage == 1 else None
    shape = Shape(tokens=37, topk=3, experts=4, n=32, k=160)
    case = make_case(gfx942(stage, 32, activation), shape, routing=routing, doweight=True)
    assert relative_l2(run(case), case.reference()) <= bound(case.instance)


def test_no_used_rows_is_no_work():
    case = make_case(gfx942(2, 16), Shape(tokens=2, topk=1, experts=2, n=32, k=64))
    case.sorted.valid[:] = 0
    assert run(case).isnan().all()


@pytest.mark.parametrize("block_m", BLOCK_M)
def test_the_order_of_waves_changes_nothing(block_m):
    case = make_case(gfx942(2, block_m), Shape(tokens=9, topk=2, experts=3, n=288, k=1120))
    first = run(case)
    for seed in range(1, 4):
        assert torch.equal(run(case, seed), first)


@pytest.mark.parametrize("stage", [1, 2])
def test_both_gpus_sum_the_same_products(stage):
    # The order of the sum differs, hence sums that f32 holds exactly.
    activation = ActivationType.Silu if stage == 1 else None
    shape = Shape(tokens=19, topk=2, experts=3, n=96, k=544)
    cases = [
        make_case(made(stage, 32, activation), shape, seed=3, bias=True)
        for made in (gfx942, partial(gfx950, Kind.A16W4))
    ]
    for case in cases:
        integers = np.random.default_rng(9).integers(-4, 5, tuple(case.x.shape))
        case.x = torch.from_numpy(integers).to(torch.bfloat16)
        case.scales[:] = 127
    assert torch.equal(run(cases[0]), run(cases[1]))
