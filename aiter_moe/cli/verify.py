# SPDX-License-Identifier: MIT
"""``aiter-moe verify``: run every kernel of a target on hard problems, compare with float64.

Options, progress and printing; what is run and how it is judged is `aiter_moe.verify`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiter_moe.cli import INTERRUPTED
from aiter_moe.cli.terminal import Lines, Status, show_table, watcher
from aiter_moe.codegen.catalogue import Family, family_note
from aiter_moe.errors import AiterMoeError, ArgumentError

if TYPE_CHECKING:
    from rich.console import Console

    from aiter_moe.codegen.instance import Instance
    from aiter_moe.targets.registry import Target
    from aiter_moe.verify.outcome import Subject
    from aiter_moe.verify.passes import Pass
    from aiter_moe.verify.sweep import Job, Summary

BAD_ARGUMENTS = 2
LEFT = ("kernel", "control")


def _said(subject: Subject, done: int, total: int) -> str:
    from aiter_moe.verify.report import error_text

    verdict = "ok" if subject.right else "WRONG"
    return (
        f"[{done}/{total}] {subject.name}: {subject.done} cases, error "
        f"{error_text(subject.error)}, {subject.faults} faults, {subject.seconds:.1f} s, {verdict}"
    )


class _VerifyLines(Lines):
    """Progress for logs: a line per kernel."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Say nothing of single cases."""

    def ended(self, subject: Subject, done: int, total: int) -> None:
        """Print how a kernel did."""
        self.say(_said(subject, done, total))


class _VerifyStatus(Status):
    """Progress on a terminal: only what is wrong stays."""

    def ended(self, subject: Subject, done: int, total: int) -> None:
        """Print a kernel that is wrong."""
        if not subject.right:
            self.say(_said(subject, done, total))
        self.progress("kernels and passes", done, total)


def named_kernels(path: Path, target: Target) -> set[str]:
    """Return the kernels that the rows of a tuned CSV name.

    Raises
    ------
    ArgumentError
        If a row names a kernel that the target does not have, or none names any.
    ConfigError
        If the file cannot be read.
    """
    from aiter_moe.codegen.catalogue import by_name
    from aiter_moe.configs.reader import read_tuned

    gfx = target.facts.gfx
    known = by_name(gfx)
    found: set[str] = set()
    for row in read_tuned(path):
        for name in filter(None, (row.kernel1, row.kernel2)):
            if name not in known:
                raise ArgumentError(f"{row.where}: target {gfx} has no kernel {name}")
            found.add(name)
    if not found:
        raise ArgumentError(f"{path}: no row names a kernel")
    return found


def _matching(names: Sequence[str], patterns: Sequence[str]) -> set[str]:
    """Return the names that match a pattern; one without wildcard is a name, or part of names.

    With a wildcard it may also begin where names do in the table, behind the target's prefix.
    """
    globs = ["*"] if not patterns else []
    for pattern in patterns:
        if pattern in names:
            globs += [pattern]
        elif set(pattern) & set("*?["):
            globs += [pattern, f"*_{pattern}"]
        else:
            globs += [f"*{pattern}*"]
    return {name for name in names if any(fnmatchcase(name, glob) for glob in globs)}


def select(
    target: Target, csv: Path | None, patterns: Sequence[str], family: Family = Family.OWN
) -> tuple[tuple[Instance, ...], tuple[Pass, ...]]:
    """Return the kernels and whole passes that the options leave.

    Raises
    ------
    ArgumentError
        If nothing is left, or a CSV names an unknown kernel.
    """
    from aiter_moe.codegen.catalogue import of_family
    from aiter_moe.verify.passes import passes_of

    instances = of_family(target.facts.gfx, Family.ALL if csv is not None else family)
    # a pass takes the kernels of a plan, which are ours
    passes = tuple(passes_of(frozenset(i.kind for i in instances if not i.family)))
    if csv is not None:
        names = named_kernels(csv, target)
        instances, passes = tuple(i for i in instances if i.name in names), ()
    known = [i.name for i in instances] + [p.name for p in passes]
    wanted = _matching(known, patterns)
    kernels = tuple(i for i in instances if i.name in wanted)
    chosen = tuple(p for p in passes if p.name in wanted)
    if not wanted:
        raise ArgumentError(
            f"no kernel and no pass of {target.name} matches {', '.join(patterns)}; "
            f"`aiter-moe build --target {target.facts.gfx} --plan --family all` lists the kernels"
        )
    return kernels, chosen


def _usable(
    target: Target, instances: Sequence[Instance]
) -> tuple[tuple[Instance, ...], dict[str, str]]:
    """Return the kernels this machine can run, and what it lacks for the others."""
    lacking = {
        i.name: f"the device lacks {', '.join(sorted(missing))}"
        for i in instances
        if (missing := i.tile.requires - target.facts.features)
    }
    return tuple(i for i in instances if i.name not in lacking), lacking


