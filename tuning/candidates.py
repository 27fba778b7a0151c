# SPDX-License-Identifier: MIT
"""Every legal (instance, block_m, ksplit) of both stages of a problem: what a sweep tries.

Legality is the catalogue's constraints and `verdict.split_refusal`, the same that the dispatcher
asks; nothing is added here but the order and the choice of instruction sets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aiter_moe.codegen.catalogue import instances_for
from aiter_moe.codegen.constraints import KSPLITS
from aiter_moe.codegen.cpu import CpuTile, best_isa
from aiter_moe.codegen.instance import Instance
from aiter_moe.enums import Kind
from aiter_moe.problem import Problem
from aiter_moe.targets.base import DeviceFacts
from aiter_moe.verdict import split_refusal


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to run one stage.

    Attributes
    ----------
    instance : Instance
        The kernel; its block_m is the sort block.
    ksplit : int
        Parts of stage 1's reduction: 0 for a4w4 by rule, 1 unsplit, more for a split-k kernel.
        0 in stage 2.
    """

    instance: Instance
    ksplit: int = 0

    @property
    def stage(self) -> int:
        """1 or 2."""
        return self.instance.stage

    @property
    def block_m(self) -> int:
        """Sorted rows per block, which both stages of a plan share."""
        return self.instance.block_m

    def __str__(self) -> str:
        split = f" ksplit {self.ksplit}" if self.ksplit > 1 else ""
        return f"{self.instance.name}{split}"


def _splits(problem: Problem, instance: Instance) -> tuple[int, ...]:
    if instance.stage == 2:
        return (0,)
    asked = (0,) if problem.kind is Kind.A4W4 else KSPLITS
    return tuple(k for k in asked if split_refusal(problem, instance, k) is None)


def best_isas(instances: Iterable[Instance], facts: DeviceFacts) -> list[Instance]:
    """Drop CPU kernels of lesser instruction sets than the best that the device has for their kind.

    A portable kernel is not worth timing where an AVX-512 one of the same kind runs. Those of other
    targets stay.
    """
    return [
        i
        for i in instances
        if not isinstance(i.tile, CpuTile) or i.tile.isa == best_isa(i.kind, facts.features)
    ]


def candidates(problem: Problem, facts: DeviceFacts, all_isa: bool = False) -> list[Candidate]:
    """Return what a sweep of `problem` tries, stage 1 before stage 2, in a fixed order.

    Parameters
    ----------
    problem : Problem
        What is to be computed. The second stage of an a4w4 problem has two ways in: requantise
        (a4w4 kernels) and skip it (a16w4 kernels, ``skip_inter_quant``); both are listed.
    facts : DeviceFacts
        The device; its features limit the instances.
    all_isa : bool
        Keep instances of lesser instruction sets, see `best_isas`.

    Returns
    -------
    list of Candidate
        Sorted by stage, operand kind of the problem first, block_m, ksplit and name.
    """
    found: list[Candidate] = []
    for stage in (1, 2):
        instances = instances_for(problem, facts.gfx, stage, facts.features)
        kept = instances if all_isa else best_isas(instances, facts)
        found += [Candidate(i, k) for i in kept for k in _splits(problem, i)]
    return sorted(
        found,
        key=lambda c: (
            c.stage,
            c.instance.kind is not problem.kind,
            c.block_m,
            c.ksplit,
            c.instance.name,
        ),
    )
