# SPDX-License-Identifier: MIT
"""Which stage-2 kernel may follow which stage-1 kernel, with the reason where it may not.

Planner, tuner, builder, verification and tests ask here; nothing else decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from aiter_moe.codegen.instance import Instance, Output
from aiter_moe.enums import Kind

REQUANTISES = frozenset({"cpu"})
"""Targets whose launcher requantises a bf16 intermediate between the stages."""

PairRule = Callable[[Instance, Instance], str | None]


def _stages(stage1: Instance, stage2: Instance) -> str | None:
    if (stage1.stage, stage2.stage) != (1, 2):
        return f"kernels of stages {stage1.stage} and {stage2.stage}, a pair is 1 and 2"
    if stage1.target != stage2.target:
        return f"stage 1 is for {stage1.target}, stage 2 for {stage2.target}"
    return None


def _one_sort(stage1: Instance, stage2: Instance) -> str | None:
    if stage1.block_m != stage2.block_m:
        return f"block_m {stage1.block_m} and {stage2.block_m}: both stages read one sort"
    return None


def _one_routing(stage1: Instance, stage2: Instance) -> str | None:
    if stage1.tile.direct is not stage2.tile.direct:
        number = 1 if stage1.tile.direct else 2
        return f"stage {number} alone reads the routing directly, the other needs a sort"
    return None


def _intermediate(stage1: Instance, stage2: Instance) -> str | None:
    if stage2.kind is Kind.A16W4:
        fp4 = stage1.tile.output is Output.FP4
        return "stage 1 leaves fp4 codes, stage 2 reads bf16 rows" if fp4 else None
    if stage1.kind is not Kind.A4W4:
        return f"stage 1 is {stage1.kind}, stage 2 reads fp4 codes"
    if stage1.tile.output is Output.FP4 or stage1.target in REQUANTISES:
        return None
    if stage2.tile.direct:
        return None  # which quantises the rows itself
    return "stage 1 leaves bf16 rows, stage 2 reads fp4 codes"


PAIR_RULES: tuple[PairRule, ...] = (_stages, _one_sort, _one_routing, _intermediate)


def pair_refusal(stage1: Instance, stage2: Instance) -> str | None:
    """Return why `stage2` cannot follow `stage1` in one call, or None if it can.

    Parameters
    ----------
    stage1, stage2 : Instance
        Kernels that run the problem, each by itself.
    """
    for rule in PAIR_RULES:
        reason = rule(stage1, stage2)
        if reason is not None:
            return reason
    return None


def legal_pairs(
    firsts: Iterable[Instance], seconds: Iterable[Instance]
) -> Iterator[tuple[Instance, Instance]]:
    """Yield the pairs that can follow each other, by stage 2 and then by stage 1 as given."""
    firsts = tuple(firsts)
    for stage2 in seconds:
        for stage1 in firsts:
            if pair_refusal(stage1, stage2) is None:
                yield stage1, stage2