def _require_writable(path: Path | None) -> None:
    from aiter_moe.durable import try_draft

    try:
        if path is not None:
            try_draft(path)
    except OSError as error:
        raise ArgumentError(
            f"--json {path}: cannot be written: {error.strerror or error}; name another file"
        ) from error


def _write_json(path: Path | None, summary: Summary, job: Job) -> None:
    from aiter_moe.durable import replacing
    from aiter_moe.verify.report import as_json

    if path is None:
        return
    with replacing(path) as draft:
        draft.write_text(json.dumps(as_json(summary, job), indent=1, allow_nan=False) + "\n")
    print(f"written: {path}")


def _print_result(console: Console, summary: Summary, job: Job) -> None:
    from aiter_moe.verify import report

    ours = any(not instance.family for instance in job.instances)
    kernels = f"kernels {report.prefix_of(job)}..." if ours else "kernels of CK-tile"
    title = f"{job.target.name}: {kernels}, seed {job.seed}"
    show_table(console, title, report.results_table(summary, job), LEFT)
    counters = report.counters_table(summary, job)
    if counters.lines:
        title = "Executed instructions, memory and waits, summed over the cases"
        show_table(console, title, counters, LEFT)
    if summary.controls:
        title = "Negative controls: weights laid out wrongly on purpose"
        show_table(console, title, report.controls_table(summary.controls, job), LEFT)
    print("", *report.refused_lines(summary, job), sep="\n")
    failures = report.failure_lines(summary)
    if failures:
        print("\nwrong:", *failures, sep="\n  ")
    print(report.summary_line(summary))


def _job(  # noqa: PLR0913, PLR0917 - the options
    name: str, csv: Path | None, patterns: list[str], seed: int, full: bool, threads: int,
    checks: bool, controls: bool, family: Family,
) -> Job:  # fmt: skip
    from aiter_moe.targets.registry import executing_target
    from aiter_moe.verify.sweep import Job

    target = executing_target(name)
    instances, passes = select(target, csv, patterns, family)
    usable, lacking = _usable(target, instances)
    return Job(target, usable, passes, lacking, seed, full, threads, checks, controls)


def verify(  # noqa: PLR0913, PLR0917 - each is an option of the command line
    target: Annotated[
        str,
        typer.Option(
            help="cpu, gfx950 or gfx942 (on the emulator where there is no such device), or one "
            "of the latter with :emulator."
        ),
    ] = "gfx950",
    csv: Annotated[
        Path | None, typer.Option(help="Only the kernels that the rows of a tuned CSV name.")
    ] = None,
    kernel: Annotated[
        list[str] | None,
        typer.Option(
            "--kernel",
            "--filter",
            "-k",
            help="Only names that contain this, or match it (with * or ?); may be repeated.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of tensors, cases and the order of waves.")
    ] = 0,
    full: Annotated[
        bool,
        typer.Option(
            "--full/--quick",
            help="Every combination of the axes for every kernel (days), or every pair of values "
            "over the kernels that differ in activation and output alone.",
        ),
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write everything that was found to a file.")
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="Threads of the emulator; 0: all.")] = 0,
    checks: Annotated[
        bool, typer.Option("--checks/--no-checks", help="Let the emulator look for faults.")
    ] = True,
    self_test: Annotated[
        bool, typer.Option("--self-test", help="Also run weights laid out wrongly on purpose.")
    ] = False,
    family: Annotated[
        Family, typer.Option(help="Our kernels, CK-tile's (25 s each to compile), or all.")
    ] = Family.OWN,
) -> None:
    """Run every kernel of a target on hard problems and compare with float64.

    Exits with status 0 if all is right, 1 if anything is not, 2 for bad arguments.
    """
    from rich.console import Console

    from aiter_moe.verify.sweep import Sweep

    try:
        job = _job(target, csv, kernel or [], seed, full, threads, checks, self_test, family)
        _require_writable(json_file)
    except AiterMoeError as error:
        print(f"aiter-moe: {error}", file=sys.stderr)
        raise typer.Exit(BAD_ARGUMENTS) from None
    note = family_note(job.target.facts.gfx, family)
    if note:
        print(note)
    console = Console()
    with watcher(console, _VerifyLines, _VerifyStatus) as shown:
        summary = Sweep(job, shown).run()
    _print_result(console, summary, job)
    _write_json(json_file, summary, job)
    if summary.interrupted:
        print("interrupted; what was done is above")
        raise typer.Exit(INTERRUPTED)
    if not summary.green:
        raise typer.Exit(1)
