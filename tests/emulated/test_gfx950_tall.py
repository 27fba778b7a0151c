# SPDX-License-Identifier: MIT
"""a4w4 tiles of 128 and 256 rows, whose loop runs rows and requests among the products.

Sizes are odd on purpose: reductions that end within a step, shorter than the steps asked for
ahead, and long enough for the loop without masks; experts with no token, one with all.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from cpu_kernels import ACTIVATION_CONSTANTS, Shape, bound, make_case, relative_l2
from gfx9_kernels import run

from aiter_moe.codegen.gfx9 import Gfx9Tile
from aiter_moe.codegen.gfx9.device import DEVICES
from aiter_moe.codegen.instance import Instance, Output
from aiter_moe.enums import ActivationType, Kind

pytestmark = pytest.mark.usefixtures("gfx950_compiler")


def tall(stage: int, block_m: int, *, persistent: bool = False) -> Instance:
    """Return the tile of 128 columns of gate and up, or 256 of stage 2, in rows of 128 a wave."""
    row_waves = block_m // 128
    output = Output.BF16 if stage == 1 else Output.ROWS
    tile = Gfx9Tile(
        stage, 2, 4 * row_waves, 1, 2, 2, False, output=output, row_waves=row_waves,
        persistent=persistent,
    )  # fmt: skip
    activation = ActivationType.Swiglu if stage == 1 else None
    return Instance("gfx950", Kind.A4W4, stage, block_m, activation, False, tile)


def error_of(instance: Instance, shape: Shape, **kwargs: object) -> float:
    constants = ACTIVATION_CONSTANTS[instance.activation]
    case = make_case(instance, shape, bias=True, constants=constants, **kwargs)
    return relative_l2(run(case), case.reference()) / bound(instance)


@pytest.mark.parametrize("block_m", [128, 256])
@pytest.mark.parametrize(
    ("tokens", "n", "k"), [(1, 192, 96), (3, 384, 2880), (17, 640, 480), (129, 160, 1216)]
)
def test_stage_1(block_m, tokens, n, k):
    shape = Shape(tokens=tokens, topk=2 if tokens < 100 else 1, experts=3, n=n, k=k)
    assert error_of(tall(1, block_m), shape, seed=tokens, interleaved=tokens == 17) <= 1


@pytest.mark.parametrize("block_m", [128, 256])
@pytest.mark.parametrize(
    ("tokens", "n", "k"), [(1, 2880, 192), (3, 352, 384), (17, 608, 640), (129, 288, 1536)]
)
def test_stage_2(block_m, tokens, n, k):
    shape = Shape(tokens=tokens, topk=2 if tokens < 100 else 1, experts=3, n=n, k=k)
    assert error_of(tall(2, block_m), shape, seed=tokens, doweight=True) <= 1


@pytest.mark.parametrize("routing", ["one", "sparse"])
@pytest.mark.parametrize("stage", [1, 2])
def test_every_row_of_a_block_and_experts_without_tokens(stage, routing):
    shape = Shape(tokens=150, topk=2, experts=4, n=64, k=544)
    assert error_of(tall(stage, 256), shape, routing=routing) <= 1


@pytest.mark.parametrize("block_m", [128, 256])
def test_a_persistent_workgroup_reuses_its_lds(block_m, monkeypatch):
    """Eight workgroups do what is for many: each walks over several items."""
    small = dataclasses.replace(DEVICES["gfx950"], compute_units=8)
    monkeypatch.setattr("aiter_moe.codegen.gfx9.launch.device_of", lambda _: small)
    monkeypatch.setattr("aiter_moe.codegen.gfx9.launch.workgroups_per_cu", lambda _: 1)
    shape = Shape(tokens=33, topk=2, experts=5, n=1056, k=288)
    assert error_of(tall(2, block_m, persistent=True), shape) <= 1


def test_the_order_of_waves_changes_nothing():
    case = make_case(tall(2, 256), Shape(tokens=70, topk=2, experts=2, n=288, k=1056), bias=True)
    first = run(case)
    for seed in range(1, 4):
        assert torch.equal(run(case, seed), first)
