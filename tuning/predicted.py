# SPDX-License-Identifier: MIT
"""Rows that a cost model chooses, for devices that are not at hand: ``tune --model``.

Nothing is compiled and nothing runs. Each row is in the file before the next is computed, so an
interrupted run goes on where it stopped; rows that were measured stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiter_moe.configs import schema
from aiter_moe.configs.provenance import template_hash
from aiter_moe.configs.reader import read_tuned
from aiter_moe.configs.table import ConfigTable, Key, Row
from aiter_moe.configs.writer import write_rows
from aiter_moe.errors import UnsupportedProblemError
from aiter_moe.plan import make_plan
from aiter_moe.problem import Problem
from aiter_moe.targets.base import DeviceFacts
from aiter_moe.tuning.candidates import Candidate
from aiter_moe.tuning.cost_model.choose import Predicted, choose, predict
from aiter_moe.tuning.figures import UNTUNED_US
from aiter_moe.tuning.report import MISSING, Table

BOUNDS = ("bound1", "bound2")
"""Columns that say what takes longest in a stage."""
HEADER = (
    "kind", "tokens", "block_m", "ksplit", "us1", "us2", "us", "bound by", "and by", "untuned",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Known:
    """What an output file has already: keys of measured rows, and of predicted ones still valid."""

    measured: frozenset[Key]
    predicted: frozenset[Key]

    @classmethod
    def of(cls, output: Path, target: str) -> Known:
        """Return what is in `output`, nothing where it does not exist."""
        rows = read_tuned(output) if output.exists() else ()
        current = template_hash(target)
        return cls(
            frozenset(row.key for row in rows if not row.predicted),
            frozenset(r.key for r in rows if r.predicted and r.template_hash == current),
        )


@dataclass(frozen=True, slots=True)
class Refused:
    """A problem without a row, and why."""

    problem: Problem
    reason: str


def untuned_us(problem: Problem, facts: DeviceFacts) -> float | None:
    """Return the predicted time of both stages of what runs without a table."""
    plan = make_plan(problem, facts, ConfigTable())
    pair = Candidate(plan.stage1, plan.ksplit), Candidate(plan.stage2)
    times = [predict(problem, candidate, facts) for candidate in pair]
    return None if None in times else sum(time.us for time in times if time is not None)


def predicted_row(problem: Problem, facts: DeviceFacts, found: Predicted) -> Row:
    """Return the CSV row of a choice; its times are those of the stages, as measured ones are."""
    first, second = found.stage1, found.stage2
    untuned = schema.format_number(untuned_us(problem, facts))
    bounds = zip(BOUNDS, (first.time.bound, second.time.bound), strict=True)
    return Row(
        key=Key.of(problem, facts),
        block_m=first.candidate.block_m,
        ksplit=first.candidate.ksplit,
        kernel1=first.candidate.instance.name,
        kernel2=second.candidate.instance.name,
        us1=first.time.us,
        us2=second.time.us,
        us=first.time.us + second.time.us,
        source=schema.MODEL_SOURCE,
        template_hash=template_hash(facts.gfx),
        extra=((UNTUNED_US, untuned), *bounds),
    )


def predict_rows(
    problems: Sequence[Problem], facts: DeviceFacts, output: Path, *, again: bool = False
) -> Iterator[Row | Refused]:
    """Choose kernels for every problem the output lacks, write each row and yield it.

    Parameters
    ----------
    problems : sequence of Problem
        In order.
    facts : DeviceFacts
        The device that rows are for; it need not be here.
    output : Path
        Tuned CSV; measured rows in it are never replaced.
    again : bool
        Predict anew what was predicted before.

    Raises
    ------
    UnsupportedProblemError
        If there is no cost model of the device.
    ConfigError
        If the file cannot be read or written.
    """
    known = Known.of(output, facts.gfx)
    skipped = known.measured if again else known.measured | known.predicted
    for problem in problems:
        if Key.of(problem, facts) in skipped:
            continue
        try:
            row = predicted_row(problem, facts, choose(problem, facts))
        except UnsupportedProblemError as error:
            yield Refused(problem, str(error))
            continue
        write_rows(output, [row])
        yield row


def predicted_table(rows: Sequence[Row]) -> Table:
    """Return the table of predicted rows: choice, times, bounds, and the time without the row."""
    return Table(HEADER, tuple(_line(row) for row in rows))


def _line(row: Row) -> tuple[str, ...]:
    told = dict(row.extra)
    times = (f"{us or 0.0:.1f}" for us in (row.us1, row.us2, row.us))
    untuned = told.get(UNTUNED_US, "")
    return (
        str(row.key.problem().kind), str(row.key.token), str(row.block_m), str(row.ksplit),
        *times, *(told.get(name, MISSING) for name in BOUNDS),
        f"{float(untuned):.1f}" if untuned else MISSING,
    )  # fmt: skip
