# SPDX-License-Identifier: MIT
"""The device kernels of one `fused_moe` call: those of its plan, for each run of its tokens.

What a call really launches is `aiter_moe.forward`; a test holds this to what the emulator saw.
"""

from __future__ import annotations

import torch

from aiter_moe.pipeline import chain
from aiter_moe.plan import Plan
from aiter_moe.problem import Problem
from aiter_moe.runs import run_length, token_bytes
from aiter_moe.sizes import ceil_div


def call_kernels(plan: Plan, tokens: int) -> tuple[str, ...]:
    """Return the symbols of the kernels that a call launches, in order.

    Parameters
    ----------
    plan : Plan
        What the call dispatches to.
    tokens : int
        Rows of its hidden states; many are computed in runs, each with all of the kernels.
    """
    return chain(plan) * runs(plan.problem, tokens, plan.stage1.target)


def runs(problem: Problem, tokens: int, gfx: str) -> int:
    """Return the runs of tokens that a call is cut into, so that offsets stay within 31 bits."""
    hidden = torch.empty((tokens, problem.model_dim), dtype=problem.dtype, device="meta")
    row = token_bytes(hidden, problem.topk, problem.model_dim, problem.inter_dim, gfx)
    return ceil_div(tokens, run_length(tokens, row))
