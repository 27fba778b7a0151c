# SPDX-License-Identifier: MIT
"""Which kernels of a GPU should be the fastest for a problem, by predicted time.

Kernels of other families, and those that add by atomics, are used where a measured row names them:
a guess shall make no output depend on what is installed, or on the order of workgroups.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from aiter_moe.codegen.gfx9.steps import PREFIX, REDUCE
from aiter_moe.codegen.instance import Output
from aiter_moe.codegen.pairs import pair_refusal
from aiter_moe.configs.table import ConfigTable
from aiter_moe.enums import Kind
from aiter_moe.errors import UnsupportedProblemError
from aiter_moe.pipeline import chain
from aiter_moe.plan import Plan, make_plan
from aiter_moe.problem import Problem
from aiter_moe.targets.base import DeviceFacts
from aiter_moe.tuning.candidates import Candidate, candidates
from aiter_moe.tuning.cost_model.constants import Constants
from aiter_moe.tuning.cost_model.device import GPUS, Gpu
from aiter_moe.tuning.cost_model.fitted import FITTED
from aiter_moe.tuning.cost_model.stage_time import StageTime, stage_time
from aiter_moe.tuning.cost_model.tiles import workgroup_of
from aiter_moe.tuning.cost_model.work import stage_work

TIE = 0.03
"""Times of pairs that differ by less are equal: the model tells them apart no better."""


@dataclass(frozen=True, slots=True)
class Timed:
    """A candidate and its predicted time."""

    candidate: Candidate
    time: StageTime


@dataclass(frozen=True, slots=True)
class Predicted:
    """Two kernels that may follow each other, and their predicted times.

    Attributes
    ----------
    stage1, stage2 : Timed
        The kernels.
    steps_us : float
        Starts of the kernels before and between them: sort, quantisation. No table says how long
        they take, so a start is all that counts.
    """

    stage1: Timed
    stage2: Timed
    steps_us: float

    @property
    def candidates(self) -> tuple[Candidate, Candidate]:
        """Both kernels."""
        return self.stage1.candidate, self.stage2.candidate

    @property
    def us(self) -> float:
        """Microseconds of all."""
        return self.stage1.time.us + self.stage2.time.us + self.steps_us


def model_of(facts: DeviceFacts) -> tuple[Gpu, Constants]:
    """Return the figures and constants of a device, or of the part of it that `facts` have.

    Raises
    ------
    UnsupportedProblemError
        If nothing was fitted for its architecture.
    """
    if facts.gfx not in FITTED:
        raise UnsupportedProblemError(
            f"there is no cost model of {facts.gfx}: public measurements are of "
            f"{', '.join(FITTED)}; give --target {next(iter(FITTED))}"
        )
    whole, constants = GPUS[facts.gfx], FITTED[facts.gfx].constants
    share = min(1.0, facts.cu_num / whole.compute_units)
    return replace(whole, compute_units=facts.cu_num), constants.of_share(share)


def predict(problem: Problem, candidate: Candidate, facts: DeviceFacts) -> StageTime | None:
    """Return the predicted time of one stage; None for a kernel that the model does not know.

    Raises
    ------
    UnsupportedProblemError
        If nothing was fitted for the device.
    """
    gpu, constants = model_of(facts)
    group = workgroup_of(candidate.instance, candidate.ksplit)
    if group is None:
        return None
    return stage_time(stage_work(problem, group), group, gpu, constants)


def choose(problem: Problem, facts: DeviceFacts) -> Predicted:
    """Return the pair with the least predicted time.

    Of equals the one that runs without a table, else the smallest ksplit, then block_m, then names,
    as among measured ones.

    Raises
    ------
    UnsupportedProblemError
        If nothing was fitted for the device, or no kernels run the problem.
    """
    found = pairs(problem, facts)
    if not found:
        make_plan(problem, facts, ConfigTable())  # raises with the reason per kernel
        raise UnsupportedProblemError(f"the cost model of {facts.gfx} knows no kernels for it")
    most = min(pair.us for pair in found) * (1 + TIE)
    plan = make_plan(problem, facts, ConfigTable())
    untuned = Candidate(plan.stage1, plan.ksplit), Candidate(plan.stage2)

    def rank(pair: Predicted) -> tuple[object, ...]:
        first, second = pair.candidates
        names = (first.instance.name, second.instance.name)
        return (pair.candidates != untuned, first.ksplit, first.block_m, names)

    return min((pair for pair in found if pair.us <= most), key=rank)


def pairs(problem: Problem, facts: DeviceFacts) -> list[Predicted]:
    """Return every pair that may be chosen for a problem.

    Raises
    ------
    UnsupportedProblemError
        If nothing was fitted for the device.
    """
    _, constants = model_of(facts)
    timed = [
        Timed(candidate, time)
        for candidate in candidates(problem, facts)
        if _is_own(candidate) and (time := predict(problem, candidate, facts)) is not None
    ]
    return [
        Predicted(first, second, constants.launch1_us * _steps(problem, first, second))
        for first in timed
        for second in timed
        if pair_refusal(first.candidate.instance, second.candidate.instance) is None
    ]


def _is_own(candidate: Candidate) -> bool:
    instance = candidate.instance
    return not instance.family and instance.tile.output is not Output.ATOMIC


def _steps(problem: Problem, first: Timed, second: Timed) -> int:
    """Return how many kernels run beside those of the stages and the sum of stage 2."""
    one, two = first.candidate.instance, second.candidate.instance
    skips = problem.kind is Kind.A4W4 and two.kind is Kind.A16W4
    plan = Plan(problem, one, two, one.block_m, first.candidate.ksplit, skips, "cost model")
    symbols = chain(plan)
    return sum(name.startswith(PREFIX) and not name.startswith(REDUCE) for name in symbols)
