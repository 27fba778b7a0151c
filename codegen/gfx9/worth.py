# SPDX-License-Identifier: MIT
"""Kernels that run a problem and cannot win it: rules with the figure, for builds of shapes.

Rules rest on the rows that an expert gets on average. They are wide: what is left out is behind by
a factor, not by a few per cent, and the planner and the tuner do not ask them.
"""

from __future__ import annotations

from collections.abc import Callable

from aiter_moe.codegen.gfx9.device import device_of
from aiter_moe.codegen.gfx9.resources import workgroups_per_cu
from aiter_moe.codegen.gfx9.tile import Gfx9Tile, gfx9_tile
from aiter_moe.codegen.instance import Instance
from aiter_moe.problem import Problem
from aiter_moe.sizes import ceil_div, round_up

MOST_BLOCKS = 8
"""An expert's rows may make so many blocks, each of which reads its weights."""
MOST_PADDING = 8
"""A block may have so many times the rows that an expert has."""

WorthRule = Callable[[Problem, Instance], str | None]


def expert_rows(problem: Problem) -> float:
    """Return the rows of an expert that gets any, on average: at least 1."""
    return max(1.0, problem.token * problem.topk / problem.experts)


def _columns(problem: Problem, instance: Instance) -> int:
    return problem.inter_dim if instance.stage == 1 else problem.model_dim


def _blocks(problem: Problem, instance: Instance) -> str | None:
    rows = expert_rows(problem)
    if rows > MOST_BLOCKS * instance.block_m:
        return f"{rows:.0f} rows an expert read its weights once for every {instance.block_m}"
    return None


def _padding(problem: Problem, instance: Instance) -> str | None:
    rows = expert_rows(problem)
    if instance.block_m > 16 and instance.block_m > MOST_PADDING * rows:
        return f"{rows:.0f} rows an expert leave most of {instance.block_m} to padding"
    return None


def _spare_columns(problem: Problem, instance: Instance) -> str | None:
    columns, width = _columns(problem, instance), gfx9_tile(instance).block_n
    if round_up(columns, width) >= 2 * columns:
        return f"{columns} columns fill at most half of {width}"
    return None


def _parts(problem: Problem, instance: Instance) -> str | None:
    if instance.split_k and expert_rows(problem) > 2 * instance.block_m:
        return "row blocks fill the device without parts of the reduction"
    return None


def _rounds(problem: Problem, instance: Instance) -> str | None:
    if not gfx9_tile(instance).persistent:
        return None
    blocks = problem.token * problem.topk / instance.block_m + problem.experts
    items = blocks * ceil_div(_columns(problem, instance), gfx9_tile(instance).block_n)
    at_a_time = device_of(instance).compute_units * workgroups_per_cu(instance)
    if items <= at_a_time:
        return f"about {items:.0f} work items fit the device at a time"
    return None


WORTH_RULES: tuple[WorthRule, ...] = (_blocks, _padding, _spare_columns, _parts, _rounds)


def unsuited(problem: Problem, instance: Instance) -> str | None:
    """Return why a kernel that runs a problem cannot be the best for it, or None.

    Parameters
    ----------
    problem : Problem
        What is to be computed.
    instance : Instance
        A kernel of any target; rules are for ours on GPUs alone.
    """
    if not isinstance(instance.tile, Gfx9Tile):
        return None
    for rule in WORTH_RULES:
        reason = rule(problem, instance)
        if reason is not None:
            return reason
    return None
