# SPDX-License-Identifier: MIT
"""Which problems CK's MoE flatmm can run: it reads whole tensors of whole tiles, and no others."""

from __future__ import annotations

import torch

from aiter_moe.codegen.cktile.tile import cktile
from aiter_moe.codegen.constraints import Rule
from aiter_moe.codegen.gfx9.rules import too_large
from aiter_moe.codegen.instance import Instance
from aiter_moe.enums import GateMode
from aiter_moe.problem import Problem


def _interleaved(problem: Problem, instance: Instance) -> str | None:
    if instance.stage == 1 and problem.gate_mode is not GateMode.INTERLEAVE:
        return "CK-tile reads gate and up rows of w1 interleaved by 16"
    return None


def _bias(problem: Problem, instance: Instance) -> str | None:
    has = cktile(instance).bias
    if problem.has_bias is has:
        return None
    return "the kernel adds a bias, there is none" if has else "the kernel adds no bias"


def _weighted(problem: Problem, instance: Instance) -> str | None:
    if problem.doweight_stage1:
        return "CK-tile multiplies routing weights in stage 2 alone"
    return None


def _bf16_output(problem: Problem, instance: Instance) -> str | None:
    if instance.stage == 2 and problem.dtype is not torch.bfloat16:
        return f"CK-tile adds bfloat16 to the output, which is {problem.dtype}"
    return None


def _whole_blocks(problem: Problem, instance: Instance) -> str | None:
    tile = cktile(instance)
    first = instance.stage == 1
    k, n = (
        (problem.model_dim, 2 * problem.inter_dim)
        if first
        else (problem.inter_dim, problem.model_dim)
    )
    if k % tile.block_k:
        return f"a reduction of {k} is not a multiple of CK-tile's {tile.block_k}"
    if n % tile.block_n:
        return f"{n} weight rows are not a multiple of the tile's {tile.block_n}"
    return None


def _unpadded(problem: Problem, instance: Instance) -> str | None:
    """Refuse padding: it would be computed too, and rows are written as wide as the weights."""
    if problem.hidden_pad or problem.intermediate_pad:
        return (
            f"CK-tile computes padding too (hidden_pad {problem.hidden_pad}, intermediate_pad "
            f"{problem.intermediate_pad})"
        )
    return None


def _offsets(problem: Problem, instance: Instance) -> str | None:
    tokens, pairs = problem.token, problem.token * problem.topk
    hidden, inter = 2 * problem.model_dim, 2 * problem.inter_dim
    first = instance.stage == 1
    return too_large(
        {
            "activations": tokens * hidden if first else pairs * inter,
            "output rows": pairs * inter if first else tokens * hidden,
            "weights of an expert": (2 if first else 1) * problem.inter_dim * problem.model_dim,
        }
    )


RULES: tuple[Rule, ...] = (
    Rule("interleaved gate and up", _interleaved),
    Rule("bias as compiled", _bias),
    Rule("weights in stage 2", _weighted),
    Rule("bf16 output", _bf16_output),
    Rule("whole blocks", _whole_blocks),
    Rule("no padding", _unpadded),
    Rule("31-bit offsets", _offsets),
)
