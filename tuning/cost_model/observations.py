# SPDX-License-Identifier: MIT
"""Measurements of public tables, ready to be compared with predictions.

Tables are read where they lie. Rows of one-stage kernels are left out, and copies: rows of another
expert count with the very same times as a row that was measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from aiter_moe.configs.reader import read_tuned
from aiter_moe.configs.table import Row
from aiter_moe.problem import Problem
from aiter_moe.tuning.cost_model.public_kernels import public_workgroup
from aiter_moe.tuning.cost_model.work import StageWork, stage_work
from aiter_moe.tuning.cost_model.workgroup import Workgroup

SUFFIX = "_tuned_fmoe.csv"


@dataclass(frozen=True, slots=True)
class Part:
    """One kernel of an observation and its work."""

    group: Workgroup
    work: StageWork


@dataclass(frozen=True, slots=True)
class Observation:
    """A measured time: of a stage, or of both where a table has their sum alone.

    Attributes
    ----------
    table : str
        The table's name.
    row : Row
        As read.
    problem : Problem
        With the row's token count.
    parts : tuple of Part
        The kernels whose times add up to it.
    us : float
        Measured.
    """

    table: str
    row: Row
    problem: Problem
    parts: tuple[Part, ...]
    us: float

    @property
    def model(self) -> str:
        """The model that the table is about."""
        return model_of(self.table)

    @property
    def stage(self) -> str:
        """``1``, ``2`` or ``1+2``."""
        return "+".join(str(part.group.stage) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one public table that hold a measurement of two stages."""

    name: str
    rows: tuple[Row, ...]
    left_out: int


def model_of(table: str) -> str:
    """Return the model that a table is about: what its name begins with."""
    return table.partition("_")[0]


def read_tables(folder: Path) -> list[Table]:
    """Return the tuned tables of a folder by name, without copies and one-stage rows."""
    return [
        _table(path) for path in sorted(folder.glob(f"*{SUFFIX}")) if "untuned" not in path.name
    ]


def _table(path: Path) -> Table:
    found = read_tuned(path)
    kept: dict[object, Row] = {}
    for row in found:
        if not row.run_1stage and row.us1:
            kept.setdefault((row.us1, row.us2), row)
    name = path.name.removesuffix(SUFFIX)
    return Table(name, tuple(kept.values()), len(found) - len(kept))


def problem_of(row: Row) -> Problem:
    """Return the problem of a row with its own token count, which is no tier in some tables."""
    return replace(row.key.problem(), token=row.key.token)


def observations(table: Table) -> Iterator[Observation]:
    """Yield the measured times of a table whose kernels the model knows."""
    for row in table.rows:
        problem = problem_of(row)
        stages = []
        for stage, name in ((1, row.kernel1), (2, row.kernel2)):
            group = public_workgroup(name, stage, problem.kind, row.block_m)
            stages.append(group and Part(group, stage_work(problem, group)))
        first, second = stages
        if row.us1 and not row.us2:
            if first and second:
                yield Observation(table.name, row, problem, (first, second), row.us1)
            continue
        for part, us in ((first, row.us1), (second, row.us2)):
            if part and us:
                yield Observation(table.name, row, problem, (part,), us)
