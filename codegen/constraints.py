# SPDX-License-Identifier: MIT
"""Constraints as data: what a problem must be for an instance to run it, with reasons.

The dispatcher, the tuner, the builder and the docs read these lists; nothing else decides.
Constraints of one target's tiles stand beside the tiles (`codegen.cpu`, `codegen.gfx9`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from aiter_moe import dtypes
from aiter_moe.enums import ActivationType, GateMode, Kind, QuantType
from aiter_moe.formats import MX_BLOCK
from aiter_moe.problem import Q_DTYPE_A, Problem

if TYPE_CHECKING:
    from aiter_moe.codegen.instance import Instance

KSPLITS = (1, 2, 4)
"""Parts that split-k kernels cut the reduction of a16w4 stage 1 into; 1 is unsplit."""

WITHOUT_KIND = {("gfx942", Kind.A4W4): "gfx942 has no matrix instruction for fp4 operands"}
"""Why a target has no kernels of an operand kind."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A named predicate: `check` returns the reason a problem is refused, or None."""

    name: str
    check: Callable[[Problem, Instance], str | None]

    def reject(self, problem: Problem, instance: object) -> str | None:
        """Return why `problem` cannot run on `instance`, or None if this rule lets it."""
        return self.check(problem, instance)  # type: ignore[arg-type]


def _weights(problem: Problem, instance: Instance) -> str | None:
    if problem.q_dtype_w != dtypes.fp4x2 or problem.q_type is not QuantType.per_1x32:
        return f"weights are {problem.q_dtype_w} {problem.q_type}, kernels read MXFP4 per_1x32"
    return None


def _kind(problem: Problem, instance: Instance) -> str | None:
    if problem.kind is instance.kind:
        return None
    if instance.stage == 2 and instance.kind is Kind.A16W4:
        return None  # an a4w4 problem may skip the requantisation (skip_inter_quant)
    why = WITHOUT_KIND.get((instance.target, problem.kind))
    return f"the problem is {problem.kind}, the kernel is {instance.kind}" + (
        f" ({why})" if why else ""
    )


def _activation_dtype(problem: Problem, instance: Instance) -> str | None:
    if problem.q_dtype_a not in Q_DTYPE_A.values():
        return f"activations of type {problem.q_dtype_a}: only fp4x2 and bfloat16 have kernels"
    return None


def _dtype(problem: Problem, instance: Instance) -> str | None:
    if problem.dtype is torch.bfloat16:
        return None
    if problem.dtype is torch.float16 and problem.kind is Kind.A4W4:
        return None
    return f"hidden states of type {problem.dtype}: {problem.kind} takes bfloat16" + (
        " or float16" if problem.kind is Kind.A4W4 else ""
    )


def _activation(problem: Problem, instance: Instance) -> str | None:
    if instance.stage == 2:
        return None
    if problem.activation is not instance.activation:
        want = instance.activation.name if instance.activation else "none"
        return f"activation {problem.activation.name}, the kernel fuses {want}"
    return None


def _gated(problem: Problem, instance: Instance) -> str | None:
    if not problem.use_g1u1:
        return "w1 has no up rows (g1u0); kernels compute gate and up (g1u1)"
    if problem.gate_mode not in (GateMode.SEPARATED, GateMode.INTERLEAVE):
        return f"gate mode {problem.gate_mode.value!r}: kernels read separated or interleave"
    if problem.activation is ActivationType.No:
        return "activation No has no kernel"
    return None


def _mx_blocks(problem: Problem, instance: Instance) -> str | None:
    for name, size in (("model_dim", problem.model_dim), ("inter_dim", problem.inter_dim)):
        if size % MX_BLOCK or size <= 0:
            return f"{name} {size} is not a positive multiple of the MX block of {MX_BLOCK}"
    return None


def _no_split_for_fp4(problem: Problem, instance: Instance) -> str | None:
    if instance.split_k and (problem.kind is Kind.A4W4 or instance.kind is Kind.A4W4):
        return "split-k is never used with fp4x2 activations"
    return None


def _split_in_stage1(problem: Problem, instance: Instance) -> str | None:
    if instance.split_k and instance.stage != 1:
        return "split-k belongs to stage 1"
    return None


GENERAL: tuple[Rule, ...] = (
    Rule("mxfp4 weights", _weights),
    Rule("activation dtype", _activation_dtype),
    Rule("operand kind", _kind),
    Rule("hidden dtype", _dtype),
    Rule("activation", _activation),
    Rule("gated w1", _gated),
    Rule("mx blocks", _mx_blocks),
    Rule("no split-k for fp4", _no_split_for_fp4),
    Rule("split-k in stage 1", _split_in_stage1),
)


def legal_ksplit(problem: Problem, ksplit: int, k_block: int = 2 * MX_BLOCK) -> str | None:
    """Return why `ksplit` is illegal for stage 1 of `problem`, or None.

    a4w4 takes 0 alone. a16w4 takes 1 (or 0, the same) or any split that leaves every part at
    least one whole block of `k_block` elements; parts may differ by one block.
    """
    if problem.kind is Kind.A4W4:
        return None if ksplit == 0 else "split-k is never used with fp4x2 activations"
    if ksplit < 0:
        return f"ksplit {ksplit} is negative"
    blocks = problem.model_dim // k_block
    if ksplit > 1 and blocks < ksplit:
        return f"ksplit {ksplit} leaves a part of model_dim {problem.model_dim} without a K block"
    return None
