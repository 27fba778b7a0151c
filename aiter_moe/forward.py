# SPDX-License-Identifier: MIT
"""One forward pass of a MoE layer on checked, packed operands.

Here: which problem the operands pose, and the order of launches. Which kernels run is
`aiter_moe.plan`'s answer; how they run is `aiter_moe.pipeline`; aiter's argument list is
`aiter_moe.fused_moe`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from aiter_moe import dtypes
from aiter_moe.codegen.instance import Output
from aiter_moe.dispatch import MOEMetadata, metadata_for
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.errors import ArgumentError, UnsupportedProblemError
from aiter_moe.heuristics import activation_dtype
from aiter_moe.pipeline import (
    ActivationConstants,
    Experts,
    MoeCall,
    Operand,
    finish,
    intermediate,
    quantised,
)
from aiter_moe.problem import Problem, token_tier
from aiter_moe.runs import Routing, Rows, run_length, runs, token_bytes
from aiter_moe.targets.arguments import ElementType
from aiter_moe.targets.base import (
    Launcher,
    Layer,
    LayerShape,
    LayerTensors,
    RoutedTokens,
    RowsLayout,
    runs_layers,
)
from aiter_moe.targets.registry import Target
from aiter_moe.targets.routed_pairs import check_pairs, dense_mask, routed_count
from aiter_moe.verdict import Overrides, computed

# The widest load of a row on any target.
ROW_ALIGNMENT = 16
# Bytes that an atomic addition takes at a time: a pair of elements.
SUM_ALIGNMENT = 4


@dataclass(frozen=True, slots=True)
class Options:
    """Everything of a call that is not a tensor.

    Attributes
    ----------
    activation : ActivationType
        Gate/up activation.
    dtype : torch.dtype
        Output type.
    q_dtype_a : torch.dtype or None
        ``dtypes.fp4x2`` or ``torch.bfloat16`` forces a4w4 or a16w4; None: aiter's rule
        (`aiter_moe.heuristics.activation_dtype`).
    hidden_pad, intermediate_pad : int
        Zero elements at the end of model_dim and of inter_dim that need not be computed.
    block_m, ksplit : int or None
        Force the sort block or the split of the reduction; None: as planned.
    skip_inter_quant : bool or None
        a4w4: leave the intermediate in bf16 for stage 2; None: as planned.
    swiglu_limit, beta, linear_beta : float or None
        Activation constants; None: 7.0 for Swiglu and no clamp for Silu; 1.0.
    target : Target, str or None
        Where to run; None: AITER_MOE_TARGET, else the device torch sees, else the CPU.
    """

    activation: ActivationType
    dtype: torch.dtype
    q_dtype_a: torch.dtype | None = None
    doweight_stage1: bool = False
    hidden_pad: int = 0
    intermediate_pad: int = 0
    block_m: int | None = None
    ksplit: int | None = None
    skip_inter_quant: bool | None = None
    swiglu_limit: float | None = None
    beta: float | None = None
    linear_beta: float | None = None
    target: Target | str | None = None


def _problem(
    hidden: torch.Tensor,
    routing: Routing,
    experts: Experts,
    options: Options,
    gfx: str,
    run_tokens: int,
) -> Problem:
    """Return the problem of each run of a call; the activation type is that of the whole call."""
    tokens = hidden.shape[0]
    gate_mode = experts.gate_mode
    q_dtype_a = options.q_dtype_a
    dtype = hidden.dtype
    if dtype in (dtypes.fp4x2, torch.uint8):
        if q_dtype_a not in (None, dtypes.fp4x2):
            raise UnsupportedProblemError(
                f"hidden_states are already fp4x2 codes; q_dtype_a={q_dtype_a} cannot be served"
            )
        q_dtype_a, dtype = dtypes.fp4x2, options.dtype
    if q_dtype_a is None:
        q_dtype_a = activation_dtype(options.activation, gate_mode, tokens, gfx)
    return Problem(
        token=token_tier(run_tokens),
        model_dim=experts.w1.cols,
        inter_dim=experts.w2.cols,
        experts=experts.w1.experts,
        topk=routing.ids.shape[1],
        activation=options.activation,
        q_dtype_a=q_dtype_a,
        dtype=dtype,
        doweight_stage1=options.doweight_stage1,
        has_bias=experts.bias1 is not None or experts.bias2 is not None,
        gate_mode=gate_mode,
    )


def _overrides(options: Options, kind: Kind, *, is_ep: bool) -> Overrides:
    return Overrides(
        block_m=options.block_m,
        ksplit=options.ksplit,
        skip_inter_quant=options.skip_inter_quant if kind is Kind.A4W4 else None,
        hidden_pad=options.hidden_pad,
        intermediate_pad=options.intermediate_pad,
        is_ep=is_ep,
        origin="splitk",
    )


def _first_operand(call: MoeCall, rows: Rows, problem: Problem, *, direct: bool) -> Operand:
    """Return what stage 1 reads: rows or codes as they came, or quantised."""
    hidden, scale = rows.hidden, rows.a1_scale
    if scale is not None:
        codes = _loadable(hidden.view(torch.uint8).contiguous())
        return Operand(codes, scale.view(torch.uint8).contiguous())
    if problem.q_dtype_a == dtypes.fp4x2 and not direct:
        rows_dense = hidden if hidden.stride(1) == 1 else hidden.contiguous()
        return quantised(call.launcher, rows_dense, call.sorted)
    return Operand(_loadable(hidden))


def _loadable(rows: torch.Tensor) -> torch.Tensor:
    """Return `rows`, or a copy where kernels could not load them from where they are.

    Rows that overlap, as `torch.Tensor.expand` makes them, end past what their pitch says.
    """
    pitch = rows.stride(0) * rows.element_size()
    apart = rows.shape[0] < 2 or rows.stride(0) >= rows.shape[1]
    if rows.stride(1) == 1 and apart and not (pitch | rows.data_ptr()) % ROW_ALIGNMENT:
        return rows
    return rows.clone(memory_format=torch.contiguous_format)


def _summable(out: torch.Tensor) -> torch.Tensor:
    """Return `out`, or other memory of its shape where kernels could not add to it atomically.

    Columns are even in number, so that all rows lie as the first does.
    """
    return torch.empty_like(out) if out.data_ptr() % SUM_ALIGNMENT else out


@dataclass(frozen=True, slots=True)
class Forward:
    """A planned call: all of it but the values of its tensors.

    Attributes
    ----------
    launcher : Launcher
        Where it runs.
    metadata : MOEMetadata
        Its kernels.
    work : Problem
        The sizes that are computed.
    constants : ActivationConstants
        Of the activation.
    step : int
        Tokens of a run.
    dtype : torch.dtype
        Of the output.
    layer : Layer or None
        The whole call, where it is one run of a target that runs layers.
    """

    launcher: Launcher
    metadata: MOEMetadata
    work: Problem
    constants: ActivationConstants
    step: int
    dtype: torch.dtype
    layer: Layer | None = None

    def run(
        self,
        hidden: torch.Tensor,
        a1_scale: torch.Tensor | None,
        experts: Experts,
        routing: Routing,
        output: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the layer's [tokens, model_dim]; `output` itself where one is given."""
        out = output
        if out is None:
            shape = (hidden.shape[0], experts.w2.rows)
            out = torch.empty(shape, dtype=self.dtype, device=hidden.device)
        whole = Rows(hidden, a1_scale, routing, out)
        if self.layer is not None:
            self.layer.run(_tensors(whole, experts))
            return out
        if hidden.shape[0] == 0:
            return out
        if self.metadata.plan.stage2.tile.output is Output.ATOMIC:
            whole = replace(whole, out=_summable(out))
        for rows in runs(whole, self.step):
            self._run(rows, experts)
        return out if whole.out is out else out.copy_(whole.out)

    def _run(self, rows: Rows, experts: Experts) -> None:
        if runs_layers(self.launcher):
            layer = self.launcher.layer(_shape(self, rows, experts))
            layer.run(_tensors(rows, experts))
        else:
            self._run_stages(rows, experts)

    def _run_stages(self, rows: Rows, experts: Experts) -> None:
        """Run the launches of `rows` one after the other."""
        metadata, launcher, work = self.metadata, self.launcher, self.work
        direct = metadata.plan.direct
        routed = _routed(rows, experts)
        if direct:
            routed = launcher.admit(routed)
        cleared = rows.out if metadata.plan.stage2.tile.output is Output.ATOMIC else None
        call = MoeCall(
            launcher=launcher,
            experts=experts,
            sorted=None if direct else launcher.sort(routed, metadata.block_m, cleared),
            tokens=rows.hidden.shape[0],
            topk=routed.ids.shape[1],
            model_dim=work.model_dim,
            inter_dim=work.inter_dim,
            doweight_stage1=work.doweight_stage1,
            constants=self.constants,
            routed=routed,
            out=rows.out,
        )
        x = _first_operand(call, rows, work, direct=direct)
        a2 = intermediate(call, metadata.stage1(call, x), metadata.plan.stage2)
        finish(call, metadata.stage2(call, a2), metadata.plan.stage2)


