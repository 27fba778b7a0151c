# SPDX-License-Identifier: MIT
"""Kernels that share a main loop are verified together: which they are, and their cases.

Kernels that differ in activation or output alone run the same loop before another epilogue, and
CPU kernels that differ in columns or prefetch distance alone share their machine code. The
combinations of a family hold every pair of values of two axes, which kernel being one of the
axes: each kernel meets every value of every axis, and the loop meets every pair.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from aiter_moe.codegen.instance import Instance
from aiter_moe.verify.covering import pairwise
from aiter_moe.verify.problems import CONSTANTS, Axis, Size, StageCase, axes_of

Family = tuple[Instance, ...]
"""Kernels that differ in activation, output and run-time numbers alone, in catalogue order."""

WORK_UNIT = 2e8
"""Multiplications of a case that cost as much as making and judging it."""


class Cases(NamedTuple):
    """The chosen cases of a family, and what no case can hold: reason -> pairs of values."""

    cases: tuple[StageCase, ...]
    refused: Counter[str]


def families_of(instances: Iterable[Instance]) -> tuple[Family, ...]:
    """Return the families of kernels, in the order of their first members."""
    found: dict[object, list[Instance]] = {}
    for instance in instances:
        found.setdefault(_loop(instance), []).append(instance)
    return tuple(tuple(members) for members in found.values())


def _loop(instance: Instance) -> object:
    tile = instance.tile
    choices = {name: v for name, v in tile.parameters().items() if name != "output"}
    family = (instance.target, instance.kind, instance.stage, instance.block_m, instance.split_k)
    axes = tuple(axis for axis in axes_of(instance) if axis.name != "constants")
    return (*family, instance.family, tile.template, tuple(sorted(choices.items())), axes)


def axes_of_family(family: Family) -> tuple[Axis, ...]:
    """Return the kernel as an axis, then those of a kernel; constants are told by position."""
    shared = [
        Axis("constants", (0, 1)) if axis.name == "constants" else axis
        for axis in axes_of(family[0])
    ]
    return (Axis("instance", family), *shared)


def case_of(choice: dict[str, Any], seed: int) -> StageCase:
    """Return the case of a combination of values of `axes_of_family`."""
    own = CONSTANTS[choice["instance"].activation]
    return StageCase(**choice | {"constants": own[choice["constants"] % len(own)]}, seed=seed)


def family_seed(seed: int, family: Family) -> int:
    """Return the seed of a family's cases: the same in every process, another for every one."""
    return zlib.crc32(f"{seed} {family[0].name}".encode())


def cases_of(family: Family, seed: int) -> Cases:
    """Choose the cases of a family; those that share weights come one after the other."""
    first = family_seed(seed, family)
    covering = pairwise(
        axes_of_family(family), lambda choice: case_of(choice, 0).refusal(), first, _work
    )
    cases = [case_of(choice, first + at) for at, choice in enumerate(covering.choices)]
    cases.sort(key=lambda case: (case.size, case.scales.value))
    return Cases(tuple(cases), covering.refused)


def _work(choice: dict[str, Any]) -> float:
    """Return what running a combination costs beside what any costs."""
    size: Size = choice["size"]
    rows: int = choice["tokens"] * choice["topk"]
    padded = rows + choice["instance"].block_m * min(rows, 2 * choice["topk"] + 1)
    return float(padded * size.hidden * size.inter / WORK_UNIT)
