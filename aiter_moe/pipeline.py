# SPDX-License-Identifier: MIT
"""The two-stage MoE as a sequence of launches, the same for every target.

Sort, (quantise), stage 1, (requantise), stage 2, reduce. Sizes and layouts were checked by the
caller (`aiter_moe.fused_moe`); which kernels run was decided by `aiter_moe.plan`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from aiter_moe.codegen.instance import Instance
from aiter_moe.enums import ActivationType, Kind, ScaleRounding
from aiter_moe.layouts import Layout, PackedWeight
from aiter_moe.targets.arguments import StageArgs
from aiter_moe.targets.base import Launcher, SortedTokens

SWIGLU_LIMIT = 7.0
"""Clamp of gpt-oss, the default of Swiglu."""


@dataclass(frozen=True, slots=True)
class Operand:
    """Rows a GEMM reads: bf16 values, or fp4 codes with one e8m0 scale per 32 elements.

    Attributes
    ----------
    values : torch.Tensor
        bf16 [rows, K], or uint8 codes [rows, K/2].
    scales : torch.Tensor or None
        uint8 [rows, K/32] for codes.
    """

    values: torch.Tensor
    scales: torch.Tensor | None = None

    @property
    def row_elements(self) -> int:
        """Elements from row to row."""
        stride = int(self.values.stride(0)) if self.values.shape[0] > 1 else self.values.shape[1]
        return 2 * stride if self.scales is not None else stride


@dataclass(frozen=True, slots=True)
class Experts:
    """The two weights of all local experts, with biases.

    Attributes
    ----------
    w1, w2 : PackedWeight
        Gate and up rows [E, 2*inter, hidden]; down rows [E, hidden, inter].
    bias1, bias2 : torch.Tensor or None
        float32 [E, 2*inter] and [E, hidden].
    """

    w1: PackedWeight
    w2: PackedWeight
    bias1: torch.Tensor | None = None
    bias2: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class ActivationConstants:
    """Run-time constants of the fused activation.

    Attributes
    ----------
    limit : float
        Clamp of Swiglu, or of Silu when above 0.
    beta, linear_beta : float
        Constants of Situv2.
    """

    limit: float = 0.0
    beta: float = 1.0
    linear_beta: float = 1.0

    @classmethod
    def of(
        cls,
        activation: ActivationType,
        limit: float | None = None,
        beta: float | None = None,
        linear_beta: float | None = None,
    ) -> ActivationConstants:
        """Return the constants of `activation`; None, and a limit of 0, take its defaults."""
        default = SWIGLU_LIMIT if activation is ActivationType.Swiglu else 0.0
        return cls(
            limit=float(limit or default),
            beta=1.0 if beta is None else float(beta),
            linear_beta=1.0 if linear_beta is None else float(linear_beta),
        )


@dataclass(frozen=True, slots=True)
class MoeCall:
    """What both stages of one call share.

    Attributes
    ----------
    launcher : Launcher
        Where kernels run.
    experts : Experts
        Weights and biases.
    sorted : SortedTokens
        Result of the sort with this call's block_m.
    tokens, topk : int
        Rows of the activations, routed experts per row.
    model_dim, inter_dim : int
        Sizes that are computed: those of the weights without the declared padding.
    doweight_stage1 : bool
        Routing weights multiply in stage 1 instead of stage 2.
    constants : ActivationConstants
        Of the activation that stage 1 fuses.
    """

    launcher: Launcher
    experts: Experts
    sorted: SortedTokens
    tokens: int
    topk: int
    model_dim: int
    inter_dim: int
    doweight_stage1: bool = False
    constants: ActivationConstants = ActivationConstants()


@dataclass(slots=True)
class _Launch:
    """Arguments of one launch, and the tensors they point into."""

    args: StageArgs = field(default_factory=StageArgs)
    tensors: list[torch.Tensor] = field(default_factory=list)

    def point(self, name: str, tensor: torch.Tensor) -> None:
        """Let an argument point to the first element of `tensor`."""
        setattr(self.args, name, tensor.data_ptr())
        self.tensors.append(tensor)


def _launch(call: MoeCall, weight: PackedWeight, operand: Operand, doweight: bool) -> _Launch:
    launch = _Launch()
    args = launch.args
    launch.point("x", operand.values)
    args.x_stride = operand.row_elements
    if operand.scales is not None:
        scales = call.launcher.stage_scales(operand.scales, call.sorted, call.tokens)
        launch.point("x_scale", scales)
        args.x_scale_stride = scales.shape[1]
    launch.point("w", weight.codes)
    launch.point("w_scale", weight.scales)
    args.w_rows = weight.physical_rows
    args.w_k = weight.physical_cols
    args.w_scale_cols = weight.scale_cols
    args.interleaved = int(weight.layout is Layout.SHUFFLED_GATE_UP)
    launch.point("sorted_ids", call.sorted.ids)
    launch.point("sorted_weights", call.sorted.weights)
    launch.point("sorted_expert_ids", call.sorted.expert_ids)
    launch.point("num_valid_ids", call.sorted.num_valid)
    args.tokens = call.tokens
    args.topk = call.topk
    args.doweight = int(doweight)
    args.ksplit = 1
    return launch


def _add_bias(launch: _Launch, bias: torch.Tensor | None) -> None:
    if bias is not None:
        launch.point("bias", bias)
        launch.args.bias_stride = bias.shape[1]


def stage1(call: MoeCall, x: Operand, *, instance: Instance, ksplit: int) -> torch.Tensor:
    """Run gate/up projection and activation.

    Parameters
    ----------
    call : MoeCall
        Shared state of the call.
    x : Operand
        Activations by token, [tokens, model_dim].
    instance : Instance
        Stage-1 kernel.
    ksplit : int
        Parts of the reduction; below 2 means unsplit.

    Returns
    -------
    torch.Tensor
        bfloat16 [tokens * topk, inter_dim]; rows of experts held elsewhere are not written.
    """
    device = x.values.device
    out = call.launcher.empty((call.tokens * call.topk, call.inter_dim), torch.bfloat16, device)
    launch = _launch(call, call.experts.w1, x, call.doweight_stage1)
    _add_bias(launch, call.experts.bias1)
    launch.point("out", out)
    args = launch.args
    args.n, args.k = call.inter_dim, call.model_dim
    args.out_stride = out.stride(0)
    blocks = call.sorted.expert_ids.shape[0]
    args.sorted_rows = blocks * instance.block_m
    args.limit = call.constants.limit
    args.beta = call.constants.beta
    args.linear_beta = call.constants.linear_beta
    if instance.split_k:
        args.ksplit = max(ksplit, 1)
        shape = (args.ksplit, args.sorted_rows, 2 * call.inter_dim)
        launch.point("workspace", call.launcher.empty(shape, torch.float32, device))
    call.launcher.run_stage(instance, args, launch.tensors)
    return out


def stage2(call: MoeCall, a2: Operand, *, instance: Instance) -> torch.Tensor:
    """Run the down projection.

    Parameters
    ----------
    call : MoeCall
        Shared state of the call.
    a2 : Operand
        Intermediate rows, [tokens * topk, inter_dim].
    instance : Instance
        Stage-2 kernel.

    Returns
    -------
    torch.Tensor
        float32 [tokens * topk, model_dim], one row per (token, slot), not yet reduced.
    """
    shape = (call.tokens * call.topk, call.model_dim)
    rows = call.launcher.empty(shape, torch.float32, a2.values.device)
    launch = _launch(call, call.experts.w2, a2, not call.doweight_stage1)
    _add_bias(launch, call.experts.bias2)
    launch.point("out", rows)
    args = launch.args
    args.n, args.k = call.model_dim, call.inter_dim
    args.out_stride = rows.stride(0)
    args.sorted_rows = call.sorted.expert_ids.shape[0] * instance.block_m
    call.launcher.run_stage(instance, args, launch.tensors)
    return rows


def quantised(launcher: Launcher, rows: torch.Tensor) -> Operand:
    """Quantise rows [R, K] to MXFP4 with aiter's default scale rule (RoundUp)."""
    codes, scales = launcher.quantise(rows, ScaleRounding.RoundUp)
    return Operand(codes, scales)


def intermediate(call: MoeCall, rows: torch.Tensor, stage2_instance: Instance) -> Operand:
    """Give stage 2 its operand: bf16 rows as they are, or requantised to fp4."""
    if stage2_instance.kind is Kind.A16W4:
        return Operand(rows)
    return quantised(call.launcher, rows)
