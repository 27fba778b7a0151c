# SPDX-License-Identifier: MIT
"""One forward pass of a MoE layer on checked, packed operands.

Here: which problem the operands pose, and the order of launches. Which kernels run is
`aiter_moe.plan`'s answer; how they run is `aiter_moe.pipeline`; aiter's argument list is
`aiter_moe.fused_moe`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from aiter_moe import dtypes
from aiter_moe.dispatch import MOEMetadata, metadata_for
from aiter_moe.enums import ActivationType, GateMode, Kind
from aiter_moe.errors import ArgumentError, UnsupportedProblemError
from aiter_moe.heuristics import activation_dtype
from aiter_moe.layouts import Layout
from aiter_moe.pipeline import (
    ActivationConstants,
    Experts,
    MoeCall,
    Operand,
    intermediate,
    quantised,
)
from aiter_moe.problem import Problem, token_tier
from aiter_moe.targets.base import Launcher
from aiter_moe.targets.registry import Target, running_target
from aiter_moe.verdict import Overrides, computed

# float32 rows [tokens * topk, model_dim] that stage 2 may leave for the reduction at a time
ROWS_BYTES = 1 << 30


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


@dataclass(frozen=True, slots=True)
class Routing:
    """Who goes where: routed experts per token, and which of them this rank holds."""

    weights: torch.Tensor
    ids: torch.Tensor
    expert_mask: torch.Tensor | None = None
    num_local_tokens: torch.Tensor | None = None

    def valid_slots(self) -> torch.Tensor | None:
        """Return bool [tokens, topk], false where no row is computed, or None if all are."""
        if self.expert_mask is None and self.num_local_tokens is None:
            return None
        tokens = self.ids.shape[0]
        if self.num_local_tokens is not None:
            tokens = min(tokens, int(self.num_local_tokens.item()))
        valid = torch.zeros(self.ids.shape, dtype=torch.bool, device=self.ids.device)
        valid[:tokens] = True
        if self.expert_mask is not None:
            # rows past the local tokens may hold any ids; they are not looked at
            valid[:tokens] = (self.expert_mask != 0)[self.ids[:tokens].long()]
        return valid


def _problem(
    hidden: torch.Tensor, experts: Experts, routing: Routing, options: Options, gfx: str
) -> Problem:
    tokens = hidden.shape[0]
    interleaved = experts.w1.layout is Layout.SHUFFLED_GATE_UP
    gate_mode = GateMode.INTERLEAVE if interleaved else GateMode.SEPARATED
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
        token=token_tier(tokens),
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


def _first_operand(
    launcher: Launcher, hidden: torch.Tensor, scale: torch.Tensor | None, problem: Problem
) -> Operand:
    if scale is not None:
        return Operand(hidden.view(torch.uint8).contiguous(), scale.view(torch.uint8).contiguous())
    rows = hidden if hidden.stride(1) == 1 else hidden.contiguous()
    if problem.q_dtype_a == dtypes.fp4x2:
        return quantised(launcher, rows)
    return Operand(rows)


@dataclass(frozen=True, slots=True)
class _Rows:
    """A run of tokens: their inputs, and where their output goes."""

    hidden: torch.Tensor
    a1_scale: torch.Tensor | None
    routing: Routing
    out: torch.Tensor


def _runs(whole: _Rows, model_dim: int) -> Iterator[_Rows]:
    """Cut a call into runs of tokens whose stage-2 rows stay within `ROWS_BYTES`.

    Tokens are independent of each other, so the cut changes no bit of the result.
    """
    tokens, topk = whole.routing.ids.shape
    step = max(1, ROWS_BYTES // (4 * topk * model_dim))
    if tokens <= step:
        yield whole
        return
    local = whole.routing.num_local_tokens
    for begin in range(0, tokens, step):
        cut = slice(begin, begin + step)
        yield _Rows(
            whole.hidden[cut],
            None if whole.a1_scale is None else whole.a1_scale[cut],
            Routing(
                whole.routing.weights[cut],
                whole.routing.ids[cut],
                whole.routing.expert_mask,
                None if local is None else (local - begin).clamp(0, step),
            ),
            whole.out[cut],
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
    routing, out = rows.routing, rows.out
    mask = routing.expert_mask
    call = MoeCall(
        launcher=launcher,
        experts=experts,
        sorted=launcher.sort(
            routing.ids,
            routing.weights,
            experts.w1.experts if mask is None else mask.numel(),
            metadata.block_m,
            mask,
            routing.num_local_tokens,
        ),
        tokens=rows.hidden.shape[0],
        topk=routing.ids.shape[1],
        model_dim=work.model_dim,
        inter_dim=work.inter_dim,
        doweight_stage1=work.doweight_stage1,
        constants=constants,
    )
    x = _first_operand(launcher, rows.hidden, rows.a1_scale, work)
    a2 = intermediate(call, metadata.stage1(call, x), metadata.plan.stage2)
    down = metadata.stage2(call, a2)
    if call.model_dim < out.shape[1]:
        out[:, call.model_dim :] = 0
    launcher.reduce(down, call.topk, out[:, : call.model_dim], routing.valid_slots())


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
    target = running_target()
    _check_devices(target, hidden, a1_scale, experts, routing)
    problem = _problem(hidden, experts, routing, options, target.facts.gfx)
    overrides = Overrides(
        block_m=options.block_m,
        ksplit=options.ksplit,
        skip_inter_quant=options.skip_inter_quant if problem.kind is Kind.A4W4 else None,
        hidden_pad=options.hidden_pad,
        intermediate_pad=options.intermediate_pad,
        is_ep=routing.expert_mask is not None,
        origin="splitk",
    )
    metadata = metadata_for(problem, target, overrides)
    out = output
    if out is None:
        shape = (hidden.shape[0], experts.w2.rows)
        out = torch.empty(shape, dtype=options.dtype, device=hidden.device)
    if hidden.shape[0] == 0:
        return out
    launcher = target.launcher()
    work = computed(problem, overrides)
    constants = ActivationConstants.of(
        options.activation, options.swiglu_limit, options.beta, options.linear_beta
    )
    for rows in _runs(_Rows(hidden, a1_scale, routing, out), experts.w2.rows):
        _run(rows, launcher, metadata, experts, work, constants)
    return out


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
                f"{target.device}; move it there, or set AITER_MOE_TARGET"
            )
