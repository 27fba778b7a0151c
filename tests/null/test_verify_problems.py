# SPDX-License-Identifier: MIT
"""The problem matrix of verify: what it holds, and that every kernel meets every value of it."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations
from itertools import pairwise as neighbours

import pytest

from aiter_moe.codegen.catalogue import TARGETS, catalogue
from aiter_moe.codegen.cpu import CpuTile
from aiter_moe.enums import ActivationType, GateMode, Kind
from aiter_moe.verify.families import cases_of, families_of
from aiter_moe.verify.problems import Padding, Scales, Size, Spread, StageCase, axes_of

REQUIRED = {
    "tokens": {1, 3, 17, 129},
    "topk": {1, 4, 8},
    "spread": set(Spread),
    "padding": set(Padding),
    "bias": {False, True},
    "doweight": {False, True},
    "scales": set(Scales),
}


@pytest.fixture(scope="module", params=TARGETS)
def chosen(request):
    """Each family of a target's kernels with its cases."""
    found = families_of(i for i in catalogue(request.param) if not i.tile.requires)
    return {family: cases_of(family, 0) for family in found}


def by_kernel(family, cases):
    found = defaultdict(list)
    for case in cases:
        found[case.instance].append(case)
    assert set(found) == set(family)
    return found


def run_time_numbers(instance):
    """Return what a compiled kernel of the CPU reads at run time beside its block_m."""
    tile = instance.tile
    return (tile.columns, tile.ahead) if isinstance(tile, CpuTile) else ()


def test_kernels_of_a_family_differ_in_activation_output_and_run_time_numbers_alone(chosen):
    for family in chosen:
        told = {(i.activation, i.tile.output, *run_time_numbers(i)) for i in family}
        assert len(told) == len(family)
        assert len({(i.kind, i.stage, i.block_m, i.split_k, i.tile.template) for i in family}) == 1


def test_every_kernel_meets_every_value_of_every_axis(chosen):
    for family, found in chosen.items():
        for instance, cases in by_kernel(family, found.cases).items():
            few = {"tokens": {1, 3, 7}} if instance.tile.direct else {}
            for name, values in (REQUIRED | few).items():
                assert values <= {getattr(case, name) for case in cases}, (instance.name, name)
            assert {128, 192, 384, 640, 1536} <= {case.size.inter for case in cases}
            assert {512, 2880, 3072} <= {case.size.hidden for case in cases}
            assert instance.block_m in {case.tokens for case in cases}
            if instance.stage == 1:
                modes = {GateMode.SEPARATED, GateMode.INTERLEAVE}
                assert {case.gate_mode for case in cases} == modes
            if instance.split_k:
                assert {case.ksplit for case in cases} == {1, 2, 3, 4, 8}
            if instance.activation is ActivationType.Silu:
                assert {0.0, 0.75} == {case.constants.limit for case in cases}


def test_a_family_meets_every_possible_pair_of_values(chosen):
    names = ["tokens", "topk", "spread", "padding", "scales", "size"]
    for found in chosen.values():
        for one, other in combinations(names, 2):
            pairs = {(getattr(c, one), getattr(c, other)) for c in found.cases}
            values = [{getattr(c, name) for c in found.cases} for name in (one, other)]
            assert len(pairs) == len(values[0]) * len(values[1])


def test_every_chosen_case_is_supported_and_the_matrix_stays_small(chosen):
    cases = [found.cases for found in chosen.values()]
    assert all(case.refusal() is None for some in cases for case in some)
    # A family of the CPU holds 4 activations x 3 columns x 3 prefetch distances.
    assert max(len(some) for some in cases) < 120


def test_splits_that_leave_a_part_without_a_block_are_counted_with_the_reason(chosen):
    for family, found in chosen.items():
        assert bool(found.refused) is family[0].split_k
        assert all("without a K block" in reason for reason in found.refused)


def test_the_kernels_of_families_meet_other_combinations(chosen):
    told = [{str(case) for case in found.cases} for found in chosen.values()]
    assert all(a != b for a, b in neighbours(told))


def plain(instance, **changes):
    values = {axis.name: axis.values[0] for axis in axes_of(instance)} | changes
    return StageCase(instance=instance, seed=0, **values)


def first(target, kind, stage, split_k=False):
    wanted = (kind, stage, split_k)
    return next(i for i in catalogue(target) if (i.kind, i.stage, i.split_k) == wanted)


def test_a_case_poses_the_problem_its_sizes_say():
    case = plain(first("gfx950", Kind.A16W4, 2), size=Size(2880, 192), padding=Padding.BOTH)
    problem = case.problem()
    assert (problem.model_dim, problem.inter_dim, problem.kind) == (2880, 192, Kind.A16W4)
    assert (case.columns, case.reduction) == (2880, 192)
    assert case.physical.hidden > 2880
    assert case.physical.inter > 192
    assert not problem.doweight_stage1  # stage 2 is weighted unless stage 1 was


def test_uneven_and_unit_splits_are_run_where_whole_blocks_allow():
    instance = first("gfx950", Kind.A16W4, 1, split_k=True)
    assert plain(instance, size=Size(2880, 192), ksplit=8).refusal() is None
    assert plain(instance, size=Size(512, 128), ksplit=1).refusal() is None
    assert "without a K block" in plain(instance, size=Size(512, 128), ksplit=3).refusal()


def test_a_case_says_what_it_is():
    case = plain(
        first("gfx950", Kind.A16W4, 1, split_k=True), tokens=17, ksplit=3, bias=True,
        spread=Spread.MASKED, padding=Padding.HIDDEN, scales=Scales.EXTREME,
    )  # fmt: skip
    assert str(case) == (
        "tokens 17 topk 1 512x128 masked ksplit 3 padded hidden bias extreme scales seed 0"
    )
