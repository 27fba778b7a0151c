# SPDX-License-Identifier: MIT
"""The two-stage MoE as a sequence of launches, the same for every target.

Sort, (quantise), stage 1, (requantise), stage 2, reduce; kernels that read the routing themselves
or leave the final output need less. Sizes and layouts were checked by the caller
(`aiter_moe.fused_moe`); which kernels run was decided by `aiter_moe.plan`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from aiter_moe.codegen.gfx9 import FINISH_SUFFIX
from aiter_moe.codegen.gfx9.steps import QUANTISE, REDUCE, SCATTER, SORT
from aiter_moe.codegen.instance import Instance, Output
from aiter_moe.enums import ActivationType, GateMode, Kind
from aiter_moe.errors import LayoutError
from aiter_moe.formats import MX_BLOCK
from aiter_moe.layouts import Layout, PackedWeight, S
from aiter_moe.plan import Plan
from aiter_moe.sizes import round_up
from aiter_moe.targets.arguments import ElementType, StageArgs
from aiter_moe.targets.base import Launcher, RoutedTokens, SortedTokens
from aiter_moe.targets.routed_pairs import used_slots_bound

SWIGLU_LIMIT = 7.0
"""Clamp of gpt-oss, the default of Swiglu."""


@dataclass(frozen=True, slots=True)
class Operand:
    """Rows a GEMM reads: bf16 values, or fp4 codes with one e8m0 scale per 32 elements.

    Attributes
    ----------
    values : torch.Tensor
        bf16 [rows, K], or uint8 codes [rows, K/2]; for a kernel that quantises by itself also
        float16 or float32.
    scales : torch.Tensor or None
        uint8 of codes: [rows, K/32], or as the kernels of the stage read them.
    laid_out : bool
        Scales lie as the kernels of the stage read them.
    """

    values: torch.Tensor
    scales: torch.Tensor | None = None
    laid_out: bool = False

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
    gate_mode : GateMode
        Order of w1's rows as the caller holds them: it decides, not how a copy lies here.
    """

    w1: PackedWeight
    w2: PackedWeight
    bias1: torch.Tensor | None = None
    bias2: torch.Tensor | None = None
    gate_mode: GateMode = GateMode.SEPARATED


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
    sorted : SortedTokens or None
        Result of the sort with this call's block_m; None where kernels read `routed`.
    tokens, topk : int
        Rows of the activations, routed experts per row.
    model_dim, inter_dim : int
        Sizes that are computed: those of the weights without the declared padding.
    doweight_stage1 : bool
        Routing weights multiply in stage 1 instead of stage 2.
    constants : ActivationConstants
        Of the activation that stage 1 fuses.
    routed : RoutedTokens or None
        The routing before the sort, admitted, for kernels that read it themselves.
    out : torch.Tensor or None
        The final output [tokens, columns], where stage 2 writes it; columns past model_dim become
        0. None: memory of the launcher, bf16 [tokens, model_dim].
    """

    launcher: Launcher
    experts: Experts
    sorted: SortedTokens | None
    tokens: int
    topk: int
    model_dim: int
    inter_dim: int
    doweight_stage1: bool = False
    constants: ActivationConstants = ActivationConstants()
    routed: RoutedTokens | None = None
    out: torch.Tensor | None = None


@dataclass(slots=True)
class _Launch:
    """Arguments of one launch, and the tensors they point into."""

    args: StageArgs = field(default_factory=StageArgs)
    tensors: list[torch.Tensor] = field(default_factory=list)

    def point(self, name: str, tensor: torch.Tensor) -> None:
        """Let an argument point to the first element of `tensor`."""
        setattr(self.args, name, tensor.data_ptr())
        self.tensors.append(tensor)


def _launch(
    call: MoeCall, weight: PackedWeight, operand: Operand, instance: Instance, doweight: bool
) -> _Launch:
    if weight.layout.is_panel is not (instance.target == "cpu"):
        raise LayoutError(
            f"{instance.name} does not read {weight.layout}; lay the weight out for the target "
            "with aiter_moe.prepare_weights"
        )
    launch = _Launch()
    args = launch.args
    launch.point("x", operand.values)
    args.x_stride = operand.row_elements
    args.x_type = ElementType.of(operand.values.dtype)
    if operand.scales is not None:
        scales = _stage_scales(call, operand.scales, operand.laid_out or instance.tile.direct)
        launch.point("x_scale", scales)
        args.x_scale_stride = scales.shape[1]
    launch.point("w", weight.codes)
    launch.point("w_scale", weight.scales)
    args.w_rows = weight.physical_rows
    args.w_k = weight.physical_cols
    args.w_scale_cols = weight.scale_cols
    args.interleaved = int(weight.layout is Layout.SHUFFLED_GATE_UP)
    args.tokens = call.tokens
    args.topk = call.topk
    args.doweight = int(doweight)
    args.ksplit = 1
    if instance.tile.direct:
        _point_to_routed(launch, call, instance.block_m)
    else:
        _point_to_sorted(launch, call, instance.block_m)
    return launch


def _stage_scales(call: MoeCall, scales: torch.Tensor, laid_out: bool) -> torch.Tensor:
    return scales if laid_out else call.launcher.stage_scales(scales, _sorted(call))


def _sorted(call: MoeCall) -> SortedTokens:
    assert call.sorted is not None, "kernels of this call need a sort"
    return call.sorted


def _point_to_sorted(launch: _Launch, call: MoeCall, block_m: int) -> None:
    found = _sorted(call)
    launch.point("sorted_ids", found.ids)
    launch.point("sorted_weights", found.weights)
    launch.point("sorted_expert_ids", found.expert_ids)
    launch.point("num_valid_ids", found.num_valid)
    launch.args.sorted_rows = found.expert_ids.shape[0] * block_m


def _point_to_routed(launch: _Launch, call: MoeCall, block_m: int) -> None:
    routed = call.routed
    assert routed is not None, "kernels of this call read the routing"
    launch.point("topk_ids", routed.ids)
    launch.point("topk_weights", routed.weights)
    if routed.expert_mask is not None:
        launch.point("expert_mask", routed.expert_mask)
    if routed.local_tokens is not None:
        launch.point("local_tokens", routed.local_tokens)
    launch.args.experts = routed.experts
    launch.args.sorted_rows = used_slots_bound(call.tokens * call.topk, routed.experts, block_m)


def _add_bias(launch: _Launch, bias: torch.Tensor | None) -> None:
    if bias is not None:
        launch.point("bias", bias)
        launch.args.bias_stride = bias.shape[1]


def stage1(call: MoeCall, x: Operand, *, instance: Instance, ksplit: int) -> Operand:
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
    Operand
        Rows [tokens * topk, inter_dim], bfloat16, or requantised where the kernel does that; rows
        of experts held elsewhere are not written.
    """
    launch = _launch(call, call.experts.w1, x, instance, call.doweight_stage1)
    _add_bias(launch, call.experts.bias1)
    args = launch.args
    args.n, args.k = call.inter_dim, call.model_dim
    out = _stage1_output(launch, call, instance, x.values.device)
    args.limit = call.constants.limit
    args.beta = call.constants.beta
    args.linear_beta = call.constants.linear_beta
    if instance.split_k:
        args.ksplit = max(ksplit, 1)
        shape = (args.ksplit, args.sorted_rows, 2 * call.inter_dim)
        launch.point("workspace", call.launcher.empty(shape, torch.float32, x.values.device))
    call.launcher.run_stage(instance, args, launch.tensors)
    return out


