# SPDX-License-Identifier: MIT
"""What is to be computed: one MoE layer call, in logical sizes only.

Physical sizes (padding, permutation) belong to `aiter_moe.layouts`; how it is computed belongs
to `aiter_moe.codegen.instance`. Token tiers are in `token_tier`, the only place that maps a
token count to the row of a tuned table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from aiter_moe import dtypes
from aiter_moe.enums import ActivationType, GateMode, Kind, QuantType

LARGE_TIER = 32768
MAX_TIER = 131072


def token_tier(tokens: int) -> int:
    """Return the tuned-table tier of a token count (aiter ``get_padded_M``).

    The next power of two below 32768, then 32768 up to 131071 tokens, then 131072.

    Parameters
    ----------
    tokens : int
        Rows of the activation matrix.
    """
    if tokens <= 1:
        return 1
    if tokens < LARGE_TIER:
        return 1 << (tokens - 1).bit_length()
    return LARGE_TIER if tokens < MAX_TIER else MAX_TIER


Q_DTYPE_A = {Kind.A16W4: dtypes.bf16, Kind.A4W4: dtypes.fp4x2}
"""Activation type of the GEMMs (aiter's ``q_dtype_a``) that each kind stands for."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a problem fits an instance; true when it does, else it carries the reason."""

    reason: str = ""

    def __bool__(self) -> bool:
        return not self.reason

    def __str__(self) -> str:
        return self.reason or "supported"


class Constrained(Protocol):
    """Anything that lists the constraints a problem must meet to run on it."""

    @property
    def constraints(self) -> Sequence[Constraint]:
        """Everything a problem must meet to run on it."""


class Constraint(Protocol):
    """A named predicate on (problem, instance) that gives a reason when it does not hold."""

    def reject(self, problem: Problem, instance: object) -> str | None:
        """Return why `problem` cannot run on `instance`, or None."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One two-stage MoE computation at one token tier.

    Attributes
    ----------
    token : int
        Token tier (`token_tier` of the row count).
    model_dim, inter_dim : int
        Logical hidden size, and intermediate size of this rank, in elements.
    experts, topk : int
        Experts whose weights this rank holds; routed experts per token.
    activation : ActivationType
        Gate/up activation.
    q_dtype_a : torch.dtype
        Activations as the GEMM sees them: ``dtypes.fp4x2`` (a4w4) or ``torch.bfloat16`` (a16w4).
    dtype : torch.dtype
        Hidden states; the output has this type too unless the caller names another.
    has_bias : bool
        Both stages add a per-expert f32 bias.
    gate_mode : GateMode
        Row order of w1: gate rows then up rows, or interleaved by 16.
    hidden_pad, intermediate_pad : int
        Elements by which the weights are larger than `model_dim` and `inter_dim`; most kernels
        do not mind.
    """

    token: int
    model_dim: int
    inter_dim: int
    experts: int
    topk: int
    activation: ActivationType
    q_dtype_a: torch.dtype
    dtype: torch.dtype = torch.bfloat16
    q_dtype_w: torch.dtype = dtypes.fp4x2
    q_type: QuantType = QuantType.per_1x32
    use_g1u1: bool = True
    doweight_stage1: bool = False
    has_bias: bool = False
    gate_mode: GateMode = GateMode.SEPARATED
    hidden_pad: int = 0
    intermediate_pad: int = 0

    @property
    def kind(self) -> Kind:
        """a4w4 for fp4x2 activations, else a16w4."""
        return Kind.A4W4 if self.q_dtype_a == dtypes.fp4x2 else Kind.A16W4

    def supports(self, instance: Constrained) -> Verdict:
        """Say whether `instance` can run this problem, and if not, why.

        Parameters
        ----------
        instance : codegen.instance.Instance
            A kernel of any target's catalogue.

        Returns
        -------
        Verdict
            True in a condition when supported; otherwise false, with ``reason`` set.
        """
        for constraint in instance.constraints:
            reason = constraint.reject(self, instance)
            if reason is not None:
                return Verdict(reason)
        return Verdict()
