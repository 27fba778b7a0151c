# SPDX-License-Identifier: MIT
"""The kernels that exist: one catalogue per target, a value to list, filter and test."""

from __future__ import annotations

from functools import cache

from aiter_moe.codegen.instance import Instance
from aiter_moe.errors import ArgumentError
from aiter_moe.problem import Problem

TARGETS = ("cpu", "gfx950", "gfx942")


@cache
def catalogue(target: str) -> tuple[Instance, ...]:
    """Return every instance of `target`, in a fixed order.

    Raises
    ------
    ArgumentError
        If the target is unknown.
    """
    if target == "cpu":
        from aiter_moe.codegen.cpu import cpu_instances

        return tuple(cpu_instances())
    if target == "gfx950":
        from aiter_moe.codegen.gfx9.gfx950 import gfx950_instances

        return tuple(gfx950_instances())
    if target == "gfx942":
        from aiter_moe.codegen.gfx9.gfx942 import gfx942_instances

        return tuple(gfx942_instances())
    raise ArgumentError(f"no target {target!r}; there are {', '.join(TARGETS)}")


@cache
def by_name(target: str) -> dict[str, Instance]:
    """Return the catalogue of `target` keyed by kernel name."""
    return {instance.name: instance for instance in catalogue(target)}


def instances_for(
    problem: Problem, target: str, stage: int, features: frozenset[str] = frozenset()
) -> list[Instance]:
    """Return the instances of one stage that support `problem`, in catalogue order.

    Parameters
    ----------
    problem : Problem
        What is to be computed.
    target : str
        Name of the target.
    stage : int
        1 or 2.
    features : frozenset of str
        Instruction-set features of the device (``DeviceFacts.features``).
    """
    return [
        instance
        for instance in catalogue(target)
        if instance.stage == stage
        and instance.tile.requires <= features
        and problem.supports(instance)
    ]
