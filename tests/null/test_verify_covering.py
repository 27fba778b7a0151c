# SPDX-License-Identifier: MIT
"""Which combinations verify runs: all pairs or all combinations, and nothing lost in silence."""

from __future__ import annotations

from itertools import combinations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiter_moe.verify.covering import pairwise, product_size, whole
from aiter_moe.verify.problems import Axis

sizes = st.lists(st.integers(1, 4), min_size=2, max_size=5)


def axes_of_sizes(lengths):
    return [Axis(f"axis{i}", tuple(range(n))) for i, n in enumerate(lengths)]


def pairs(axes, choice):
    return set(combinations([(a.name, choice[a.name]) for a in axes], 2))


def every_pair(axes):
    return {
        ((a.name, i), (b.name, j))
        for a, b in combinations(axes, 2)
        for i, j in product(a.values, b.values)
    }


def never(choice):
    return None


@given(sizes, st.integers(0, 99))
def test_every_pair_of_values_is_chosen_with_fewer_combinations_than_the_product(lengths, seed):
    axes = axes_of_sizes(lengths)
    found = pairwise(axes, never, seed)
    assert set().union(*(pairs(axes, c) for c in found.choices)) == every_pair(axes)
    assert len(found.choices) <= product_size(axes)
    assert not found.refused


@given(sizes, st.integers(0, 99))
@settings(max_examples=50)
def test_what_is_refused_is_never_chosen_and_every_impossible_pair_is_counted(lengths, seed):
    axes = axes_of_sizes(lengths)

    def refusal(choice):
        return "both 0" if choice["axis0"] == 0 and choice["axis1"] == 0 else None

    found = pairwise(axes, refusal, seed)
    possible = [c for c in whole(axes, refusal, seed) if not isinstance(c, str)]
    coverable = set().union(set(), *(pairs(axes, c) for c in possible))
    covered = set().union(set(), *(pairs(axes, c) for c in found.choices))
    assert all(refusal(c) is None for c in found.choices)
    assert covered == coverable
    assert found.refused.total() == len(every_pair(axes) - coverable)


@given(sizes, st.integers(0, 99))
def test_the_whole_product_is_walked_once(lengths, seed):
    axes = axes_of_sizes(lengths)
    found = [tuple(c.values()) for c in whole(axes, never, seed)]
    assert sorted(found) == sorted(product(*(a.values for a in axes)))


def test_the_whole_product_gives_the_reason_in_place_of_what_is_refused():
    axes = axes_of_sizes([2, 3])
    found = list(whole(axes, lambda c: "no" if c["axis1"] == 2 else None, 0))
    assert found.count("no") == 2
    assert len(found) == 6


@pytest.mark.parametrize("choose", [pairwise, lambda *a: list(whole(*a))])
def test_the_same_seed_chooses_the_same_and_another_one_otherwise(choose):
    axes = axes_of_sizes([5, 4, 3, 3])
    assert choose(axes, never, 7) == choose(axes, never, 7)
    assert choose(axes, never, 7) != choose(axes, never, 8)


def test_few_combinations_hold_all_pairs():
    axes = axes_of_sizes([5, 5, 4, 4, 3, 2, 2, 2, 2])
    assert len(pairwise(axes, never, 0).choices) < 50 < product_size(axes)
