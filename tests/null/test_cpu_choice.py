# SPDX-License-Identifier: MIT
"""What runs untuned on a CPU, and the reasons that are given for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from aiter_moe import dtypes
from aiter_moe.codegen import cpu_choice
from aiter_moe.codegen.cpu import REQUIRES, SHAPES, isas
from aiter_moe.codegen.instance import Output
from aiter_moe.configs.table import ConfigTable
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.plan import make_plan
from aiter_moe.problem import Problem
from aiter_moe.targets.base import DeviceFacts
from aiter_moe.verdict import Overrides

EVERY = frozenset().union(*REQUIRES.values())
LAYER = Problem(1, 2880, 2880, 32, 4, ActivationType.Swiglu, torch.bfloat16, has_bias=True)


def of(kind: Kind, **changes) -> Problem:
    q_dtype = dtypes.fp4x2 if kind is Kind.A4W4 else torch.bfloat16
    return replace(LAYER, q_dtype_a=q_dtype, **changes)


def plan(problem: Problem, features=EVERY, threads: int = 2, **overrides):
    facts = DeviceFacts("cpu", threads, frozenset(features))
    return make_plan(problem, facts, ConfigTable(), Overrides(**overrides))


@pytest.mark.parametrize("kind", Kind, ids=str)
def test_each_kind_runs_on_the_best_instruction_set_it_has_kernels_for(kind):
    for isa in isas(kind):
        found = plan(of(kind), REQUIRES[isa])
        assert {found.stage1.tile.isa, found.stage2.tile.isa} == {isa}
        assert any(reason.startswith(f"{isa} is the best") for reason in found.reasons)
    assert plan(of(kind), ()).stage1.tile.isa == "portable"


@pytest.mark.parametrize("kind", Kind, ids=str)
def test_the_first_shape_runs_untuned(kind):
    for isa in isas(kind):
        tile = plan(of(kind), REQUIRES[isa]).stage1.tile
        first = SHAPES[isa, kind][0]
        assert (tile.rows, tile.groups) == (first.rows, first.groups)


@pytest.mark.parametrize(
    ("tokens", "block_m"), [(1, 16), (128, 16), (256, 32), (512, 64), (1024, 128), (16384, 128)]
)
def test_the_sort_block_holds_the_rows_of_an_expert(tokens, block_m):
    for kind in Kind:
        assert plan(of(kind, token=tokens)).block_m == block_m


def test_a_sort_block_that_is_asked_for_is_used():
    assert plan(of(Kind.A4W4), block_m=64).block_m == 64


def test_stage_2_leaves_the_output_where_its_columns_feed_all_threads():
    assert plan(of(Kind.A16W4)).stage2.tile.output is Output.FINAL
    many = plan(of(Kind.A16W4), threads=64)
    assert many.stage2.tile.output is Output.ROWS
    assert any("45 column ranges are few for 64 threads" in reason for reason in many.reasons)


@pytest.mark.parametrize(("tokens", "columns"), [(1, 64), (32, 64), (64, 128), (1024, 128)])
def test_work_items_grow_with_the_rows_of_an_expert(tokens, columns):
    found = plan(of(Kind.A4W4, token=tokens))
    assert {found.stage1.tile.columns, found.stage2.tile.columns} == {columns}
    assert found.stage1.tile.ahead == cpu_choice.DEFAULT_AHEAD


@pytest.mark.parametrize(("tokens", "columns"), [(1, 64), (4, 256), (512, 256)])
def test_an_expert_of_few_columns_is_one_work_item_where_there_are_enough(tokens, columns):
    sizes = {"model_dim": 3072, "inter_dim": 192, "experts": 256, "topk": 8}
    assert plan(of(Kind.A4W4, token=tokens, **sizes), threads=4).stage1.tile.columns == columns
