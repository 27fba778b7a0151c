# SPDX-License-Identifier: MIT
"""The sweep: compile what is missing, run every case of every kernel, then whole passes.

What is planned is a value (`Job`), what was done another (`Summary`), complete after an
interrupt. While a case runs, the tensors of the next are made.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import torch

from aiter_moe.codegen.build import build_many
from aiter_moe.codegen.catalogue import by_name
from aiter_moe.codegen.codeobject import combined_resources
from aiter_moe.codegen.gfx9.steps import steps_unit
from aiter_moe.codegen.instance import Instance
from aiter_moe.codegen.readback import departures
from aiter_moe.codegen.render import emulator_unit, runtime_unit, unit_name, units_of
from aiter_moe.codegen.unit import BuildReport, BuildUnit
from aiter_moe.targets.registry import EMULATED, Target, running_target
from aiter_moe.verify.controls import Control, controls_of, run_control
from aiter_moe.verify.covering import product_size, whole
from aiter_moe.verify.execute import Ready, launch, make_ready, outcome_of
from aiter_moe.verify.families import Family, cases_of, families_of, family_seed
from aiter_moe.verify.machine import Machine, machine_of
from aiter_moe.verify.outcome import Outcome, Subject
from aiter_moe.verify.passes import TOKENS, Pass, run_pass
from aiter_moe.verify.problems import StageCase, axes_of

AHEAD = 2
"""Cases that are made, and that wait to be judged, while one runs."""


class Watcher(Protocol):
    """Whoever shows the user how far the sweep is."""

    def say(self, text: str) -> None:
        """Show one line that stays."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Show how far one step is; the next call may overwrite it."""

    def ended(self, subject: Subject, done: int, total: int) -> None:
        """Show that a kernel or a pass is through."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to verify, and how.

    Attributes
    ----------
    target : Target
        Where kernels run.
    instances : tuple of Instance
        Kernels, in catalogue order.
    passes : tuple of Pass
        Whole passes.
    lacking : dict
        Kernels that this machine cannot run -> what it lacks.
    seed : int
        Of all tensors, of the choice of cases, and of the order of waves.
    full : bool
        Every combination of the axes instead of every pair of values.
    threads : int
        CPU threads of the emulator; 0: all.
    checks : bool
        Whether the emulator looks for faults.
    controls : bool
        Run the negative controls too.
    """

    target: Target
    instances: tuple[Instance, ...]
    passes: tuple[Pass, ...] = ()
    lacking: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    full: bool = False
    threads: int = 0
    checks: bool = True
    controls: bool = False


@dataclass(slots=True)
class Summary:
    """What a sweep did so far.

    Attributes
    ----------
    kernels, passes : list of Subject
        In the order they were begun.
    controls : list of Control
        Negative controls that were run.
    compiled, cached : int
        Kernels built now, and found in the cache.
    compiler : str
        What compiled the kernels.
    compile_seconds, run_seconds : float
        Time of the builds, and of everything after them.
    interrupted : bool
        Something that was planned was not run.
    """

    kernels: list[Subject] = field(default_factory=list)
    passes: list[Subject] = field(default_factory=list)
    controls: list[Control] = field(default_factory=list)
    compiled: int = 0
    cached: int = 0
    compiler: str = ""
    compile_seconds: float = 0.0
    run_seconds: float = 0.0
    interrupted: bool = False

    @property
    def subjects(self) -> list[Subject]:
        """Kernels, then passes."""
        return self.kernels + self.passes

    @property
    def green(self) -> bool:
        """Everything that was run is right, and every control was caught."""
        return (
            bool(self.subjects)
            and all(subject.right for subject in self.subjects)
            and all(control.caught for control in self.controls)
        )


