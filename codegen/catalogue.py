# SPDX-License-Identifier: MIT
"""The kernels that exist: one catalogue per target, a value to list, filter and test."""

from __future__ import annotations

from enum import Enum
from functools import cache

from aiter_moe.codegen.instance import Instance
from aiter_moe.errors import ArgumentError
from aiter_moe.problem import Problem

TARGETS = ("cpu", "gfx950", "gfx942")


class Family(Enum):
    """Whose device code kernels are made from."""

    OWN = "own"
    CKTILE = "cktile"
    ALL = "all"


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


def offered(target: str) -> tuple[Instance, ...]:
    """Return the catalogue, then what other families add where their headers are.

    Raises
    ------
    ArgumentError
        If the target is unknown.
    """
    from aiter_moe.codegen.cktile import absence, cktile_instances

    others = cktile_instances(target)
    return catalogue(target) + (() if others and absence() else others)


def of_family(target: str, family: Family) -> tuple[Instance, ...]:
    """Return the instances of one family, or of all that are offered.

    Raises
    ------
    ToolchainError
        If the family's headers are not there.
    ArgumentError
        If the target is unknown, or has no kernel of the family.
    """
    from aiter_moe.codegen.cktile import cktile_instances, require_headers

    if family is Family.ALL:
        return offered(target)
    if family is Family.OWN:
        return catalogue(target)
    found = cktile_instances(target)
    if not found:
        raise ArgumentError(f"target {target} has no CK-tile kernels; gfx950 has")
    require_headers()
    return found


def family_note(target: str, shown: Family) -> str:
    """Return a line on kernels of other families than those `shown`, "" if there is none."""
    from aiter_moe.codegen.cktile import absence, cktile_instances

    others = cktile_instances(target)
    missing = absence() if others else ""
    if missing:
        return f"CK-tile kernels are left out: {missing}"
    if others and shown is Family.OWN:
        return f"beside these {len(others)} CK-tile kernels of aiter's names: --family cktile"
    return ""


def why_no_kernel(target: str, name: str) -> str:
    """Return why a name that aiter gives a kernel is not offered, "" for any other name."""
    from aiter_moe.codegen.cktile import absence, cktile_instances, left_out

    if any(instance.name == name for instance in cktile_instances(target)):
        return absence()
    return left_out(target).get(name, "")


def by_name(target: str) -> dict[str, Instance]:
    """Return what is offered for `target` keyed by kernel name."""
    own = _own_by_name(target)
    return own | {instance.name: instance for instance in offered(target)[len(own) :]}


@cache
def _own_by_name(target: str) -> dict[str, Instance]:
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
        for instance in offered(target)
        if instance.stage == stage
        and instance.tile.requires <= features
        and problem.supports(instance)
    ]
