# SPDX-License-Identifier: MIT
"""Which kernels may follow each other: one rule for planner, tuner, builder and verification."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planning import catalogue

from aiter_moe.codegen.catalogue import TARGETS
from aiter_moe.codegen.catalogue import catalogue as real_catalogue
from aiter_moe.codegen.instance import Output
from aiter_moe.codegen.pairs import legal_pairs, pair_refusal
from aiter_moe.enums import ActivationType, Kind

SILU = (None, ActivationType.Silu)


def one(kind, stage, block_m=32, target="gfx950", **fields):
    """An instance of the test catalogue with other fields in its tile."""
    found = next(
        i
        for i in catalogue(target=target).instances
        if (i.kind, i.stage, i.block_m) == (kind, stage, block_m) and i.activation in SILU
    )
    return replace(found, tile=replace(found.tile, **fields))


A4, A16 = Kind.A4W4, Kind.A16W4
FITTING = {
    "a16w4": (one(A16, 1), one(A16, 2)),
    "requantised by stage 1": (one(A4, 1, output=Output.FP4), one(A4, 2)),
    "bf16 between": (one(A4, 1), one(A16, 2)),
    "atomics": (one(A16, 1), one(A16, 2, output=Output.ATOMIC)),
    "direct": (one(A16, 1, 16, direct=True), one(A16, 2, 16, direct=True, output=Output.FINAL)),
    "requantised by the CPU's launcher": (one(A4, 1, target="cpu"), one(A4, 2, target="cpu")),
}
REFUSED = {
    "blocks": (one(A16, 1, 16), one(A16, 2, 32), "block_m 16 and 32"),
    "targets": (one(A16, 1), one(A16, 2, target="gfx942"), "for gfx950"),
    "order": (one(A16, 2), one(A16, 1), "a pair is 1 and 2"),
    "fp4 into a16w4": (one(A4, 1, output=Output.FP4), one(A16, 2), "leaves fp4 codes"),
    "a16w4 into fp4": (one(A16, 1), one(A4, 2), "stage 1 is a16w4"),
    "half direct": (one(A16, 1, direct=True), one(A16, 2), "stage 1 alone reads the routing"),
}


@pytest.mark.parametrize("pair", FITTING.values(), ids=FITTING)
def test_kernels_that_fit_may_follow_each_other(pair):
    assert pair_refusal(*pair) is None


@pytest.mark.parametrize(("stage1", "stage2", "why"), REFUSED.values(), ids=REFUSED)
def test_others_are_refused_with_the_reason(stage1, stage2, why):
    assert why in pair_refusal(stage1, stage2)


def test_pairs_come_by_stage_2_first():
    firsts, seconds = [one(A4, 1), one(A4, 1, output=Output.FP4)], [one(A4, 2), one(A16, 2)]
    found = list(legal_pairs(firsts, seconds))
    assert [p[1].kind for p in found] == sorted((p[1].kind for p in found), key=[A4, A16].index)
    assert (firsts[1], seconds[1]) not in found


@pytest.mark.parametrize("target", TARGETS)
def test_every_kernel_of_a_catalogue_has_a_partner(target):
    usual = [i for i in real_catalogue(target) if i.activation in SILU]
    firsts = [i for i in usual if i.stage == 1]
    seconds = [i for i in usual if i.stage == 2]
    found = list(legal_pairs(firsts, seconds))
    assert {p[0] for p in found} == set(firsts)
    assert {p[1] for p in found} == set(seconds)
