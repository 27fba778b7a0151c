# SPDX-License-Identifier: MIT
"""What was found, as tables and lines of text, and as one JSON object. No terminal here."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

from aiter_moe.targets.emulator_report import InstructionClass
from aiter_moe.tuning.report import MISSING, Table
from aiter_moe.verify.controls import Control
from aiter_moe.verify.outcome import Outcome, Subject
from aiter_moe.verify.sweep import Job, Summary, reasons_of, wrong_outcomes

RESULTS = ("kernel", "cases", "error", "element", "faults", "instr", "s", "")
RESOURCES = ("vgpr", "agpr", "sgpr", "lds", "spills", "waves")
COUNTERS = (
    "kernel", "mfma", "valu", "salu", "lds", "conflicts", "vmem", "MB read", "MB written",
    "coalesced", "waits", "barriers", "peak loads",
)  # fmt: skip
CONTROLS = ("control", "kernel", "error", "")
SHOWN_REASONS = 2
SHOWN_CASES = 12


def prefix_of(job: Job) -> str:
    """Return what the names of all kernels of a target begin with."""
    return f"aiter_moe_{job.target.facts.gfx}_"


def error_text(error: float) -> str:
    """Return a relative error in three digits."""
    return f"{error:.1e}" if isfinite(error) else "NaN"


def count_text(count: int) -> str:
    """Return a count in at most four digits and a letter."""
    for letter, unit in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= unit:
            scaled = count / unit
            return f"{scaled:.0f}{letter}" if scaled >= 100 else f"{scaled:.1f}{letter}"
    return str(count)


def percent_text(part: float | None) -> str:
    """Return a part as a percentage."""
    return MISSING if part is None else f"{100 * part:.0f}%"


def results_table(summary: Summary, job: Job) -> Table:
    """Return a line per kernel and pass: cases, errors, faults, what the code object takes."""
    with_resources = any(subject.resources for subject in summary.subjects)
    header = (*RESULTS[:5], *(RESOURCES if with_resources else ()), *RESULTS[5:])
    lines = tuple(_result_line(s, job, with_resources) for s in summary.subjects)
    return Table(header, lines)


def _result_line(subject: Subject, job: Job, with_resources: bool) -> tuple[str, ...]:
    instructions = subject.figures.instructions
    resources = _resource_cells(subject.resources) if with_resources else ()
    return (
        subject.name.removeprefix(prefix_of(job)),
        _cases_text(subject),
        error_text(subject.error),
        percent_text(subject.worst) if isfinite(subject.worst) else "NaN",
        str(subject.faults),
        *resources,
        count_text(instructions) if instructions else MISSING,
        f"{subject.seconds:.1f}",
        "ok" if subject.right else "WRONG",
    )


def _cases_text(subject: Subject) -> str:
    done, planned = subject.done, subject.planned
    return str(done) if done == planned else f"{done} of {planned}"


def _resource_cells(resources: dict[str, int]) -> tuple[str, ...]:
    fields = ("vgprs", "agprs", "sgprs", "lds_bytes", "spills", "waves_per_simd")
    return tuple(str(resources[field]) if field in resources else MISSING for field in fields)


def counters_table(summary: Summary, job: Job) -> Table:
    """Return a line per kernel and pass: what its launches executed, over all cases."""
    counted = [s for s in summary.subjects if s.figures.launches]
    return Table(COUNTERS, tuple(_counter_line(s, job) for s in counted))


def _counter_line(subject: Subject, job: Job) -> tuple[str, ...]:
    kind = InstructionClass
    figures = subject.figures
    vmem = figures.of_class(kind.vmem_load, kind.vmem_store, kind.vmem_atomic)
    written = figures.counters["vmem_store_bytes"] + figures.counters["vmem_atomic_bytes"]
    return (
        subject.name.removeprefix(prefix_of(job)),
        count_text(figures.of_class(kind.mfma)),
        count_text(figures.of_class(kind.valu)),
        count_text(figures.of_class(kind.salu, kind.branch, kind.smem)),
        count_text(figures.of_class(kind.lds)),
        percent_text(figures.conflict_part),
        count_text(vmem),
        f"{figures.counters['vmem_load_bytes'] / 1e6:.1f}",
        f"{written / 1e6:.1f}",
        percent_text(figures.coalesced_part),
        count_text(figures.of_class(kind.wait)),
        count_text(figures.of_class(kind.barrier)),
        str(figures.counters["peak_vector_requests"]),
    )


def controls_table(controls: Sequence[Control], job: Job) -> Table:
    """Return a line per negative control, which ought to be wrong."""
    return Table(
        CONTROLS,
        tuple(
            (
                control.what,
                control.kernel.removeprefix(prefix_of(job)),
                error_text(control.outcome.error),
                "caught" if control.caught else "NOT CAUGHT",
            )
            for control in controls
        ),
    )


def failure_lines(summary: Summary) -> list[str]:
    """Return what is wrong with which case, the first ones in full."""
    lines = [f"{s.name}: {s.failure}" for s in summary.subjects if s.failure]
    found = list(wrong_outcomes(summary.subjects))
    for subject, outcome in found[:SHOWN_CASES]:
        lines.append(f"{subject.name}, {outcome.case}")
        shown = [*outcome.reasons, *outcome.faults]
        lines += [f"  {text}" for text in shown[:SHOWN_REASONS]]
        if len(shown) > SHOWN_REASONS:
            lines.append(f"  and {len(shown) - SHOWN_REASONS} more (--json has all)")
    if len(found) > SHOWN_CASES:
        lines.append(f"and {len(found) - SHOWN_CASES} more cases (--json has all)")
    return lines


def refused_lines(summary: Summary, job: Job) -> list[str]:
    """Return what was not run, and why."""
    unit = "combinations" if job.full else "pairs of values"
    reasons = reasons_of(summary.subjects)
    lines = [f"  {count} {unit}: {reason}" for reason, count in sorted(reasons.items())]
    lacking: dict[str, int] = {}
    for why in job.lacking.values():
        lacking[why] = lacking.get(why, 0) + 1
    lines += [f"  {count} kernels: {why}" for why, count in lacking.items()]
    return ["not supported, and so not run:", *lines] if lines else []


def summary_line(summary: Summary) -> str:
    """Return the result in one line."""
    subjects = summary.subjects
    cases = sum(s.done for s in subjects)
    # An interrupt may come before the first case of a kernel, which says nothing of it.
    wrong = sum(
        not s.right and bool(s.done or s.failure or not summary.interrupted) for s in subjects
    )
    faults = sum(s.faults for s in subjects)
    instructions = sum(s.figures.instructions for s in subjects)
    right = "all right so far" if summary.interrupted else "all right"
    if not cases:
        right = "nothing was run"
    text = (
        f"{len(summary.kernels)} kernels and {len(summary.passes)} passes, {cases} cases: "
        f"{f'{wrong} WRONG' if wrong else right}, {faults} faults"
    )
    if instructions:
        seconds = sum(s.figures.cpu_seconds for s in subjects)
        speed = instructions / max(seconds, 1e-9) / 1e6
        text += f"; {count_text(instructions)} instructions, {speed:.0f} M/s a core"
    uncaught = sum(not control.caught for control in summary.controls)
    if summary.controls:
        text += f"; {len(summary.controls)} controls, {uncaught} not caught"
    return f"{text}; {summary.compile_seconds + summary.run_seconds:.0f} s in all"


def as_json(summary: Summary, job: Job) -> dict[str, Any]:
    """Return everything that is known of a sweep as plain values; NaN becomes None."""
    return {
        "target": job.target.name,
        "product": job.target.facts.product,
        "compiler": summary.compiler,
        "seed": job.seed,
        "full": job.full,
        "checks": job.checks,
        "green": summary.green,
        "interrupted": summary.interrupted,
        "compile_seconds": summary.compile_seconds,
        "run_seconds": summary.run_seconds,
        "lacking": job.lacking,
        "kernels": [_subject_json(subject) for subject in summary.kernels],
        "passes": [_subject_json(subject) for subject in summary.passes],
        "controls": [
            {"control": c.what, "kernel": c.kernel, "caught": c.caught, **_outcome_json(c.outcome)}
            for c in summary.controls
        ],
    }


def _subject_json(subject: Subject) -> dict[str, Any]:
    return {
        "name": subject.name,
        "right": subject.right,
        "failure": subject.failure,
        "error": _finite(subject.error),
        "worst_element": _finite(subject.worst),
        "done": subject.done,
        "seconds": subject.seconds,
        "resources": subject.resources,
        "refused": dict(subject.refused),
        "figures": subject.figures.as_json(),
        "cases": [_outcome_json(outcome) for outcome in subject.outcomes],
    }


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "case": outcome.case,
        "right": outcome.right,
        "error": _finite(outcome.error),
        "worst_element": _finite(outcome.worst),
        "reasons": list(outcome.reasons),
        "faults": list(outcome.faults),
        "seconds": outcome.seconds,
        "counters": {name: n for name, n in outcome.figures.counters.items() if n},
        **outcome.notes,
    }


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