def _routed(rows: Rows, experts: Experts) -> RoutedTokens:
    routing = rows.routing
    mask = routing.expert_mask
    return RoutedTokens(
        ids=routing.ids,
        weights=routing.weights,
        experts=experts.w1.experts if mask is None else mask.numel(),
        expert_mask=mask,
        local_tokens=routing.num_local_tokens,
        first_token=rows.first_token,
    )


def _elements(
    hidden: torch.Tensor, scale: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return hidden states and scales whose elements lie one after the other in a row."""
    if scale is None:
        return (hidden if hidden.stride(1) == 1 else hidden.contiguous()), None
    return hidden.view(torch.uint8).contiguous(), scale.view(torch.uint8).contiguous()


def _tensors(rows: Rows, experts: Experts) -> LayerTensors:
    routing, tokens = rows.routing, rows.hidden.shape[0]
    mask, local = routing.expert_mask, routing.num_local_tokens
    return LayerTensors(
        *_elements(rows.hidden, rows.a1_scale),
        routing.ids.contiguous(),
        routing.weights.contiguous(),
        None if mask is None else dense_mask(mask),
        tokens if local is None else routed_count(local, tokens, rows.first_token),
        experts.w1.codes,
        experts.w2.codes,
        experts.bias1,
        experts.bias2,
        rows.out,
    )


def _shape(forward: Forward, rows: Rows, experts: Experts) -> LayerShape:
    """Return all that a launcher of layers must know of a run but its tensors."""
    plan, work, constants = forward.metadata.plan, forward.work, forward.constants
    routing, out = rows.routing, rows.out
    w1, w2, mask = experts.w1, experts.w2, routing.expert_mask
    tokens, topk = routing.ids.shape
    check_pairs(routing.ids, routing.weights, w1.experts)
    x, x_scale = _elements(rows.hidden, rows.a1_scale)
    kind = ElementType.of(x.dtype)
    return LayerShape(
        stage1=plan.stage1,
        stage2=plan.stage2,
        ksplit=plan.ksplit,
        tokens=tokens,
        topk=topk,
        experts=w1.experts if mask is None else mask.numel(),
        held=w1.experts,
        model_dim=work.model_dim,
        inter_dim=work.inter_dim,
        weight1=(w1.physical_rows, w1.physical_cols),
        weight2=(w2.physical_rows, w2.physical_cols),
        bias1=0 if experts.bias1 is None else experts.bias1.shape[1],
        bias2=0 if experts.bias2 is None else experts.bias2.shape[1],
        doweight_stage1=work.doweight_stage1,
        limit=constants.limit,
        beta=constants.beta,
        linear_beta=constants.linear_beta,
        x=RowsLayout(kind, x.stride(0) * (2 if kind is ElementType.fp4 else 1)),
        x_scale_stride=0 if x_scale is None else x_scale.stride(0),
        out=RowsLayout(ElementType.of(out.dtype), out.stride(0)),
        out_columns=out.shape[1],
    )


def plan_moe(
    hidden: torch.Tensor,
    a1_scale: torch.Tensor | None,
    experts: Experts,
    routing: Routing,
    options: Options,
    target: Target,
) -> Forward:
    """Return how a MoE layer runs on checked, packed operands of these shapes.

    Raises
    ------
    ArgumentError
        An operand is on another device than the target's.
    UnsupportedProblemError
        No kernel of the target runs the problem.
    """
    launcher = target.launcher()
    _check_devices(target, hidden, a1_scale, experts, routing)
    tokens, model_dim, inter_dim = hidden.shape[0], experts.w2.rows, experts.w2.cols
    row_bytes = token_bytes(hidden, routing.ids.shape[1], model_dim, inter_dim, target.facts.gfx)
    step = run_length(tokens, row_bytes)
    problem = _problem(hidden, routing, experts, options, target.facts.gfx, step)
    overrides = _overrides(options, problem.kind, is_ep=routing.expert_mask is not None)
    forward = Forward(
        launcher,
        metadata_for(problem, target, overrides),
        computed(problem, overrides),
        ActivationConstants.of(
            options.activation, options.swiglu_limit, options.beta, options.linear_beta
        ),
        step,
        options.dtype,
    )
    if not runs_layers(launcher) or step < tokens or tokens == 0:
        return forward
    out = torch.empty((tokens, model_dim), dtype=options.dtype, device="meta")
    shape = _shape(forward, Rows(hidden, a1_scale, routing, out), experts)
    return replace(forward, layer=launcher.layer(shape))


def _check_devices(
    target: Target,
    hidden: torch.Tensor,
    a1_scale: torch.Tensor | None,
    experts: Experts,
    routing: Routing,
) -> None:
    named = {
        "hidden_states": hidden, "a1_scale": a1_scale, "w1": experts.w1.codes,
        "w1_scale": experts.w1.scales, "w2": experts.w2.codes, "w2_scale": experts.w2.scales,
        "bias1": experts.bias1, "bias2": experts.bias2, "topk_weight": routing.weights,
        "topk_ids": routing.ids, "expert_mask": routing.expert_mask,
        "num_local_tokens": routing.num_local_tokens,
    }  # fmt: skip
    for name, tensor in named.items():
        if tensor is not None and tensor.device.type != target.device:
            raise ArgumentError(
                f"{name} is on {tensor.device}, but target {target.name} runs on "
                f"{target.device}; move it there, or name another target (target=, "
                "AITER_MOE_TARGET)"
            )
