# SPDX-License-Identifier: MIT
"""What a build of shapes leaves out: kernels that run no problem of them, or cannot win one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from aiter_moe import dtypes
from aiter_moe.cli.build import _needed, select
from aiter_moe.codegen.catalogue import catalogue
from aiter_moe.codegen.gfx9.worth import unsuited
from aiter_moe.codegen.instance import Instance
from aiter_moe.codegen.pairs import legal_pairs
from aiter_moe.configs.table import ConfigTable
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.plan import make_plan
from aiter_moe.problem import Problem
from aiter_moe.targets.base import DeviceFacts
from aiter_moe.tuning.model_shapes import FOLDER
from aiter_moe.tuning.needed import needed
from aiter_moe.tuning.tune import problems_of

FACTS = {gfx: DeviceFacts(gfx, units) for gfx, units in (("gfx950", 256), ("gfx942", 304))}
FILES = sorted(FOLDER.glob("*.csv"))


def problem(kind: Kind = Kind.A4W4, **changes: object) -> Problem:
    q_dtype = dtypes.fp4x2 if kind is Kind.A4W4 else torch.bfloat16
    return replace(Problem(64, 3072, 384, 256, 8, ActivationType.Silu, q_dtype), **changes)


def tile(kind: Kind, stage: int, block_m: int, **fields: object) -> Instance:
    """The first of the catalogue, with other fields in its tile."""
    activation = ActivationType.Silu if stage == 1 else None
    found = next(
        i
        for i in catalogue("gfx950")
        if (i.kind, i.stage, i.block_m, i.activation) == (kind, stage, block_m, activation)
    )
    split = bool(fields.get("split_k"))
    return replace(found, split_k=split, tile=replace(found.tile, **fields))


REFUSED = {
    "rows of decode for a prefill": (
        problem(token=131072), tile(Kind.A4W4, 1, 16), "4096 rows an expert read its weights",
    ),
    "rows of prefill for a decode": (
        problem(token=1), tile(Kind.A4W4, 1, 128), "leave most of 128 to padding",
    ),
    "columns": (
        problem(token=512, inter_dim=64), tile(Kind.A4W4, 1, 32, strips=2, waves=4), "at most half",
    ),
    "parts": (
        problem(Kind.A16W4, token=4096), tile(Kind.A16W4, 1, 32, split_k=True), "without parts",
    ),
    "rounds": (
        problem(token=128, inter_dim=128), tile(Kind.A4W4, 1, 32, persistent=True),
        "fit the device at a time",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("of", "instance", "why"), REFUSED.values(), ids=REFUSED)
def test_a_kernel_that_cannot_win_is_told_with_the_figure(of, instance, why):
    assert why in unsuited(of, instance)


def test_other_targets_have_no_such_rules():
    assert all(unsuited(problem(token=131072), i) is None for i in catalogue("cpu"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("gfx", FACTS)
def test_a_build_of_shapes_is_a_part_of_the_catalogue_that_holds_every_plan(gfx, path):
    facts, problems = FACTS[gfx], problems_of(path)
    found = needed(problems, facts)
    kept = set(found.problems)
    assert kept < set(catalogue(gfx))
    assert len(kept) < len(catalogue(gfx)) / 2  # the other activations alone are more
    for one in problems:
        if one in found.refused:
            assert (gfx, one.kind) == ("gfx942", Kind.A4W4)
            continue
        plan = make_plan(one, facts, ConfigTable())
        assert {plan.stage1, plan.stage2} <= kept


def test_every_kept_kernel_has_a_kept_partner():
    kept = needed(problems_of(FILES[0]), FACTS["gfx950"]).problems
    firsts, seconds = ([i for i in kept if i.stage == stage] for stage in (1, 2))
    assert {i for pair in legal_pairs(firsts, seconds) for i in pair} == set(kept)
    assert all(count > 0 for count in kept.values())


def test_a_whole_name_selects_its_kernel_and_a_part_all_that_contain_it():
    name = "aiter_moe_gfx950_a4w4_s2_m64_n128k256_w4d2"
    assert [instance.name for instance in select("gfx950", name=name)] == [name]
    part = select("gfx950", name=name.removeprefix("aiter_moe_"))
    assert {instance.name for instance in part} == {name, f"{name}_atomic"}


def test_reasons_of_problems_without_a_kernel_are_a_line_each(capsys):
    shapes = next(str(f) for f in FILES if any(p.kind is Kind.A4W4 for p in problems_of(f)))
    _needed(catalogue("gfx942"), "gfx942", shapes)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 2
    assert not any("  " in line for line in lines)
