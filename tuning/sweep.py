# SPDX-License-Identifier: MIT
"""Which candidates of a problem are tried, in which order: what is compiled first, then numbers.

All combinations would take minutes a problem. So the first pass tries every compiled kernel with
every block_m and the untuned columns and prefetch distance, the second all columns and distances
of the fastest kernel of each block_m that is in reach, the third splits the reduction of the
fastest. Those near the best are then timed against each other, by samples of one last pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from aiter_moe.codegen.cpu import CpuTile
from aiter_moe.codegen.render import unit_name
from aiter_moe.tuning.candidates import Candidate
from aiter_moe.tuning.outcomes import Ok
from aiter_moe.tuning.protocol import Clock, Protocol, TimeCandidate, time_trials
from aiter_moe.tuning.select import Trial, is_timed

BLOCKS = 2
"""Sort blocks whose numbers are varied: both stages share a block, so each is tried for both."""
FINALISTS = 4
"""Candidates of a stage and sort block in the last pass."""

Check = Callable[[Candidate], Trial]
Progress = Callable[[str, int, int], None]


def numbers(candidate: Candidate) -> tuple[int, ...]:
    """Return what a compiled kernel reads at run time, beside block_m and split."""
    tile = candidate.instance.tile
    return (tile.columns, tile.ahead) if isinstance(tile, CpuTile) else ()


def _shape(candidate: Candidate) -> tuple[int, str, int]:
    return candidate.stage, unit_name(candidate.instance), candidate.block_m


@dataclass(slots=True)
class Sweep:
    """One problem's candidates and what is known of them.

    Attributes
    ----------
    listed : sequence of Candidate
        All legal ones.
    always : frozenset of Candidate
        What the winner is compared with: gets every sample.
    check : Callable
        Runs a candidate once and compares.
    time_one : Callable
        ``(trial, calls) -> nanoseconds per call``, or what became of the candidate.
    protocol : Protocol
        Numbers of the timing; its budget holds for all passes together.
    clock : Callable
        Seconds, monotonic.
    progress : Callable
        Told what is being done, how much of it is done, and of how much.
    """

    listed: Sequence[Candidate]
    always: frozenset[Candidate]
    check: Check
    time_one: TimeCandidate
    protocol: Protocol
    clock: Clock
    progress: Progress = lambda what, done, total: None
    _trials: dict[Candidate, Trial] = field(default_factory=dict)
    _begin: float = 0.0

    def run(self) -> list[Trial]:
        """Return the trials of all candidates that were tried, in the order of `listed`.

        Those that were right and in reach of the best to the end have samples.
        """
        self._begin = self.clock()
        self._scout(self._first_pass())
        for following in (self._number_pass, self._split_pass):
            self._scout(following())
        self._last_pass()
        return [self._trials[c] for c in self.listed if c in self._trials]

    def _first_pass(self) -> list[Candidate]:
        """Return the untuned pair, and of every kernel and block_m one with its numbers."""
        untuned = {c.stage: numbers(c) for c in self.always}
        groups: dict[tuple[int, str, int], list[Candidate]] = {}
        for candidate in self.listed:
            if candidate.ksplit <= 1:
                groups.setdefault(_shape(candidate), []).append(candidate)
        first = [
            next((c for c in group if numbers(c) == untuned.get(c.stage)), group[0])
            for group in groups.values()
        ]
        return list(dict.fromkeys([*self.always, *first]))

    def _number_pass(self) -> list[Candidate]:
        shapes = {_shape(t.candidate) for block in self._blocks() for t in self._best(block)}
        return [c for c in self.listed if c.ksplit <= 1 and _shape(c) in shapes]

    def _split_pass(self) -> list[Candidate]:
        best = [t.candidate for block in self._blocks() for t in self._best(block)]
        tiles = {(*_shape(c), numbers(c)) for c in best}
        return [c for c in self.listed if (*_shape(c), numbers(c)) in tiles]

    def _last_pass(self) -> None:
        near = set(self.always)
        for block in self._blocks():
            for stage in (1, 2):
                near.update(t.candidate for t in self._fastest(stage, block)[:FINALISTS])
        fresh = {c: _without_samples(trial) for c, trial in self._trials.items()}
        self._trials = fresh
        self._time([c for c in self.listed if c in near and c in fresh], self.protocol)

    def _scout(self, wanted: Iterable[Candidate]) -> None:
        """Check candidates that were not tried yet, and time them a few times."""
        new = [c for c in wanted if c not in self._trials]
        for done, candidate in enumerate(new, start=1):
            self._trials[candidate] = self.check(candidate)
            self.progress("checking", done, len(new))
        self._time(new, replace(self.protocol, rounds=self.protocol.first_rounds))

    def _time(self, wanted: Sequence[Candidate], protocol: Protocol) -> None:
        left = protocol.budget_s - (self.clock() - self._begin)
        self.progress("timing", 0, len(wanted))
        trials = time_trials(
            [self._trials[c] for c in wanted], self.time_one,
            replace(protocol, budget_s=max(left, 0.0)), self.clock, self.always,
        )  # fmt: skip
        self._trials |= {trial.candidate: trial for trial in trials}

    def _fastest(self, stage: int, block_m: int) -> list[Trial]:
        """Return the timed trials of a stage and block, the fastest first."""
        found = [
            t
            for t in self._trials.values()
            if is_timed(t) and (t.candidate.stage, t.candidate.block_m) == (stage, block_m)
        ]
        return sorted(found, key=_best_ns)

    def _best(self, block_m: int) -> list[Trial]:
        return [found[0] for stage in (1, 2) if (found := self._fastest(stage, block_m))]

    def _blocks(self) -> list[int]:
        """Return the sort blocks with the fastest pairs of stages."""
        pairs = {c.block_m: self._best(c.block_m) for c in self._trials}
        times = {block: sum(map(_best_ns, best)) for block, best in pairs.items() if len(best) == 2}
        return sorted(times, key=times.__getitem__)[:BLOCKS]


def _best_ns(trial: Trial) -> int:
    assert isinstance(trial.outcome, Ok)
    return min(trial.outcome.samples_ns)


def _without_samples(trial: Trial) -> Trial:
    """Drop samples of an earlier pass: the machine may have been faster then."""
    if not isinstance(trial.outcome, Ok):
        return trial
    return replace(trial, outcome=replace(trial.outcome, samples_ns=()))
