# SPDX-License-Identifier: MIT
"""The sweep: problems times candidates, built, checked, timed, chosen, and written at once.

Each finished problem is in the CSV before the next one begins, so an interrupt loses at most
one. Kernels run in the measuring child only (`tuning.measurer`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol as Interface

from aiter_moe.codegen.build import build_many
from aiter_moe.codegen.instance import Instance
from aiter_moe.codegen.render import runtime_unit, unit_name, units_of
from aiter_moe.configs.provenance import template_hash
from aiter_moe.configs.reader import read_tuned, read_untuned
from aiter_moe.configs.table import ConfigTable, Key, Row
from aiter_moe.configs.writer import write_rows
from aiter_moe.enums import ActivationType
from aiter_moe.errors import UnsupportedProblemError
from aiter_moe.plan import make_plan
from aiter_moe.problem import Problem
from aiter_moe.targets.base import DeviceFacts
from aiter_moe.tuning import operands
from aiter_moe.tuning.candidates import Candidate, candidates
from aiter_moe.tuning.figures import Provenance, Result, row_of, with_rates
from aiter_moe.tuning.measurer import Confirmed, Measurer
from aiter_moe.tuning.operands import Layer
from aiter_moe.tuning.outcomes import CompileError, Fault, Ok, Outcome, Timeout, describe
from aiter_moe.tuning.peaks import Peaks
from aiter_moe.tuning.protocol import Protocol
from aiter_moe.tuning.select import Choice, Trial, choice_of, select
from aiter_moe.tuning.sweep import Sweep

Pair = tuple[Candidate, Candidate]


class Watcher(Interface):
    """Whoever shows the user how far the sweep is."""

    def say(self, text: str) -> None:
        """Show one line that stays."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Show how far one step is; the next call may overwrite it."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to tune, and how.

    Attributes
    ----------
    problems : tuple of Problem
        In the order of the untuned file.
    output : Path
        Tuned CSV; rows of other problems in it stay.
    facts : DeviceFacts
        The device, as the rows will be keyed.
    again : bool
        Tune problems anew that the output already has.
    all_isa : bool
        Time portable kernels even where AVX-512 ones run.
    seed : int
        Of the operands.
    protocol : Protocol
        Numbers of the timing.
    """

    problems: tuple[Problem, ...]
    output: Path
    facts: DeviceFacts
    again: bool = False
    all_isa: bool = False
    seed: int = 0
    protocol: Protocol = field(default_factory=Protocol)


@dataclass(slots=True)
class Summary:
    """What a sweep did so far; complete after any interrupt.

    Attributes
    ----------
    written : list of Row
        New rows, already in the file.
    failed : dict
        Problem -> why there is no row for it.
    rejected : list of (Problem, Trial)
        Candidates that were not `Ok`.
    confirmed : list
        ``fused_moe`` runs with the tuned file, and what became of those that were lost.
    compiled, cached : int
        Kernels built now, and found in the cache.
    peaks : Peaks
        Best rates of the device seen so far.
    """

    written: list[Row] = field(default_factory=list)
    failed: dict[Problem, str] = field(default_factory=dict)
    rejected: list[tuple[Problem, Trial]] = field(default_factory=list)
    confirmed: list[Confirmed] = field(default_factory=list)
    lost: list[tuple[Problem, Fault | Timeout]] = field(default_factory=list)
    compiled: int = 0
    cached: int = 0
    peaks: Peaks = field(default_factory=Peaks)


def problems_of(path: Path) -> tuple[Problem, ...]:
    """Return the problems of an untuned file; Swiglu, gpt-oss's activation, comes with biases.

    aiter's schema has no bias column. A further column ``has_bias`` gives biases to others.
    """
    return tuple(
        replace(p, has_bias=p.has_bias or p.activation is ActivationType.Swiglu)
        for p in read_untuned(path)
    )


def known_rows(output: Path, target: str) -> dict[Key, Row]:
    """Return the measured rows of an output file that were made from the present templates."""
    if not output.exists():
        return {}
    current = template_hash(target)
    rows = (row for row in read_tuned(output) if not row.predicted)
    return {row.key: row for row in rows if row.template_hash == current}


def stale_count(job: Job, todo: Sequence[Problem]) -> int:
    """Return how many problems have a row in the output that was made from other templates."""
    if job.again or not job.output.exists():
        return 0
    rows = {row.key for row in read_tuned(job.output) if not row.predicted}
    return sum(Key.of(problem, job.facts) in rows for problem in todo)


def pending(job: Job, known: dict[Key, Row]) -> tuple[Problem, ...]:
    """Return the problems that still want a row, in order."""
    return tuple(p for p in job.problems if job.again or Key.of(p, job.facts) not in known)


def untuned_pair(problem: Problem, facts: DeviceFacts) -> Pair:
    """Return what runs without a table."""
    plan = make_plan(problem, facts, ConfigTable())
    return Candidate(plan.stage1, plan.ksplit), Candidate(plan.stage2)


def pair_of(row: Row | None, listed: Iterable[Candidate]) -> Pair | None:
    """Return the candidates a row names, or None if they are not listed."""
    if row is None:
        return None
    listed = list(listed)
    first = [c for c in listed if (c.instance.name, c.ksplit) == (row.kernel1, row.ksplit)]
    second = [c for c in listed if c.stage == 2 and c.instance.name == row.kernel2]
    return (first[0], second[0]) if first and second else None


def by_layer(problems: Iterable[Problem]) -> dict[Layer, list[Problem]]:
    """Group problems by the layer whose operands they share, in order of appearance."""
    layers: dict[Layer, list[Problem]] = {}
    for problem in problems:
        layers.setdefault(Layer.of(problem), []).append(problem)
    return layers


@dataclass(slots=True)
class Tuner:
    """One sweep: its job, where it measures, whom it tells, and what it did so far."""

    job: Job
    measurer: Measurer
    watcher: Watcher
    summary: Summary = field(default_factory=Summary)
    _broken: dict[str, str] = field(default_factory=dict)
    _compiler: str = ""

    def run(self) -> Summary:
        """Tune what is pending, then run ``fused_moe`` with the file for every problem."""
        known = known_rows(self.job.output, self.job.facts.gfx)
        todo = pending(self.job, known)
        skipped = len(self.job.problems) - len(todo)
        if skipped:
            self.watcher.say(
                f"{skipped} of {len(self.job.problems)} problems are already in "
                f"{self.job.output} (--all tunes them again)"
            )
        stale = stale_count(self.job, todo)
        if stale:
            self.watcher.say(
                f"{stale} rows of {self.job.output} are stale, the kernels have changed since; "
                "tuning them again"
            )
        listed = self._candidates(todo)
        self.build(c.instance for found in listed.values() for c in found)
        for layer, problems in by_layer(self.job.problems).items():
            self._prepare(layer, problems)
            for problem in problems:
                if problem in listed:
                    self._tune(problem, listed[problem], known.get(Key.of(problem, self.job.facts)))
            self._confirm(problems)
        self.measurer.close()
        return self.summary

    def _candidates(self, problems: Sequence[Problem]) -> dict[Problem, list[Candidate]]:
        listed = {}
        for problem in problems:
            try:
                default = untuned_pair(problem, self.job.facts)
            except UnsupportedProblemError as error:
                self.summary.failed[problem] = str(error)
                continue
            found = candidates(problem, self.job.facts, self.job.all_isa)
            listed[problem] = found + [c for c in default if c not in found]
        return listed

    def build(self, instances: Iterable[Instance]) -> None:
        """Compile all kernels of the sweep in parallel; the cached ones are only counted."""
        units = units_of(instances)
        if not units:
            self.watcher.say("nothing to compile")
            return
        units.append(runtime_unit(self.job.facts.features))
        begin = time.monotonic()
        for done, report in enumerate(build_many(units), start=1):
            if report.error is not None:
                self._broken[report.unit.name] = str(report.error)
                self.watcher.say(str(report.error))
            elif report.artifact is not None:
                self._compiler = str(report.artifact.manifest["compiler"])
                self.summary.cached += report.cached
                self.summary.compiled += not report.cached
            self.watcher.progress("compiling kernels", done, len(units))
        what = f"compiled {self.summary.compiled} kernels in {time.monotonic() - begin:.0f} s"
        if not self.summary.compiled:
            what = "compiled nothing"
        self.watcher.say(f"{what}; {self.summary.cached} were in the cache")

    def _prepare(self, layer: Layer, problems: Sequence[Problem]) -> None:
        tokens = max(p.token for p in problems)
        begin = time.monotonic()
        computed = self.measurer.prepare(
            layer,
            tokens,
            lambda news: self.watcher.progress(
                "float64 reference, experts", news["experts"], layer.experts
            ),
        )
        self._probe()
        how = "computed" if computed else "read"
        self.watcher.say(
            f"layer E{layer.experts} top{layer.topk} {layer.model_dim}x{layer.inter_dim} "
            f"{layer.activation.name}: reference {how} in {time.monotonic() - begin:.0f} s"
        )

    def _probe(self) -> None:
        """Probe the device again: on a shared machine its best moment comes and goes."""
        self.summary.peaks = self.summary.peaks.best(self.measurer.peaks())

    def _tune(self, problem: Problem, listed: list[Candidate], before: Row | None) -> None:
        begin = time.monotonic()
        default = untuned_pair(problem, self.job.facts)
        incumbent = pair_of(before, listed) or default
        trials = self.measure(problem, listed, frozenset(default + incumbent))
        name = f"{problem.kind} tokens {problem.token}"
        for trial in trials:
            if not isinstance(trial.outcome, Ok):
                self.summary.rejected.append((problem, trial))
                if unit_name(trial.candidate.instance) not in self._broken:  # told when built
                    self.watcher.say(f"{name}: {trial.candidate}: {describe(trial.outcome)}")
        try:
            choice = select(trials, incumbent)
        except UnsupportedProblemError as error:
            self.summary.failed[problem] = str(error)
            self.watcher.say(f"{name}: no right kernel")
            return
        self._probe()
        self._write(problem, choice, choice_of(trials, default))
        self.watcher.say(
            f"{name}: {choice.total.median_ns / 1e3:.0f} us, "
            f"block_m {choice.stage1.candidate.block_m}, ksplit {choice.stage1.candidate.ksplit} "
            f"({len(trials)} candidates in {time.monotonic() - begin:.0f} s)"
        )

    def measure(
        self, problem: Problem, listed: Sequence[Candidate], always: frozenset[Candidate]
    ) -> list[Trial]:
        """Try candidates of a problem (`tuning.sweep`): none is timed before it was right."""
        name = f"{problem.kind} tokens {problem.token}"

        def time_one(trial: Trial, calls: int) -> list[int] | Outcome:
            return self.measurer.time(problem, trial.candidate, calls)

        return Sweep(
            listed, always, lambda candidate: self._check(problem, candidate), time_one,
            self.job.protocol, time.monotonic,
            lambda what, done, total: self.watcher.progress(f"{name}, {what}", done, total),
        ).run()  # fmt: skip

    def _check(self, problem: Problem, candidate: Candidate) -> Trial:
        broken = self._broken.get(unit_name(candidate.instance))
        if broken is not None:
            return Trial(candidate, CompileError(broken))
        return Trial(candidate, self.measurer.check(problem, candidate))

    def _write(self, problem: Problem, choice: Choice, untuned: Choice | None) -> None:
        route = operands.routing(Layer.of(problem), self.job.seed, problem.token)
        result = Result(problem, choice, untuned, operands.active_experts(route))
        made = Provenance(template_hash(self.job.facts.gfx), self._compiler, self.job.seed)
        row = row_of(result, self.job.facts, self.summary.peaks, made)
        write_rows(self.job.output, [row])
        self.summary.written.append(row)

    def _confirm(self, problems: Sequence[Problem]) -> None:
        for done, problem in enumerate(problems, start=1):
            if problem in self.summary.failed:
                continue
            found = self.measurer.confirm(problem)
            if isinstance(found, Confirmed):
                self.summary.confirmed.append(found)
            else:
                self.summary.lost.append((problem, found))
            self.watcher.progress("fused_moe with the tuned file", done, len(problems))


def report_rows(job: Job, peaks: Peaks) -> list[Row]:
    """Return the file's rows for the job's problems, in the job's order, rates counted anew."""
    known = known_rows(job.output, job.facts.gfx)
    found = (known.get(Key.of(problem, job.facts)) for problem in job.problems)
    return [with_rates(row, peaks) for row in found if row is not None]
