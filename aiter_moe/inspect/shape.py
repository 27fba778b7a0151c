# SPDX-License-Identifier: MIT
"""A layer at some token counts: its plans, the device kernels of a call, what bounds each stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiter_moe.codegen.instance import ACTIVATIONS, Instance, Output
from aiter_moe.configs.lookup import stamps, table_of
from aiter_moe.configs.table import ConfigTable
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.errors import ArgumentError
from aiter_moe.formats import MX_BLOCK
from aiter_moe.inspect.chain import call_kernels
from aiter_moe.inspect.declared import declared
from aiter_moe.inspect.inspection import Inspection, inspect_instance
from aiter_moe.inspect.stage_cost import StageCost, StageWork, stage_cost
from aiter_moe.plan import Plan, make_plan
from aiter_moe.problem import Q_DTYPE_A, Problem, token_tier
from aiter_moe.sizes import ceil_div
from aiter_moe.targets.base import DeviceFacts
from aiter_moe.targets.registry import GFX9_CUS
from aiter_moe.tuning.model_shapes import MODELS, ModelShape
from aiter_moe.tuning.operands import Layer, routing

SEED = 0
# Bytes of an element of activations, by what a kernel reads.
WIDTH = {Kind.A16W4: 2.0, Kind.A4W4: 0.5 + 1 / MX_BLOCK}
WEIGHT_BYTES = 0.5 + 1 / MX_BLOCK
# Bytes of an element a stage leaves behind: rows of stage 2 are float32 until they are summed.
OUT_BYTES = {
    Output.BF16: 2.0, Output.FP4: WEIGHT_BYTES, Output.ROWS: 4.0, Output.ATOMIC: 2.0,
    Output.FINAL: 2.0,
}  # fmt: skip
_SIZES = ("E", "topk", "hidden", "inter")


@dataclass(frozen=True)
class Tier:
    """A layer at one token count and operand kind.

    Attributes
    ----------
    tokens : int
        Rows of the hidden states.
    plan : Plan
        What a call dispatches to.
    kernels : tuple of str
        Device kernels of the call, in order.
    active : int
        Experts that get tokens, of the routing the tuner uses.
    blocks : int
        Sorted row blocks with work.
    stages : tuple of (Inspection, StageCost or None)
        Both stages' kernels and what bounds them.
    """

    tokens: int
    plan: Plan
    kernels: tuple[str, ...]
    active: int
    blocks: int
    stages: tuple[tuple[Inspection, StageCost | None], ...]


def shape_of(text: str) -> ModelShape:
    """Return the layer that a packaged name or ``E=32,topk=4,hidden=2880,inter=2880`` means.

    ``inter`` is that of the rank; ``act`` may be added, Silu is the default.

    Raises
    ------
    ArgumentError
        If it is neither.
    """
    named = {model.name: model for model in MODELS}
    if text in named:
        return named[text]
    pairs = [part.partition("=") for part in text.split(",")]
    given = {key.strip(): value.strip() for key, _, value in pairs}
    activation = _activation(given.pop("act", "silu"))
    if set(given) != set(_SIZES) or not all(v.isdecimal() and int(v) for v in given.values()):
        raise ArgumentError(
            f"--shape {text}: give E=32,topk=4,hidden=2880,inter=2880 (and act=swiglu where it is "
            f"not silu), or one of {', '.join(named)}"
        )
    experts, topk, hidden, inter = (int(given[key]) for key in _SIZES)
    return ModelShape(text, hidden, inter, experts, topk, activation)


def _activation(text: str) -> ActivationType:
    named = {a.name.lower(): a for a in ACTIVATIONS}
    if text.lower() not in named:
        raise ArgumentError(f"act={text}: give one of {', '.join(named)}")
    return named[text.lower()]


def problem_of(shape: ModelShape, kind: Kind, tokens: int) -> Problem:
    """Return the problem of a layer at a token count; Swiglu comes with biases, as when tuned."""
    return Problem(
        token=token_tier(tokens), model_dim=shape.hidden,
        inter_dim=shape.inter // shape.tensor_parallel, experts=shape.experts, topk=shape.topk,
        activation=shape.activation, q_dtype_a=Q_DTYPE_A[kind],
        has_bias=shape.activation is ActivationType.Swiglu,
    )  # fmt: skip


def plan_of(problem: Problem, target: str, table: ConfigTable | None = None) -> Plan:
    """Return what a call on a whole device of `target` dispatches to.

    Raises
    ------
    UnsupportedProblemError
        If no kernel runs the problem.
    """
    table = table_of(stamps(None)) if table is None else table
    return make_plan(problem, DeviceFacts(target, GFX9_CUS[target]), table)


def tiers_of(
    shape: ModelShape, target: str, kinds: Sequence[Kind], tokens: Sequence[int]
) -> list[Tier]:
    """Return a layer at every kind and token count, its kernels compiled and inspected."""
    known: dict[Instance, Inspection] = {}
    return [_tier(shape, target, kind, count, known) for kind in kinds for count in tokens]


def _tier(
    shape: ModelShape, target: str, kind: Kind, tokens: int, known: dict[Instance, Inspection]
) -> Tier:
    problem = problem_of(shape, kind, tokens)
    plan = plan_of(problem, target)
    load = expert_load(problem, tokens)
    blocks = sum(ceil_div(rows, plan.block_m) for rows in load.values())
    stages = []
    for instance in (plan.stage1, plan.stage2):
        if instance not in known:
            known[instance] = inspect_instance(instance)[0]
        work = stage_work(plan, instance, tokens, len(load), blocks)
        stages.append((known[instance], stage_cost(known[instance], work)))
    return Tier(tokens, plan, call_kernels(plan, tokens), len(load), blocks, tuple(stages))


def expert_load(problem: Problem, tokens: int) -> Mapping[int, int]:
    """Return the rows of each expert that gets any, of the routing the tuner measures with."""
    route = routing(Layer.of(problem), SEED, tokens)
    return Counter(route.ids.flatten().tolist())


def stage_work(plan: Plan, instance: Instance, tokens: int, active: int, blocks: int) -> StageWork:
    """Return what one stage of a plan has to do.

    Parameters
    ----------
    instance : Instance
        The plan's kernel of that stage.
    tokens, active, blocks : int
        Rows of the hidden states, experts with tokens, sorted row blocks.
    """
    problem, first = plan.problem, instance.stage == 1
    n, k = (problem.inter_dim, problem.model_dim)[:: 1 if first else -1]
    weight_rows, pairs = (2 * n if first else n), tokens * problem.topk
    moved = active * weight_rows * k * WEIGHT_BYTES
    moved += (tokens if first else pairs) * k * WIDTH[instance.kind]
    rows = tokens if instance.tile.output is Output.FINAL else pairs
    moved += rows * n * OUT_BYTES[instance.tile.output]
    return StageWork(
        items=_items(plan, instance, n, blocks),
        flops=2 * blocks * instance.block_m * weight_rows * k,
        bytes=round(moved),
    )


def _items(plan: Plan, instance: Instance, n: int, blocks: int) -> int:
    """Return the workgroups with work; those of a direct stage 2 own columns of all blocks."""
    told = declared(instance)
    columns = ceil_div(n, told.columns) if told else 1
    if instance.tile.direct and instance.stage == 2:
        return columns
    return blocks * columns * (max(plan.ksplit, 1) if instance.split_k else 1)
