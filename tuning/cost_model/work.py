# SPDX-License-Identifier: MIT
"""What a stage of a problem has to do with a kernel: workgroups, turns, bytes by their way."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from aiter_moe.codegen.instance import Output
from aiter_moe.enums import Kind
from aiter_moe.formats import MX_BLOCK
from aiter_moe.problem import Problem
from aiter_moe.tuning.cost_model.routing import active_experts, row_blocks
from aiter_moe.tuning.cost_model.workgroup import TURN_K, Workgroup

# Bytes of an element: MXFP4 codes with their share of a scale, bf16, f32.
MXFP4 = 0.5 + 1 / MX_BLOCK
BF16 = 2.0
F32 = 4.0
# Whole workgroups stay whole: an expectation a rounding error above would take another round.
_DIGITS = 4
ROW_BYTES = {Kind.A4W4: MXFP4, Kind.A16W4: BF16}


@dataclass(frozen=True, slots=True)
class StageWork:
    """The work of a stage, in expectation over uniform routing.

    Attributes
    ----------
    items : float
        Workgroups with work.
    turns : float
        Turns of each of them.
    memory_bytes : float
        From and to the memory once: weights of the active experts, rows in, rows out.
    weight_bytes, row_bytes : float
        All that workgroups read, mostly from caches: weights once for every row block, rows once
        for every column block.
    atomic_bytes : float
        Added to the output where other workgroups add too.
    summed_bytes : float
        Rows of stage 2 that are written, read again and summed, and the sums; parts of stage 1.
    finish_bytes : float
        Parts of stage 1 that another kernel reads when all are there.
    """

    items: float
    turns: float
    memory_bytes: float
    weight_bytes: float
    row_bytes: float
    atomic_bytes: float
    summed_bytes: float
    finish_bytes: float = 0.0


def stage_work(problem: Problem, group: Workgroup) -> StageWork:
    """Return what `group`'s stage of a problem has to do."""
    hidden, inter = problem.model_dim, problem.inter_dim
    n, k = (inter, hidden) if group.stage == 1 else (hidden, inter)
    pairs = problem.token * problem.topk
    active = active_experts(problem.token, problem.experts, problem.topk)
    sorted_rows = min(group.rows, group.sort_block)
    blocks = row_blocks(problem.token, problem.experts, problem.topk, sorted_rows)
    columns = ceil(n / group.columns)
    weight_rows = n * (2 if group.stage == 1 else 1)
    row_bytes = k * ROW_BYTES[group.kind]
    read = (problem.token if group.stage == 1 else pairs) * row_bytes
    items, turns = _items_and_turns(group, blocks, columns, k)
    output = pairs * n
    kept = {Output.BF16: BF16, Output.FP4: MXFP4}.get(group.output, 0.0) * output
    partial = F32 * pairs * weight_rows * group.splits if group.splits > 1 else 0.0
    final = problem.token * n * BF16 if group.output in (Output.FINAL, Output.ROWS) else 0.0
    rows = 2 * group.row_bytes * output if group.output is Output.ROWS else 0.0
    return StageWork(
        items=items,
        turns=turns,
        memory_bytes=active * weight_rows * k * MXFP4 + read + kept,
        weight_bytes=blocks * weight_rows * k * MXFP4,
        row_bytes=blocks * columns * group.rows * row_bytes,
        atomic_bytes=BF16 * output if group.output is Output.ATOMIC else 0.0,
        summed_bytes=partial + rows + final,
        finish_bytes=partial,
    )


def _items_and_turns(group: Workgroup, blocks: float, columns: int, k: int) -> tuple[float, float]:
    """Return workgroups with work and the turns of a wave of each."""
    turns = ceil(ceil(k / TURN_K) / (group.parts * group.splits))
    if group.walks_blocks:
        shares = group.waves // group.parts
        return float(columns), turns * max(1.0, blocks / shares)
    return round(blocks * columns * group.splits, _DIGITS), float(turns)
