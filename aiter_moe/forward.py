# SPDX-License-Identifier: MIT
"""One forward pass of a MoE layer on checked, packed operands.

Here: which problem the operands pose, and the order of launches. Which kernels run is
`aiter_moe.plan`'s answer; how they run is `aiter_moe.pipeline`; aiter's argument list is
`aiter_moe.fused_moe`.
"""

from __future__ import annotations

from collections.abc import Iterator
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
from aiter_moe.sizes import ceil_div
from aiter_moe.targets.base import Launcher, RoutedTokens
from aiter_moe.targets.registry import Target, running_target
from aiter_moe.verdict import Overrides, computed

# What each tensor with a row per token or slot may take at a time where a call is cut: half of what
# kernels reach with their 31-bit offsets, since a plan is made for the run's tier, which may be
# twice its tokens.
RUN_BYTES = 1 << 30
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


@dataclass(frozen=True, slots=True)
class Routing:
    """Who goes where: routed experts per token, and which of them this rank holds."""

    weights: torch.Tensor
    ids: torch.Tensor
    expert_mask: torch.Tensor | None = None
    num_local_tokens: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class _Rows:
    """A run of tokens: their inputs, and where their output goes.

    Attributes
    ----------
    first_token : int or None
        Tokens of the call before these; None: they are the whole call.
    """

    hidden: torch.Tensor
    a1_scale: torch.Tensor | None
    routing: Routing
    out: torch.Tensor
    first_token: int | None = None


def _problem(
    whole: _Rows, experts: Experts, options: Options, gfx: str, run_tokens: int
) -> Problem:
    """Return the problem of each run of a call; the activation type is that of the whole call."""
    hidden, tokens = whole.hidden, whole.hidden.shape[0]
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
        topk=whole.routing.ids.shape[1],
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


def _first_operand(call: MoeCall, rows: _Rows, problem: Problem, *, direct: bool) -> Operand:
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


def run_length(tokens: int, row_bytes: int) -> int:
    """Return the tokens of a run: all where kernels reach them, else a part of nearly equal length.

    Parameters
    ----------
    tokens : int
        Tokens of the call.
    row_bytes : int
        What the largest of its tensors takes for each.
    """
    if max(tokens, token_tier(tokens)) * row_bytes < 2 * RUN_BYTES:
        return tokens
    longest = max(1, RUN_BYTES // row_bytes)
    return ceil_div(tokens, max(1, ceil_div(tokens, longest)))


def token_bytes(hidden: torch.Tensor, topk: int, model_dim: int, inter_dim: int, gfx: str) -> int:
    """Return what the largest tensor that a call cuts by takes for each token.

    Hidden states at their own pitch and the bf16 intermediate, which stage kernels read; on the
    CPU, where a run costs no launches, also the float32 rows of stage 2, to save memory.
    """
    pitch = max(hidden.stride(0), hidden.shape[1]) * hidden.element_size()
    rows = 4 * topk * model_dim if gfx == "cpu" else 0
    return max(pitch, 2 * topk * inter_dim, rows)


def _runs(whole: _Rows, step: int) -> Iterator[_Rows]:
    """Cut a call into runs of `step` tokens.

    Tokens are independent of each other and all runs take the same kernels, so the cut changes no
    bit of the result.
    """
    tokens = whole.routing.ids.shape[0]
    if tokens <= step:
        yield whole
        return
    for begin in range(0, tokens, step):
        cut = slice(begin, begin + step)
        yield _Rows(
            whole.hidden[cut],
            None if whole.a1_scale is None else whole.a1_scale[cut],
            Routing(
                whole.routing.weights[cut],
                whole.routing.ids[cut],
                whole.routing.expert_mask,
                whole.routing.num_local_tokens,
            ),
            whole.out[cut],
            begin,
        )


def _run(
    rows: _Rows,
    launcher: Launcher,
    metadata: MOEMetadata,
    experts: Experts,
    work: Problem,
    constants: ActivationConstants,
) -> None:
    """Run the launches of `rows`; `work` has the sizes that are computed."""
    plan = metadata.plan
    direct = plan.stage1.tile.direct
    routed = _routed(rows, experts)
    if direct:
        routed = launcher.admit(routed)
    cleared = rows.out if plan.stage2.tile.output is Output.ATOMIC else None
    call = MoeCall(
        launcher=launcher,
        experts=experts,
        sorted=None if direct else launcher.sort(routed, metadata.block_m, cleared),
        tokens=rows.hidden.shape[0],
        topk=routed.ids.shape[1],
        model_dim=work.model_dim,
        inter_dim=work.inter_dim,
        doweight_stage1=work.doweight_stage1,
        constants=constants,
        routed=routed,
        out=rows.out,
    )
    x = _first_operand(call, rows, work, direct=direct)
    a2 = intermediate(call, metadata.stage1(call, x), plan.stage2)
    finish(call, metadata.stage2(call, a2), plan.stage2)


def _routed(rows: _Rows, experts: Experts) -> RoutedTokens:
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


def run_moe(
    hidden: torch.Tensor,
    a1_scale: torch.Tensor | None,
    experts: Experts,
    routing: Routing,
    options: Options,
    output: torch.Tensor | None = None,
) -> torch.Tensor:
    """Run one MoE layer on checked, packed operands; see `fused_moe` for the border.

    Returns
    -------
    torch.Tensor
        [tokens, model_dim] of ``options.dtype``; `output` itself where one was given.
    """
    given = options.target
    target = given if isinstance(given, Target) else running_target(given)
    launcher = target.launcher()
    _check_devices(target, hidden, a1_scale, experts, routing)
    tokens, model_dim, inter_dim = hidden.shape[0], experts.w2.rows, experts.w2.cols
    out = output
    if out is None:
        out = torch.empty((tokens, model_dim), dtype=options.dtype, device=hidden.device)
    whole = _Rows(hidden, a1_scale, routing, out)
    row_bytes = token_bytes(hidden, routing.ids.shape[1], model_dim, inter_dim, target.facts.gfx)
    step = run_length(tokens, row_bytes)
    problem = _problem(whole, experts, options, target.facts.gfx, step)
    overrides = _overrides(options, problem.kind, is_ep=routing.expert_mask is not None)
    metadata = metadata_for(problem, target, overrides)
    if tokens == 0:
        return out
    if metadata.plan.stage2.tile.output is Output.ATOMIC:
        whole = replace(whole, out=_summable(out))
    work = computed(problem, overrides)
    constants = ActivationConstants.of(
        options.activation, options.swiglu_limit, options.beta, options.linear_beta
    )
    for rows in _runs(whole, step):
        _run(rows, launcher, metadata, experts, work, constants)
    return out if whole.out is out else out.copy_(whole.out)


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
