# SPDX-License-Identifier: MIT
"""A layer's tiers as text cells and JSON: the chain of device kernels, the bound of each stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from aiter_moe.inspect.inspection import Inspection
from aiter_moe.inspect.shape import Tier
from aiter_moe.inspect.stage_cost import StageCost
from aiter_moe.tuning.report import MISSING, Table

# Device kernels of a call that the project promises at most: up to so many tokens, and above.
FEW_TOKENS, FEW_KERNELS, MANY_KERNELS = 16, 2, 5

CHAIN_HEADER = ("kind", "tokens", "experts", "block_m", "row blocks", "kernels", "at most")
STAGE_HEADER = (
    "kind", "tokens", "stage", "groups", "a CU", "MB", "GB/s", "matrix", "issue", "LDS", "memory",
    "bound",
)  # fmt: skip


def promised(tokens: int) -> int:
    """Return how many device kernels a call of so many tokens may have."""
    return FEW_KERNELS if tokens <= FEW_TOKENS else MANY_KERNELS


def inspections(tiers: Sequence[Tier]) -> list[Inspection]:
    """Return the stage kernels of all tiers, each once, in order."""
    found = {inspection.name: inspection for tier in tiers for inspection, _ in tier.stages}
    return list(found.values())


def chain_table(tiers: Sequence[Tier]) -> Table:
    """Return a line per tier: what is routed, and how many device kernels a call has."""
    lines = tuple(
        (
            str(tier.plan.problem.kind), str(tier.tokens), str(tier.active),
            str(tier.plan.block_m), str(tier.blocks), str(len(tier.kernels)),
            str(promised(tier.tokens)),
        )
        for tier in tiers
    )  # fmt: skip
    return Table(CHAIN_HEADER, lines)


def chain_lines(tiers: Sequence[Tier]) -> list[str]:
    """Return the device kernels of each tier in order, and where its plan comes from."""
    lines = []
    for tier in tiers:
        lines.append(f"{tier.plan.problem.kind}, tokens {tier.tokens}: {tier.plan.source}")
        lines += [f"  {n}  {name}" for n, name in enumerate(tier.kernels, 1)]
    return lines


def stage_table(tiers: Sequence[Tier]) -> Table:
    """Return a line per stage: work, bytes, and microseconds by what they wait for."""
    lines = []
    for tier in tiers:
        for number, (_, cost) in enumerate(tier.stages, 1):
            left = (str(tier.plan.problem.kind), str(tier.tokens), str(number))
            lines.append((*left, *_cost_cells(cost)))
    return Table(STAGE_HEADER, tuple(lines))


def _cost_cells(cost: StageCost | None) -> tuple[str, ...]:
    if cost is None:
        return (MISSING,) * (len(STAGE_HEADER) - 3)
    return (
        str(cost.work.items),
        str(cost.resident),
        f"{cost.work.bytes / 1e6:.1f}",
        f"{cost.bytes_per_s / 1e9:.0f}",
        *(f"{value:.1f}" for value in cost.microseconds.named().values()),
        cost.bound,
    )


def as_json(tiers: Sequence[Tier]) -> list[dict[str, Any]]:
    """Return all figures of the tiers."""
    return [
        {
            "kind": str(tier.plan.problem.kind),
            "tokens": tier.tokens,
            "block_m": tier.plan.block_m,
            "ksplit": tier.plan.ksplit,
            "source": tier.plan.source,
            "active_experts": tier.active,
            "row_blocks": tier.blocks,
            "kernels": list(tier.kernels),
            "kernels_at_most": promised(tier.tokens),
            "stages": [
                {"kernel": inspection.name, "cost": _cost_json(cost)}
                for inspection, cost in tier.stages
            ],
        }
        for tier in tiers
    ]


def _cost_json(cost: StageCost | None) -> dict[str, Any] | None:
    if cost is None:
        return None
    return {
        **asdict(cost.work),
        "groups_a_cu": cost.resident,
        "rounds": cost.rounds,
        "bytes_per_s": cost.bytes_per_s,
        "microseconds": cost.microseconds.named(),
        "bound": cost.bound,
    }
