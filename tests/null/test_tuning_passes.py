# SPDX-License-Identifier: MIT
"""The passes of a sweep, with costs that are known: what is tried, what is left out, what wins."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch

from aiter_moe import dtypes
from aiter_moe.codegen.cpu import AHEAD, COLUMNS, REQUIRES
from aiter_moe.codegen.render import unit_name
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.problem import Problem
from aiter_moe.targets.base import DeviceFacts
from aiter_moe.tuning.candidates import Candidate, candidates
from aiter_moe.tuning.outcomes import Fault, Ok
from aiter_moe.tuning.protocol import Protocol
from aiter_moe.tuning.select import Trial, is_timed, select
from aiter_moe.tuning.sweep import BLOCKS, FINALISTS, Sweep, numbers
from aiter_moe.tuning.tune import untuned_pair

FACTS = DeviceFacts("cpu", 2, frozenset().union(*REQUIRES.values()))


def problem(kind: Kind) -> Problem:
    q_dtype = dtypes.fp4x2 if kind is Kind.A4W4 else torch.bfloat16
    return Problem(16, 2880, 2880, 32, 4, ActivationType.Swiglu, q_dtype, has_bias=True)


@dataclass
class Machine:
    """Costs that add up: the wished numbers of each axis are the cheapest."""

    block_m: int = 32
    columns: int = 256
    ahead: int = 2
    ksplit: int = 0
    lost: frozenset[Candidate] = frozenset()
    checked: list[Candidate] = field(default_factory=list)
    seconds: float = 0.0

    def check(self, candidate: Candidate) -> Trial:
        self.checked.append(candidate)
        return Trial(candidate, Fault("gone") if candidate in self.lost else Ok(1e-3))

    def time(self, trial: Trial, calls: int) -> list[int]:
        assert trial.candidate in self.checked
        candidate, tile = trial.candidate, trial.candidate.instance.tile
        misses = (
            8 * (candidate.block_m != self.block_m)
            + 4 * (tile.columns != self.columns)
            + 2 * (tile.ahead != self.ahead)
            + (candidate.stage == 1 and max(candidate.ksplit, 1) != max(self.ksplit, 1))
        )
        cost = 1_000_000 + 100_000 * misses
        self.seconds += cost * calls / 1e9
        return [cost] * calls


def run(kind: Kind, machine: Machine, budget_s: float = 20.0):
    of = problem(kind)
    listed, default = candidates(of, FACTS), untuned_pair(of, FACTS)
    sweep = Sweep(
        listed, frozenset(default), machine.check, machine.time, Protocol(budget_s=budget_s),
        lambda: machine.seconds,
    )  # fmt: skip
    return listed, default, sweep.run()


@pytest.mark.parametrize("ahead", AHEAD)
@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("kind", Kind, ids=str)
def test_the_best_numbers_are_found_whatever_they_are(kind, columns, ahead):
    ksplit = 4 if kind is Kind.A16W4 else 0
    machine = Machine(block_m=64, columns=columns, ahead=ahead, ksplit=ksplit)
    _, _, trials = run(kind, machine)
    found = select(trials)
    assert found.candidates[0].ksplit == ksplit
    assert [numbers(c) for c in found.candidates] == [(columns, ahead)] * 2
    assert found.candidates[0].block_m == 64


@pytest.mark.parametrize("kind", Kind, ids=str)
def test_only_a_part_of_the_product_is_tried_and_nothing_twice(kind):
    machine = Machine()
    listed, _, trials = run(kind, machine)
    assert len(set(machine.checked)) == len(machine.checked) == len(trials) < len(listed) / 2
    assert {(unit_name(t.candidate.instance), t.candidate.block_m) for t in trials} == {
        (unit_name(c.instance), c.block_m) for c in listed
    }


@pytest.mark.parametrize("kind", Kind, ids=str)
def test_the_last_pass_times_the_fastest_and_the_untuned_pair(kind):
    _, default, trials = run(kind, Machine())
    timed = [t for t in trials if is_timed(t)]
    assert set(default) <= {t.candidate for t in timed}
    assert len(timed) <= 2 * BLOCKS * FINALISTS + len(default)
    assert all(len(t.outcome.samples_ns) >= Protocol().first_rounds for t in timed)


def test_a_spent_budget_still_leaves_a_choice():
    machine = Machine()
    _, _, trials = run(Kind.A16W4, machine, budget_s=0.0)
    assert select(trials).candidates[0].block_m == machine.block_m


def test_a_candidate_that_is_lost_leaves_the_others():
    of = problem(Kind.A16W4)
    wished = [c for c in candidates(of, FACTS) if numbers(c) == (256, 2) and c.block_m == 32]
    machine = Machine(lost=frozenset(wished))
    _, _, trials = run(Kind.A16W4, machine)
    assert all(isinstance(t.outcome, Fault) for t in trials if t.candidate in wished)
    assert not set(select(trials).candidates) & set(wished)
