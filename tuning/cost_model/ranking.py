# SPDX-License-Identifier: MIT
"""Whether the model would have chosen the block_m that tables say was fastest.

Tables hold winners alone, so losers' times cannot be compared. What can: for every row the model
times the tiles that FlyDSL has for each block_m, takes the best of each, and its favourite is
compared with the row's. A row where two of them were within the noise counts like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log2

import numpy as np

from aiter_moe.configs.table import Row
from aiter_moe.enums import Kind
from aiter_moe.problem import Problem
from aiter_moe.tuning.cost_model.constants import Constants
from aiter_moe.tuning.cost_model.device import Gpu
from aiter_moe.tuning.cost_model.fit import GFX950
from aiter_moe.tuning.cost_model.observations import problem_of
from aiter_moe.tuning.cost_model.public_kernels import public_workgroup
from aiter_moe.tuning.cost_model.stage_time import stage_time
from aiter_moe.tuning.cost_model.work import stage_work

BLOCKS = (32, 64, 128)
_FIRST = "flydsl_moe1_afp4_wfp4_bf16_t{rows}x{columns}x256_fp4"
_SECOND = "flydsl_moe2_afp4_wfp4_bf16_t{rows}x{columns}x256_{way}_sbm{block}"


@dataclass(frozen=True, slots=True)
class Ranked:
    """One row of a table, and what the model makes of its block_m.

    Attributes
    ----------
    measured, predicted : int
        The row's block_m, and the model's favourite.
    regret : float
        Predicted time of the row's block_m over that of the favourite, less 1.
    """

    problem: Problem
    measured: int
    predicted: int
    regret: float


def block_times(problem: Problem, constants: Constants, gpu: Gpu = GFX950) -> dict[int, float]:
    """Return the best predicted time of both stages for every block_m of FlyDSL's a4w4 tiles."""

    def best(stage: int, block: int, names: Iterable[str]) -> float:
        groups = (public_workgroup(name, stage, problem.kind, block) for name in names)
        return min(
            stage_time(stage_work(problem, group), group, gpu, constants).us
            for group in groups
            if group is not None
        )

    return {
        block: best(1, block, _firsts(block)) + best(2, block, _seconds(block)) for block in BLOCKS
    }


def _firsts(block: int) -> list[str]:
    return [_FIRST.format(rows=block, columns=columns) for columns in (32, 64, 128)]


def _seconds(block: int) -> list[str]:
    return [
        _SECOND.format(rows=rows, columns=columns, way=way, block=block)
        for rows in BLOCKS
        if rows <= block
        for columns in (128, 256)
        for way in ("atomic", "reduce")
    ]


def rank(rows: Sequence[Row], constants: Constants) -> list[Ranked]:
    """Return the rows whose choice the model can judge: a4w4 with a block_m of `BLOCKS`."""
    found = []
    for row in rows:
        problem = problem_of(row)
        if problem.kind is not Kind.A4W4 or row.block_m not in BLOCKS:
            continue
        times = block_times(problem, constants)
        favourite = min(BLOCKS, key=lambda block: (times[block], block))
        regret = times[row.block_m] / times[favourite] - 1
        found.append(Ranked(problem, row.block_m, favourite, regret))
    return found


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the rank correlation of two lists; ties share their mean rank."""
    a, b = (_ranks(np.array(each, dtype=float)) for each in (first, second))
    spread = float(a.std() * b.std())
    if spread == 0.0:
        return 1.0 if a.std() == b.std() else 0.0
    return float(((a - a.mean()) * (b - b.mean())).mean() / spread)


def _ranks(values: np.ndarray) -> np.ndarray:
    below = (values[:, None] > values[None, :]).sum(axis=1)
    same = (values[:, None] == values[None, :]).sum(axis=1)
    ranks: np.ndarray = below + (same - 1) / 2
    return ranks


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a rule's block_m agree with the tables'.

    Attributes
    ----------
    count : int
        Rows.
    correlation : float
        Spearman's, of log2(block_m).
    same, near : float
        Share of rows with the same block_m, and at most one step of a factor 2 away.
    """

    count: int
    correlation: float
    same: float
    near: float

    @classmethod
    def of(cls, measured: Sequence[int], chosen: Sequence[int]) -> Agreement:
        """Return the figures of two lists of block_m."""
        steps = [abs(log2(a / b)) for a, b in zip(measured, chosen, strict=True)]
        n = len(steps)
        return cls(
            n, spearman(measured, chosen), sum(s == 0 for s in steps) / n,
            sum(s <= 1 for s in steps) / n,
        )  # fmt: skip
