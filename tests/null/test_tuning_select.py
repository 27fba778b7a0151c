# SPDX-License-Identifier: MIT
"""Choosing among timed candidates: joins, noise, ties, and how samples are taken."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aiter_moe.codegen.cpu import REQUIRES
from aiter_moe.enums import ActivationType
from aiter_moe.errors import UnsupportedProblemError
from aiter_moe.problem import Problem
from aiter_moe.targets.base import DeviceFacts
from aiter_moe.tuning.candidates import candidates
from aiter_moe.tuning.outcomes import Fault, Ok, Timeout, WrongResult
from aiter_moe.tuning.protocol import Protocol, time_trials
from aiter_moe.tuning.select import Trial, choice_of, select, timing

PROBLEM = Problem(16, 2880, 2880, 32, 4, ActivationType.Silu, torch.bfloat16)
ALL = candidates(PROBLEM, DeviceFacts("cpu", 2, frozenset().union(*REQUIRES.values())))
STAGE1 = [c for c in ALL if c.stage == 1]
STAGE2 = [c for c in ALL if c.stage == 2]


def first(block_m, ksplit=1, n=0):
    return [c for c in STAGE1 if (c.block_m, c.ksplit) == (block_m, ksplit)][n]


def second(block_m, n=0):
    return [c for c in STAGE2 if c.block_m == block_m][n]


def timed(candidate, ns, spread=0):
    return Trial(candidate, Ok(1e-3, tuple(ns + d * spread for d in (-2, -1, 0, 1, 2))))


def test_the_median_ignores_one_interrupted_run():
    assert timing([100, 101, 102, 103, 90_000]).median_ns == 102
    assert timing([100, 101, 102, 103, 90_000]).noise_ns < 2


def test_a_single_sample_has_no_noise_estimate():
    assert timing([7]) == timing([7])
    assert timing([7]).noise_ns == 0


@settings(deadline=None)
@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=30))
def test_the_median_lies_within_the_samples_whatever_their_order(samples):
    found = timing(samples)
    assert min(samples) <= found.median_ns <= max(samples)
    assert found == timing(sorted(samples))


def test_the_best_total_wins_not_the_best_stage():
    trials = [
        timed(first(16), 100_000), timed(second(16), 900_000),
        timed(first(64), 300_000), timed(second(64), 200_000),
    ]  # fmt: skip
    assert select(trials).candidates == (first(64), second(64))


def test_stages_are_joined_only_at_one_block_m():
    trials = [timed(first(16), 100_000), timed(second(64), 100_000),
              timed(first(32), 900_000), timed(second(32), 900_000)]  # fmt: skip
    assert select(trials).candidates == (first(32), second(32))


def test_wrong_faulting_and_hanging_candidates_are_never_chosen():
    trials = [
        Trial(first(16), WrongResult(0.5, "off")),
        Trial(first(32), Fault("killed by SIGSEGV")),
        Trial(first(64), Timeout(1.0)),
        timed(first(128), 900_000),
        *(timed(second(m), 1_000) for m in (16, 32, 64, 128)),
    ]
    assert select(trials).candidates == (first(128), second(128))


def test_no_right_pair_lists_what_became_of_every_candidate():
    trials = [Trial(first(16), Fault("killed by SIGSEGV")), timed(second(16), 5)]
    with pytest.raises(UnsupportedProblemError, match="SIGSEGV"):
        select(trials)


def test_a_candidate_checked_but_never_timed_is_not_chosen():
    trials = [Trial(first(16), Ok(1e-3)), timed(second(16), 5)]
    with pytest.raises(UnsupportedProblemError):
        select(trials)


def test_among_equals_the_incumbent_stays():
    trials = [timed(first(16), 100_000), timed(second(16), 100_000),
              timed(first(64), 100_500), timed(second(64), 100_500)]  # fmt: skip
    assert select(trials).candidates == (first(16), second(16))
    kept = select(trials, incumbent=(first(64), second(64)))
    assert kept.candidates == (first(64), second(64))
    assert kept.tied == 1


def test_an_incumbent_that_is_clearly_slower_goes():
    trials = [timed(first(16), 100_000), timed(second(16), 100_000),
              timed(first(64), 140_000), timed(second(64), 100_500)]  # fmt: skip
    assert select(trials, incumbent=(first(64), second(64))).candidates[0] == first(16)


def test_among_equals_the_simplest_wins_smaller_split_first():
    trials = [
        timed(first(16, 4), 100_000), timed(first(16, 1), 100_400),
        timed(first(32, 1), 100_000), timed(second(16), 50_000), timed(second(32), 50_000),
    ]  # fmt: skip
    assert select(trials).candidates == (first(16, 1), second(16))


def test_noise_widens_what_counts_as_equal():
    def winner(spread):
        trials = [timed(first(16, 4), 100_000, spread), timed(first(16, 1), 104_000, spread),
                  timed(second(16), 50_000, spread)]  # fmt: skip
        return select(trials).candidates[0].ksplit

    assert winner(spread=0) == 4
    assert winner(spread=5_000) == 1


def test_noise_alone_makes_nothing_slow_eligible():
    trials = [timed(first(16, 4), 100_000), timed(first(16, 1), 120_000, 50_000),
              timed(second(16), 50_000)]  # fmt: skip
    assert select(trials).candidates[0].ksplit == 4
    assert select(trials, (first(16, 1), second(16))).candidates[0].ksplit == 4


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(10**4, 10**5), st.integers(0, 9999)), min_size=8, max_size=8))
def test_the_winner_is_never_slower_than_the_incumbent(timings):
    chosen = [first(16), second(16), first(32), second(32), first(64), second(64),
              first(128), second(128)]  # fmt: skip
    trials = [timed(c, ns, spread // 2) for c, (ns, spread) in zip(chosen, timings, strict=True)]
    incumbent = (first(64), second(64))
    before = choice_of(trials, incumbent)
    assert select(trials, incumbent).total.median_ns <= before.total.median_ns


@settings(deadline=None)
@given(st.permutations(range(8)))
def test_the_choice_does_not_depend_on_the_order_of_trials(order):
    trials = [
        timed(first(16, k), 100_000 + 300 * k) for k in (1, 2, 4)
    ] + [timed(first(64), 99_900), timed(first(32), 99_800)] + [
        timed(second(m), 10_000) for m in (16, 32, 64)
    ]  # fmt: skip
    assert select([trials[i] for i in order]) == select(trials)


def test_a_pair_is_found_by_its_candidates_only_if_both_were_timed():
    trials = [timed(first(16), 10), timed(second(16), 20), Trial(second(32), Fault("x"))]
    found = choice_of(trials, (first(16), second(16)))
    assert found is not None
    assert found.total.median_ns == 30
    assert choice_of(trials, (first(32), second(32))) is None


class FakeDevice:
    """Times by a table, and remembers the order of questions."""

    def __init__(self, cost):
        self.cost, self.asked, self.now = cost, [], 0.0

    def __call__(self, trial, calls):
        self.asked.append((trial.candidate, calls))
        cost = self.cost[trial.candidate]
        if not isinstance(cost, int):
            return cost
        self.now += calls * cost / 1e9
        return [cost] * calls


def run(costs, **plan):
    device = FakeDevice(costs)
    trials = [Trial(c, Ok(1e-3)) for c in costs]
    return device, time_trials(trials, device, Protocol(**plan), lambda: device.now)


def test_candidates_take_turns_and_the_turn_reverses_every_round():
    a, b, c = STAGE1[:3]
    device, _ = run({a: 10**7, b: 10**7, c: 10**7}, rounds=3)
    asked = [candidate for candidate, _ in device.asked]
    assert asked == [a, b, c, a, b, c, c, b, a, a, b, c]


def test_the_warm_up_round_is_not_a_sample():
    _, (trial,) = run({STAGE1[0]: 10**7}, rounds=5)
    assert len(trial.outcome.samples_ns) == 5


def test_short_candidates_are_called_several_times_per_sample():
    device, _ = run({STAGE1[0]: 2 * 10**6, STAGE1[1]: 10**3, STAGE1[2]: 10**9}, calls=8)
    assert [calls for _, calls in device.asked[3:6]] == [5, 8, 1]


def test_the_slower_a_candidate_the_fewer_samples_it_gets():
    fast, slow, slowest = STAGE1[:3]
    other_stage = STAGE2[0]
    costs = {fast: 10**7, slow: 2 * 10**7, slowest: 3 * 10**7, other_stage: 10**9}
    _, trials = run(costs, rounds=9, first_rounds=3, budget_s=1e9)
    assert [len(t.outcome.samples_ns) for t in trials] == [9, 3, 1, 9]


def test_what_the_winner_is_compared_with_gets_every_sample_however_slow():
    fast, slow = STAGE1[:2]
    device = FakeDevice({fast: 10**7, slow: 10**8})
    trials = [Trial(c, Ok(1e-3)) for c in (fast, slow)]
    found = time_trials(trials, device, Protocol(rounds=7), lambda: 0.0, frozenset([slow]))
    assert [len(t.outcome.samples_ns) for t in found] == [7, 7]


def test_the_budget_ends_the_rounds_but_never_the_first_ones():
    _, trials = run({STAGE1[0]: 10**9, STAGE1[1]: 10**9}, rounds=50, first_rounds=3, budget_s=0.5)
    assert [len(t.outcome.samples_ns) for t in trials] == [3, 3]


def test_a_spent_budget_leaves_further_samples_to_the_closest_alone():
    costs = {STAGE1[0]: 10**9, STAGE1[1]: 105 * 10**7, STAGE1[2]: 13 * 10**8}
    _, trials = run(costs, rounds=50, first_rounds=3, budget_s=0.5)
    assert [len(t.outcome.samples_ns) for t in trials] == [3, 3, 1]


def test_a_candidate_lost_while_timed_keeps_that_outcome_and_the_others_go_on():
    lost = Fault("killed by SIGSEGV")
    device, trials = run({STAGE1[0]: 10**7, STAGE1[1]: lost, STAGE1[2]: 10**7}, rounds=4)
    assert trials[1].outcome == lost
    assert [len(trials[i].outcome.samples_ns) for i in (0, 2)] == [4, 4]
    assert sum(c == STAGE1[1] for c, _ in device.asked) == 1


def test_candidates_that_were_not_right_are_never_timed():
    wrong = Trial(STAGE1[0], WrongResult(math.nan, "holes"))
    device = FakeDevice({})
    assert time_trials([wrong], device, Protocol(), lambda: 0.0) == [wrong]
    assert device.asked == []
