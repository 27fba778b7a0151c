# SPDX-License-Identifier: MIT
"""How candidates of one problem are timed: interleaved rounds, so that drift hits all alike.

One command times one candidate. Candidates far behind after a few rounds get no further ones,
but keep the samples they have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from statistics import median

from aiter_moe.tuning.candidates import Candidate
from aiter_moe.tuning.outcomes import Ok, Outcome
from aiter_moe.tuning.select import Trial

TimeCandidate = Callable[[Trial, int], "list[int] | Outcome"]
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Protocol:
    """Numbers of the timing.

    Attributes
    ----------
    rounds : int
        Samples per surviving candidate, after one round of warm-up.
    first_rounds : int
        Samples of every candidate in reach of the best.
    budget_s : float
        Seconds per problem after which no further round begins beyond `first_rounds`, and those
        are only for candidates within `close` of the best.
    sample_ns : float
        A sample is the median of as many calls as fit into this time, at most `calls`.
    calls : int
        Upper limit of calls per sample.
    hopeless : float
        Candidates slower than this times the best of their stage get no more than
        `first_rounds` samples; those slower than its square get one.
    close : float
        What `hopeless` becomes when the budget is spent.
    """

    rounds: int = 9
    first_rounds: int = 3
    budget_s: float = 20.0
    sample_ns: float = 1e7
    calls: int = 8
    hopeless: float = 1.5
    close: float = 1.1

    def calls_for(self, estimate_ns: float) -> int:
        """Return how many calls make a sample of a candidate that takes `estimate_ns`."""
        return max(1, min(self.calls, ceil(self.sample_ns / max(estimate_ns, 1.0))))


@dataclass(slots=True)
class _Runner:
    trial: Trial
    calls: int = 1
    estimate_ns: float = 0.0

    def sample(self, time_candidate: TimeCandidate, keep: bool) -> None:
        """Take one sample; a lost candidate's outcome replaces what it had."""
        measured = time_candidate(self.trial, self.calls)
        if not isinstance(measured, list):
            self.trial = replace(self.trial, outcome=measured)
        elif keep:
            outcome = self.trial.outcome
            assert isinstance(outcome, Ok)
            samples = (*outcome.samples_ns, round(median(measured)))
            self.trial = replace(self.trial, outcome=replace(outcome, samples_ns=samples))
        else:
            self.estimate_ns = measured[0]

    @property
    def alive(self) -> bool:
        return isinstance(self.trial.outcome, Ok)

    @property
    def best_ns(self) -> float:
        assert isinstance(self.trial.outcome, Ok)
        return min(self.trial.outcome.samples_ns, default=0.0)


def time_trials(
    trials: Sequence[Trial],
    time_candidate: TimeCandidate,
    plan: Protocol,
    clock: Clock,
    always: frozenset[Candidate] = frozenset(),
) -> list[Trial]:
    """Time the trials that are `Ok` and return all of them, in the given order.

    Parameters
    ----------
    trials : sequence of Trial
        Checked candidates of one problem, both stages.
    time_candidate : Callable
        ``(trial, calls) -> nanoseconds per call``, or the outcome of a candidate that was lost.
    plan : Protocol
        Rounds and limits.
    clock : Callable
        Seconds, monotonic.
    always : frozenset of Candidate
        Those that get every sample however slow: what the winner is compared with.
    """
    runners = [_Runner(t) for t in trials]
    begin = clock()
    for runner in runners:
        if runner.alive:
            runner.sample(time_candidate, keep=False)
            runner.calls = plan.calls_for(runner.estimate_ns)
    for number in range(max(plan.rounds, plan.first_rounds)):
        spent = clock() - begin > plan.budget_s
        if number >= plan.first_rounds and spent:
            break
        reach = plan.hopeless if number >= plan.first_rounds else plan.hopeless**2
        reach = plan.close if spent else reach
        running = [r for r in runners if r.alive]
        if number > 0:
            running = _within(reach, running, always)
        for runner in running if number % 2 == 0 else reversed(running):
            runner.sample(time_candidate, keep=True)
    return [r.trial for r in runners]


def _within(
    reach: float, runners: Sequence[_Runner], always: frozenset[Candidate]
) -> list[_Runner]:
    best: dict[int, float] = {}
    for r in runners:
        stage = r.trial.candidate.stage
        best[stage] = min(best.get(stage, r.best_ns), r.best_ns)
    return [
        r
        for r in runners
        if r.trial.candidate in always or r.best_ns <= reach * best[r.trial.candidate.stage]
    ]