def _stage1_output(
    launch: _Launch, call: MoeCall, instance: Instance, device: torch.device
) -> Operand:
    """Return memory for the rows of stage 1, which the arguments point to."""
    rows, columns, args = call.tokens * call.topk, call.inter_dim, launch.args
    if instance.tile.output is not Output.FP4:
        out = Operand(call.launcher.empty((rows, columns), torch.bfloat16, device))
        launch.point("out", out.values)
        args.out_stride = out.row_elements
        return out
    codes = call.launcher.empty((rows, columns // 2), torch.uint8, device)
    blocks = columns // MX_BLOCK
    direct = instance.tile.direct
    shape = (rows, round_up(blocks, 8)) if direct else S.physical_shape(args.sorted_rows, blocks)
    # In a row, since tiles have no room between rows.
    memory = call.launcher.empty((shape[0] * shape[1],), torch.uint8, device)
    out = Operand(codes, memory.view(shape), laid_out=True)
    launch.point("out", codes)
    launch.point("out_scale", memory)
    args.out_stride = out.row_elements
    args.out_scale_stride = shape[1]
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
        What `Instance.tile.output` says: float32 [tokens * topk, model_dim], one row per (token,
        slot), not yet reduced; or the final output.
    """
    device = a2.values.device
    launch = _launch(call, call.experts.w2, a2, instance, not call.doweight_stage1)
    _add_bias(launch, call.experts.bias2)
    args = launch.args
    args.n, args.k = call.model_dim, call.inter_dim
    if instance.tile.output is Output.ROWS:
        shape = (call.tokens * call.topk, call.model_dim)
        out = call.launcher.empty(shape, torch.float32, device)
    elif call.out is not None:
        out = call.out
    else:
        out = call.launcher.empty((call.tokens, call.model_dim), torch.bfloat16, device)
    launch.point("out", out)
    args.out_stride = out.stride(0)
    args.out_columns = out.shape[1]
    args.out_type = ElementType.of(out.dtype)
    call.launcher.run_stage(instance, args, launch.tensors)
    return out


def quantised(
    launcher: Launcher, rows: torch.Tensor, routed: SortedTokens | None = None
) -> Operand:
    """Quantise rows [R, K] to MXFP4 with aiter's default scale rule (RoundUp).

    With `routed` the scales are laid out for a stage of its sort.
    """
    codes, scales = launcher.quantise(rows, routed)
    return Operand(codes, scales, laid_out=routed is not None)


def intermediate(call: MoeCall, rows: Operand, stage2_instance: Instance) -> Operand:
    """Give stage 2 its operand: rows as stage 1 left them, or requantised to fp4.

    A kernel that reads the routing itself quantises its rows too.
    """
    ready = rows.scales is not None or stage2_instance.tile.direct
    if ready or stage2_instance.kind is Kind.A16W4:
        return rows
    return quantised(call.launcher, rows.values, _sorted(call))


def finish(call: MoeCall, down: torch.Tensor, stage2_instance: Instance) -> None:
    """Make the output from what stage 2 left, where it is not the output already."""
    if stage2_instance.tile.output is Output.ROWS:
        assert call.out is not None, "the call has no output"
        call.launcher.reduce(down, _sorted(call), call.out)


def chain(plan: Plan, *, prequantised: bool = False) -> tuple[str, ...]:
    """Return the device kernels of one call, or of each of its runs, in order.

    Parameters
    ----------
    plan : Plan
        What runs; of the CPU target the two stages alone are kernels.
    prequantised : bool
        Whether the call is given fp4 codes and scales.
    """
    first, second = plan.stage1, plan.stage2
    if first.target == "cpu" or plan.direct:
        return first.name, second.name
    kernels = [SORT]
    if first.kind is Kind.A4W4:
        element = ElementType.of(plan.problem.dtype).name
        kernels.append(SCATTER if prequantised else f"{QUANTISE}{element}")
    kernels.append(first.name)
    if first.split_k:
        kernels.append(first.name + FINISH_SUFFIX)
    if first.tile.output is not Output.FP4 and second.kind is Kind.A4W4:
        kernels.append(f"{QUANTISE}{ElementType.bf16.name}")
    kernels.append(second.name)
    if second.tile.output is Output.ROWS:
        kernels.append(f"{REDUCE}{ElementType.of(plan.problem.dtype).name}")
    return tuple(kernels)
