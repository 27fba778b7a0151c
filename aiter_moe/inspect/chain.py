# SPDX-License-Identifier: MIT
"""The device kernels of one `fused_moe` call, in order, from its plan alone.

What a call really launches is `aiter_moe.forward`; a test holds this to what the emulator saw.
"""

from __future__ import annotations

import torch

from aiter_moe.codegen.cktile.tile import ODD_SUFFIX, CkTile
from aiter_moe.codegen.gfx9 import FINISH_SUFFIX
from aiter_moe.codegen.gfx9.steps import PREFIX
from aiter_moe.codegen.instance import Instance, Output
from aiter_moe.enums import Kind
from aiter_moe.forward import run_length, token_bytes
from aiter_moe.plan import Plan
from aiter_moe.problem import Problem
from aiter_moe.sizes import ceil_div
from aiter_moe.targets.device_steps import ELEMENTS


def chain(plan: Plan, tokens: int) -> tuple[str, ...]:
    """Return the symbols of the kernels that a call launches, in order.

    Parameters
    ----------
    plan : Plan
        What the call dispatches to.
    tokens : int
        Rows of its hidden states; many are computed in runs, each with all of the kernels.
    """
    return _of_a_run(plan) * runs(plan.problem, tokens)


def runs(problem: Problem, tokens: int) -> int:
    """Return the runs of tokens that a call is cut into, so that offsets stay within 31 bits."""
    hidden = torch.empty((tokens, problem.model_dim), dtype=problem.dtype, device="meta")
    row = token_bytes(hidden, problem.topk, problem.model_dim, problem.inter_dim)
    return ceil_div(tokens, run_length(tokens, row))


def _of_a_run(plan: Plan) -> tuple[str, ...]:
    problem = plan.problem
    stages = _stage(plan.stage1, problem.model_dim), _stage(plan.stage2, problem.inter_dim)
    if plan.stage1.tile.direct:
        return (*stages[0], *stages[1])
    between = plan.stage1.tile.output is Output.BF16 and plan.stage2.kind is Kind.A4W4
    element = ELEMENTS[problem.dtype]
    return (
        f"{PREFIX}sort",
        *([f"{PREFIX}quantise_{element}"] if problem.kind is Kind.A4W4 else []),
        *stages[0],
        *([f"{PREFIX}quantise_bf16"] if between else []),
        *stages[1],
        *([f"{PREFIX}reduce_{element}"] if plan.stage2.tile.output is Output.ROWS else []),
    )


def _stage(instance: Instance, k: int) -> tuple[str, ...]:
    """Return the kernels of a stage whose reduction has `k` elements."""
    if isinstance(instance.tile, CkTile):
        odd = k // instance.tile.block_k % 2
        return (instance.name + ODD_SUFFIX * odd,)
    return (instance.name, *([instance.name + FINISH_SUFFIX] if instance.split_k else []))
