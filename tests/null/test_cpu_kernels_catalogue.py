# SPDX-License-Identifier: MIT
"""The CPU catalogue as data, and the sources rendered from it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aiter_moe import dtypes
from aiter_moe.codegen.catalogue import catalogue, instances_for
from aiter_moe.codegen.cpu import AHEAD, COLUMNS, REQUIRES, best_isa, isas
from aiter_moe.codegen.instance import ACTIVATIONS, BLOCK_M
from aiter_moe.codegen.render import render, unit_name, units_of
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.env import CPU_ISA
from aiter_moe.problem import Problem


def problem(kind: Kind, **changes) -> Problem:
    fields = {
        "token": 16, "model_dim": 2880, "inter_dim": 192, "experts": 8, "topk": 2,
        "activation": ActivationType.Swiglu,
        "q_dtype_a": dtypes.fp4x2 if kind is Kind.A4W4 else torch.bfloat16,
    }  # fmt: skip
    return Problem(**(fields | changes))


def test_names_are_unique():
    assert max(Counter(i.name for i in catalogue("cpu")).values()) == 1


def test_kernels_are_compiled_once_for_all_numbers_they_read_at_run_time():
    instances = catalogue("cpu")
    units = {i.name: render(i) for i in instances}
    shared = Counter(unit.name for unit in units.values())
    vector = shared[unit_name(next(i for i in instances if i.tile.isa == "avx512_vnni"))]
    assert vector == len(BLOCK_M) * len(COLUMNS) * len(AHEAD)
    for instance in instances:
        unit = units[instance.name]
        assert units_of([instance, instance]) == [unit]
        other = replace(
            instance, block_m=16, split_k=False, tile=replace(instance.tile, columns=64, ahead=0)
        )
        assert render(other) == unit


def test_compiled_kernels_differ():
    units = units_of(catalogue("cpu"))
    sources = {(unit.source.split("\n", 4)[4], unit.flags) for unit in units}
    assert len({unit.name for unit in units}) == len(units) == len(sources)


@pytest.mark.parametrize("kind", Kind, ids=str)
def test_every_combination_has_every_block_size_and_isa(kind):
    for activation in ACTIVATIONS:
        found = {
            (i.block_m, i.tile.isa)
            for i in catalogue("cpu")
            if i.kind is kind and i.activation is activation and not i.split_k
        }
        assert found == {(m, isa) for m in BLOCK_M for isa in isas(kind)}


@pytest.mark.parametrize("kind", Kind, ids=str)
def test_the_best_isa_of_a_kind_is_the_first_whose_features_the_cpu_has(kind):
    for isa in isas(kind):
        assert best_isa(kind, REQUIRES[isa]) == isa
    assert best_isa(kind, frozenset()) == "portable"
    assert best_isa(kind, frozenset().union(*REQUIRES.values())) == isas(kind)[0]


def test_features_and_flags_name_the_same_extensions():
    for instance in catalogue("cpu"):
        flags = {f.removeprefix("-m") for f in instance.tile.compile_flags if f.startswith("-m")}
        assert flags == {name.replace("_", "") for name in REQUIRES[instance.tile.isa]}
    assert not REQUIRES["portable"]


@pytest.mark.parametrize("kind", Kind, ids=str)
def test_a_cpu_without_features_has_candidates_for_both_stages(kind):
    for stage in (1, 2):
        found = instances_for(problem(kind), "cpu", stage)
        assert {i.block_m for i in found} == set(BLOCK_M)
        assert {i.tile.isa for i in found} == {"portable"}


def test_a4w4_problems_are_never_offered_split_k():
    features = REQUIRES["avx512_vnni"]
    found = instances_for(problem(Kind.A4W4), "cpu", 1, features)
    assert found
    assert not any(i.split_k for i in found)
    assert any(i.split_k for i in instances_for(problem(Kind.A16W4), "cpu", 1, features))


def test_stage_2_of_a4w4_may_skip_the_requantisation():
    found = instances_for(problem(Kind.A4W4), "cpu", 2, REQUIRES["avx512_vnni"])
    assert {i.kind for i in found} == set(Kind)


def test_variable_and_manual_name_every_instruction_set_in_order():
    text = (Path(__file__).resolve().parents[2] / "docs" / "cpu.md").read_text()
    assert re.findall(r"^\| `(\w+)` \| a\d+w4", text, re.MULTILINE) == list(REQUIRES)
    assert re.findall("|".join(rf"\b{isa}\b" for isa in REQUIRES), CPU_ISA.doc) == list(REQUIRES)