@dataclass(slots=True)
class Sweep:
    """One run of a job: whom it tells, and what it did so far."""

    job: Job
    watcher: Watcher
    summary: Summary = field(default_factory=Summary)
    _resources: dict[str, dict[str, int]] = field(default_factory=dict)
    _broken: dict[str, str] = field(default_factory=dict)

    def run(self) -> Summary:
        """Compile, run kernels, passes and controls; an interrupt leaves the summary as it is."""
        begin = time.perf_counter()
        try:
            self._build()
            self.summary.compile_seconds = time.perf_counter() - begin
            begin = time.perf_counter()
            machine = machine_of(self.job.target, threads=self.job.threads, checks=self.job.checks)
            with one_thread_of_torch():
                self._run(machine)
        except KeyboardInterrupt:
            self.summary.interrupted = True
        finally:
            self.summary.run_seconds = time.perf_counter() - begin
        return self.summary

    def _run(self, machine: Machine) -> None:
        total, done = len(self.job.instances) + len(self.job.passes), 0
        for group in self._groups():
            for subject in self._kernels(group, machine):
                done += 1
                self.watcher.ended(subject, done, total)
        for what in self.job.passes:
            done += 1
            self.watcher.ended(self._pass(what, machine), done, total)
        if self.job.controls:
            usable = [i for i in self.job.instances if unit_name(i) not in self._broken]
            for control, instance in controls_of(usable):
                ran = run_control(control, instance, self.job.seed, machine)
                self.summary.controls.append(ran)

    def _groups(self) -> Sequence[Family]:
        """Return which kernels share their cases: families, or each by itself."""
        if self.job.full:
            return [(instance,) for instance in self.job.instances]
        return families_of(self.job.instances)

    def _build(self) -> None:
        units = _units(self.job)
        for done, report in enumerate(build_many(units), start=1):
            self._built(report)
            self.watcher.progress("compiling kernels", done, len(units))
        self.watcher.say(
            f"{self.summary.compiled} kernels compiled, {self.summary.cached} from the cache"
        )

    def _built(self, report: BuildReport) -> None:
        name = report.unit.name
        if report.artifact is None:
            self._broken[name] = str(report.error)
            return
        self.summary.cached += report.cached
        self.summary.compiled += not report.cached
        manifest = report.artifact.manifest
        if report.unit.target == self.job.target.facts.gfx:
            self.summary.compiler = str(manifest["compiler"])
        if not manifest["resources"]:
            return
        kernels = manifest["resources"]["kernels"]
        self._resources[name] = combined_resources(kernels)
        instance = by_name(self.job.target.facts.gfx).get(name)
        unlike = departures(instance, kernels) if instance is not None else ()
        if unlike:
            self._broken[name] = f"the binary is not as expected: {'; '.join(unlike)}"

    def _kernels(self, group: Family, machine: Machine) -> list[Subject]:
        subjects = {instance: self._subject(instance) for instance in group}
        sound = tuple(i for i, subject in subjects.items() if not subject.failure)
        if sound:
            cases = self._every_case if self.job.full else self._few_cases
            for case, outcome in overlapped(cases(sound, subjects), self.job.seed, machine):
                subject = subjects[case.instance]
                subject.add(outcome)
                self.watcher.progress(subject.name, subject.done, subject.planned)
        return list(subjects.values())

    def _subject(self, instance: Instance) -> Subject:
        resources = self._resources.get(unit_name(instance), {})
        subject = Subject(instance.name, resources, keep_right=not self.job.full)
        subject.failure = self._broken.get(unit_name(instance), "")
        self.summary.kernels.append(subject)
        return subject

    def _few_cases(
        self, group: Family, subjects: Mapping[Instance, Subject]
    ) -> Iterator[StageCase]:
        found = cases_of(group, self.job.seed)
        subjects[group[0]].refused += found.refused
        for case in found.cases:
            subjects[case.instance].planned += 1
        yield from found.cases

    def _every_case(
        self, group: Family, subjects: Mapping[Instance, Subject]
    ) -> Iterator[StageCase]:
        (instance,), axes = group, axes_of(group[0])
        subject, seed = subjects[instance], family_seed(self.job.seed, group)
        subject.planned = product_size(axes)

        def refusal(choice: dict[str, Any]) -> str | None:
            return StageCase(instance=instance, seed=0, **choice).refusal()

        for at, found in enumerate(whole(axes, refusal, seed)):
            if isinstance(found, str):
                subject.refused[found] += 1
                subject.planned -= 1
            else:
                yield StageCase(instance=instance, seed=seed + at, **found)

    def _pass(self, what: Pass, machine: Machine) -> Subject:
        subject = Subject(what.name, planned=len(TOKENS))
        self.summary.passes.append(subject)
        for tokens in TOKENS:
            self.watcher.progress(what.name, subject.done, len(TOKENS))
            subject.add(run_pass(what, tokens, self.job.seed, machine))
        return subject


def _units(job: Job) -> list[BuildUnit]:
    units = units_of(job.instances)
    features = running_target("cpu").facts.features
    if job.target.name == "cpu":
        units.append(runtime_unit(features))
    else:
        units.append(steps_unit(job.target.facts.gfx))
    if job.target.name in EMULATED:
        units.append(emulator_unit(features))
    return units


def overlapped(
    cases: Iterator[StageCase], seed: int, machine: Machine
) -> Iterator[tuple[StageCase, Outcome]]:
    """Run cases one after the other; another thread makes the next and judges the last meanwhile.

    Yields cases with their outcomes, in the order of the cases.
    """
    with ThreadPoolExecutor(1) as pool:
        made: deque[tuple[StageCase, Future[Ready]]] = deque()
        judged: deque[tuple[StageCase, Future[Outcome]]] = deque()
        try:
            while True:
                wanted = islice(cases, AHEAD - len(made))
                made.extend((case, pool.submit(make_ready, case, seed)) for case in wanted)
                if not made:
                    break
                case, ready = made.popleft()
                ran = launch(ready.result(), machine)
                judged.append((case, pool.submit(outcome_of, ran)))
                while len(judged) > AHEAD:
                    yield _waited(*judged.popleft())
            while judged:
                yield _waited(*judged.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _waited(case: StageCase, outcome: Future[Outcome]) -> tuple[StageCase, Outcome]:
    return case, outcome.result()


@contextmanager
def one_thread_of_torch() -> Iterator[None]:
    """Let torch run on one thread: its others would only wait beside the emulator's."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def reasons_of(subjects: Sequence[Subject]) -> Counter[str]:
    """Return why combinations were not run, with how many, over all subjects."""
    total: Counter[str] = Counter()
    for subject in subjects:
        total.update(subject.refused)
    return total


def wrong_outcomes(subjects: Sequence[Subject]) -> Iterator[tuple[Subject, Outcome]]:
    """Yield every case that is not right, with whose it is."""
    for subject in subjects:
        for outcome in subject.wrong:
            yield subject, outcome
