# SPDX-License-Identifier: MIT
"""What a CPU call without a tuned row runs, and why: a rule per number of rows of an expert.

The numbers are those that won sweeps of gpt-oss and MiniMax-M2 layers; a tuned row replaces them.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiter_moe.codegen.cpu import COLUMNS, SHAPES, CpuTile, best_isa, isas
from aiter_moe.codegen.instance import BLOCK_M, Instance, Output
from aiter_moe.enums import Kind
from aiter_moe.problem import Problem

FEW_ROWS = 4
"""Up to so many rows an expert's weights are a stream from memory, and multiplying is cheap."""
DEFAULT_AHEAD = 4
"""The best of 0, 2 and 4 tiles, or level with it, at 1 to 16 rows of an expert."""
ITEMS_PER_THREAD = 4
"""Work items a thread wants, so that the last ones to end do not leave the others idle."""


def expert_rows(problem: Problem) -> float:
    """Return the rows of an expert that gets any, on average: at least 1."""
    return max(1.0, problem.token * problem.topk / problem.experts)


def default_block_m(problem: Problem) -> int:
    """Return the least sort block that holds the rows of an expert, else the largest."""
    rows = expert_rows(problem)
    return next((block for block in BLOCK_M if rows <= block), BLOCK_M[-1])


@dataclass(frozen=True, slots=True)
class Wanted:
    """Tile of one stage that the rule asks for.

    Attributes
    ----------
    columns : int
        Of a work item.
    ahead : int
        Prefetch distance.
    output : Output
        BF16 of stage 1; FINAL or ROWS of stage 2.
    """

    columns: int
    ahead: int
    output: Output


def wanted(problem: Problem, stage: int, threads: int) -> Wanted:
    """Return what the rule asks of one stage.

    Parameters
    ----------
    problem : Problem
        With the sizes that are computed.
    stage : int
        1 or 2.
    threads : int
        Of a launch.
    """
    columns = 64 if expert_rows(problem) <= FEW_ROWS else 128
    if stage == 1:
        columns = COLUMNS[-1] if _whole_experts(problem, threads) else columns
        return Wanted(columns, DEFAULT_AHEAD, Output.BF16)
    output = Output.FINAL if _feeds(problem, threads) else Output.ROWS
    return Wanted(columns, DEFAULT_AHEAD, output)


def _whole_experts(problem: Problem, threads: int) -> bool:
    """Say whether items of all columns of an expert, which pack its rows, feed all threads."""
    experts = min(problem.experts, problem.token * problem.topk)
    return problem.inter_dim <= COLUMNS[-1] and experts >= ITEMS_PER_THREAD * threads


def _feeds(problem: Problem, threads: int) -> bool:
    """Say whether items of 64 columns keep all threads busy without a share of the experts."""
    return problem.model_dim // 64 >= ITEMS_PER_THREAD * threads


def reasons(problem: Problem, threads: int, features: frozenset[str]) -> tuple[str, ...]:
    """Return the rule's reasons, as ``aiter-moe lookup --explain`` prints them."""
    isa, rows = best_isa(problem.kind, features), expert_rows(problem)
    first, second = (wanted(problem, stage, threads).columns for stage in (1, 2))
    items = problem.model_dim // 64
    if _feeds(problem, threads):
        sums = f"{items} column ranges feed {threads} threads: stage 2 leaves the final output"
    else:
        sums = f"{items} column ranges are few for {threads} threads: rows, then a reduction"
    return (
        f"{isa} is the best this CPU has for {problem.kind} (of {', '.join(isas(problem.kind))})",
        f"{rows:.3g} rows an expert: work items of {first} columns, then of {second}",
        sums,
    )


def distance(problem: Problem, threads: int, instance: Instance) -> tuple[int, ...]:
    """Return how far an instance is from the rule: the least of all that run the problem is taken.

    Instruction sets come first, then the output, then the order of `SHAPES`, then the numbers.
    """
    tile = instance.tile
    assert isinstance(tile, CpuTile), "the kernel is not for the CPU"
    want = wanted(problem, instance.stage, threads)
    return (
        isas(instance.kind).index(tile.isa),
        int(tile.output is not want.output),
        _shape_index(instance.kind, tile),
        abs(tile.columns - want.columns),
        abs(tile.ahead - want.ahead),
    )


def _shape_index(kind: Kind, tile: CpuTile) -> int:
    shapes = [(shape.rows, shape.groups) for shape in SHAPES[tile.isa, kind]]
    return shapes.index((tile.rows, tile.groups))
