# SPDX-License-Identifier: MIT
"""Why one pair of kernels is chosen: medians, what counts as a tie, and who wins one.

Pure: samples in, choice out. Which kernels may follow each other is `codegen.pairs`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import hypot, sqrt
from statistics import median, quantiles

from aiter_moe.codegen.pairs import pair_refusal
from aiter_moe.errors import UnsupportedProblemError
from aiter_moe.tuning.candidates import Candidate
from aiter_moe.tuning.outcomes import Ok, Outcome, describe

TIE_FLOOR = 0.01
TIE_CEILING = 0.03


@dataclass(frozen=True, slots=True)
class Trial:
    """One candidate and what became of it."""

    candidate: Candidate
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Timing:
    """Median of the samples and half the width of its 95 % interval, nanoseconds."""

    median_ns: float
    noise_ns: float


def timing(samples: Sequence[int]) -> Timing:
    """Return the median and its noise, estimated from the middle half of the samples.

    ``1.57 * IQR / sqrt(n)`` is the half-width at which two medians of the same thing seldom
    differ (McGill, Tukey and Larsen, Variations of box plots, 1978). One outlier, such as an
    interrupted run, moves neither figure much.
    """
    if len(samples) < 2:
        return Timing(float(samples[0]), 0.0)
    low, _, high = quantiles(samples, n=4, method="inclusive")
    return Timing(float(median(samples)), 1.57 * (high - low) / sqrt(len(samples)))


@dataclass(frozen=True, slots=True)
class Choice:
    """A stage-1 and a stage-2 trial whose kernels may follow each other.

    Attributes
    ----------
    stage1, stage2 : Trial
        Both `Ok` and timed.
    tied : int
        How many other pairs are as fast within the noise.
    """

    stage1: Trial
    stage2: Trial
    tied: int = 0

    @property
    def timings(self) -> tuple[Timing, Timing]:
        """Timing of stage 1 and of stage 2."""
        return _timing(self.stage1), _timing(self.stage2)

    @property
    def total(self) -> Timing:
        """Sum of both medians with the noise of both."""
        first, second = self.timings
        return Timing(first.median_ns + second.median_ns, hypot(first.noise_ns, second.noise_ns))

    @property
    def candidates(self) -> tuple[Candidate, Candidate]:
        """Both candidates."""
        return self.stage1.candidate, self.stage2.candidate


def _timing(trial: Trial) -> Timing:
    assert isinstance(trial.outcome, Ok)
    return timing(trial.outcome.samples_ns)


def is_timed(trial: Trial) -> bool:
    """Say whether a trial is right and has samples."""
    return isinstance(trial.outcome, Ok) and bool(trial.outcome.samples_ns)


def pairs(trials: Iterable[Trial]) -> list[Choice]:
    """Return every pair of timed trials whose kernels may follow each other."""
    timed = [t for t in trials if is_timed(t)]
    return [
        Choice(first, second)
        for first in timed
        for second in timed
        if pair_refusal(first.candidate.instance, second.candidate.instance) is None
    ]


def _slowest_equal_ns(best: Timing) -> float:
    """Return the median up to which a pair counts as fast as the best.

    One bound for all: a pair's own noise must not admit it where a faster one is left out.
    """
    noise = 2**0.5 * best.noise_ns / best.median_ns
    return best.median_ns * (1 + min(max(noise, TIE_FLOOR), TIE_CEILING))


def select(trials: Sequence[Trial], incumbent: tuple[Candidate, Candidate] | None = None) -> Choice:
    """Return the fastest pair; among equals the incumbent, else the simplest.

    Parameters
    ----------
    trials : sequence of Trial
        Of both stages.
    incumbent : pair of Candidate or None
        What runs without tuning, or the row of an earlier file.

    Returns
    -------
    Choice
        Of the pairs within the noise of the fastest (at least 1 %, at most 3 % of it, so that
        noise alone makes nothing slow eligible): the incumbent, else the one with the smallest
        ksplit, then block_m, then names.

    Raises
    ------
    UnsupportedProblemError
        If no pair is right in both stages; lists what became of every candidate.
    """
    found = pairs(trials)
    if not found:
        reasons = "\n".join(f"  {t.candidate}: {describe(t.outcome)}" for t in trials)
        raise UnsupportedProblemError(
            "no two kernels that may follow each other are right in both stages; candidates:\n"
            + (reasons or "  none")
        )
    best = min(found, key=lambda pair: pair.total.median_ns)
    bound = _slowest_equal_ns(best.total)
    equals = [pair for pair in found if pair.total.median_ns <= bound]

    def rank(pair: Choice) -> tuple[object, ...]:
        first, second = pair.candidates
        names = (first.instance.name, second.instance.name)
        return (pair.candidates != incumbent, first.ksplit, first.block_m, names)

    winner = min(equals, key=rank)
    return Choice(winner.stage1, winner.stage2, len(equals) - 1)


def choice_of(
    trials: Sequence[Trial], candidates: tuple[Candidate, Candidate] | None
) -> Choice | None:
    """Return the trials of one pair of candidates, or None if one is missing or wrong."""
    return next((pair for pair in pairs(trials) if pair.candidates == candidates), None)
