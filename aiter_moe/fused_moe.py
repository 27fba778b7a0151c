# SPDX-License-Identifier: MIT
"""`fused_moe`: aiter's entry point, its checks, and the operator torch.compile traces.

What happens after the checks is `aiter_moe.forward`.
"""

from __future__ import annotations

import torch

from aiter_moe import checks, known_calls
from aiter_moe.enums import ActivationType, GateMode, QuantType
from aiter_moe.errors import ArgumentError, DtypeError
from aiter_moe.forward import Options, plan_moe
from aiter_moe.known_calls import KnownCall, Operands
from aiter_moe.layouts import Layout, PackedWeight
from aiter_moe.pipeline import Experts
from aiter_moe.runs import Routing
from aiter_moe.targets.registry import Target, running_target
from aiter_moe.weights import FlatWeight, flat_weight, given_weight, kernel_experts, row_order

# Asked on every call: found once.
_is_compiling = torch.compiler.is_compiling
_dispatch_modes = torch._C._len_torch_dispatch_stack


@torch.library.custom_op("aiter_moe::fused_moe", mutates_args=())
def _fused_moe_op(  # noqa: PLR0913, PLR0917 - an operator takes flat arguments
    hidden_states: torch.Tensor,
    w1: torch.Tensor,
    w1_scale: torch.Tensor,
    w2: torch.Tensor,
    w2_scale: torch.Tensor,
    topk_weight: torch.Tensor,
    topk_ids: torch.Tensor,
    layout1: str,
    layout2: str,
    sizes: list[int],
    gate_mode: str,
    activation: int,
    dtype: torch.dtype,
    q_dtype_a: torch.dtype | None,
    doweight_stage1: bool,
    pads: list[int],
    block_m: int | None,
    ksplit: int | None,
    skip_inter_quant: bool | None,
    swiglu_limit: float | None,
    beta: float | None,
    linear_beta: float | None,
    expert_mask: torch.Tensor | None,
    num_local_tokens: torch.Tensor | None,
    a1_scale: torch.Tensor | None,
    bias1: torch.Tensor | None,
    bias2: torch.Tensor | None,
    target: str | None,
) -> torch.Tensor:
    rows1, cols1, rows2, cols2 = sizes
    operands = Operands(
        hidden_states, a1_scale,
        PackedWeight(w1, w1_scale, Layout[layout1], rows1, cols1),
        PackedWeight(w2, w2_scale, Layout[layout2], rows2, cols2),
        bias1, bias2, topk_weight, topk_ids, expert_mask, num_local_tokens, None,
    )  # fmt: skip
    hidden_pad, intermediate_pad = pads
    options = Options(
        activation=ActivationType(activation), dtype=dtype, q_dtype_a=q_dtype_a,
        doweight_stage1=doweight_stage1, hidden_pad=hidden_pad,
        intermediate_pad=intermediate_pad, block_m=block_m, ksplit=ksplit,
        skip_inter_quant=skip_inter_quant, swiglu_limit=swiglu_limit, beta=beta,
        linear_beta=linear_beta, target=target,
    )  # fmt: skip
    return _run(operands, operands.experts(GateMode(gate_mode)), options)


@_fused_moe_op.register_fake
def _fused_moe_fake(  # noqa: PLR0913, PLR0917 - an operator takes flat arguments
    hidden_states: torch.Tensor,
    w1: torch.Tensor,
    w1_scale: torch.Tensor,
    w2: torch.Tensor,
    w2_scale: torch.Tensor,
    topk_weight: torch.Tensor,
    topk_ids: torch.Tensor,
    layout1: str,
    layout2: str,
    sizes: list[int],
    gate_mode: str,
    activation: int,
    dtype: torch.dtype,
    *rest: object,
) -> torch.Tensor:
    return hidden_states.new_empty((topk_ids.shape[0], sizes[2]), dtype=dtype)


def fused_moe(  # noqa: PLR0913, PLR0917 - aiter's signature
    hidden_states: torch.Tensor,
    w1: torch.Tensor | PackedWeight,
    w2: torch.Tensor | PackedWeight,
    topk_weight: torch.Tensor,
    topk_ids: torch.Tensor,
    expert_mask: torch.Tensor | None = None,
    activation: ActivationType = ActivationType.Silu,
    quant_type: QuantType = QuantType.No,
    doweight_stage1: bool = False,
    w1_scale: torch.Tensor | None = None,
    w2_scale: torch.Tensor | None = None,
    a1_scale: torch.Tensor | None = None,
    a2_scale: torch.Tensor | None = None,
    block_size_M: int | None = None,  # noqa: N803 - aiter's name
    num_local_tokens: torch.Tensor | int | None = None,
    moe_sorting_dispatch_policy: int = 0,
    dtype: torch.dtype | None = None,
    hidden_pad: int = 0,
    intermediate_pad: int = 0,
    bias1: torch.Tensor | None = None,
    bias2: torch.Tensor | None = None,
    splitk: int = 0,
    swiglu_limit: float | None = None,
    beta: float | None = None,
    linear_beta: float | None = None,
    gate_mode: GateMode | str | None = None,
    output: torch.Tensor | None = None,
    *,
    q_dtype_a: torch.dtype | None = None,
    skip_inter_quant: bool | None = None,
    target: Target | str | None = None,
) -> torch.Tensor:
    """Compute a routed MXFP4 mixture-of-experts layer.

    For each token and slot: ``a = act(W1[e] x + b1)``, ``y = W2[e] a + b2``, and the sum over
    slots of ``weight * y``; accumulation in float32, in a fixed order.

    Parameters
    ----------
    hidden_states : torch.Tensor
        [tokens, model_dim] bfloat16 or float16; or fp4x2 codes [tokens, model_dim / 2] with
        `a1_scale` and `dtype`.
    w1, w2 : torch.Tensor or PackedWeight
        Gate and up rows [E, 2 * inter_dim, model_dim / 2]; down rows
        [E, model_dim, inter_dim / 2]. Raw tensors need `w1_scale`, `w2_scale` and the marks the
        shuffle functions set.
    topk_weight, topk_ids : torch.Tensor
        float32 and int32 [tokens, topk]; ids are global where `expert_mask` is given.
    expert_mask : torch.Tensor or None
        int32 [experts of all ranks], nonzero for those whose weights are here.
    activation : ActivationType
        Silu, Gelu, Swiglu (gpt-oss) or Situv2.
    quant_type : QuantType
        ``per_1x32``; the default ``No`` leaves it to the weights.
    doweight_stage1 : bool
        Multiply by the routing weight before the activation, not after the down projection.
    w1_scale, w2_scale : torch.Tensor or None
        e8m0 scales of raw weights.
    a1_scale : torch.Tensor or None
        e8m0 [tokens, model_dim / 32] of already quantised hidden states.
    a2_scale : None
        Accepted for aiter's signature; scales of the intermediate are computed.
    block_size_M : int or None
        Force the sort block.
    num_local_tokens : torch.Tensor, int or None
        int32 [1]; only so many leading rows are routed, the others become zero.
    moe_sorting_dispatch_policy : int
        Accepted for aiter's signature; there is one sort per target.
    dtype : torch.dtype or None
        Output type; default that of `hidden_states`.
    hidden_pad, intermediate_pad : int
        Zero elements at the end of model_dim and of inter_dim.
    bias1, bias2 : torch.Tensor or None
        float32 [E, 2 * inter_dim] (gate then up, never interleaved) and [E, model_dim].
    splitk : int
        Force the split of stage 1's reduction (a16w4); 0: as planned.
    swiglu_limit, beta, linear_beta : float or None
        Clamp of Swiglu (default 7.0) and Silu (default none); constants of Situv2 (1.0).
    gate_mode : GateMode, str or None
        Order of w1's rows as the caller believes it; None: as the weight says. Panels say
        nothing, and count as separated unless it is given.
    output : torch.Tensor or None
        Where to put the result.
    q_dtype_a : torch.dtype or None
        ``dtypes.fp4x2`` forces a4w4, ``torch.bfloat16`` a16w4; None: aiter's rule.
    skip_inter_quant : bool or None
        a4w4: run stage 2 on the bf16 intermediate instead of requantising it; None: as planned.
    target : Target, str or None
        ``cpu``, ``gfx950``, ``gfx942``, ``gfx950:emulator`` or ``gfx942:emulator`` (which take
        tensors in host memory); None: AITER_MOE_TARGET, else the device torch sees, else ``cpu``.

    Returns
    -------
    torch.Tensor
        [tokens, model_dim] of `dtype`, without a gradient whatever the inputs require.

    Raises
    ------
    ArgumentError, DtypeError, LayoutError
        If an argument is unusable.
    UnsupportedProblemError
        If no kernel of the target runs the problem; the message lists the reasons.
    LaunchError
        If there is no such device here, or a kernel cannot be launched.
    """
    if a2_scale is not None:
        raise ArgumentError(
            "a2_scale was given, but scales of the MXFP4 intermediate are computed; leave it out"
        )
    if isinstance(num_local_tokens, int):
        num_local_tokens = torch.tensor(
            [num_local_tokens], dtype=torch.int32, device=topk_ids.device
        )
    given = (
        quant_type, gate_mode, dtype, activation, q_dtype_a, doweight_stage1, hidden_pad,
        intermediate_pad, block_size_M, splitk, skip_inter_quant,
        None if swiglu_limit is None else float(swiglu_limit),
        None if beta is None else float(beta),
        None if linear_beta is None else float(linear_beta),
        target,
    )  # fmt: skip
    if _is_traced():
        options, order = _settings(hidden_states.dtype, *given)
        routing = Routing(topk_weight, topk_ids, expert_mask, num_local_tokens)
        flat1 = flat_weight(w1, w1_scale, order, "w1")
        flat2 = flat_weight(w2, w2_scale, None, "w2")
        checks.check_output(output, (topk_ids.shape[0], flat2.rows), options.dtype)
        order = row_order(flat1.layout, order)
        result = _operator(
            hidden_states, a1_scale, (flat1, flat2), order, (bias1, bias2), routing, options
        )
        return result if output is None else output.copy_(result)
    if type(w1) is not PackedWeight or w1_scale is not None:
        w1 = given_weight(w1, w1_scale, _order(gate_mode), "w1")
    if type(w2) is not PackedWeight or w2_scale is not None:
        w2 = given_weight(w2, w2_scale, None, "w2")
    operands = Operands(
        hidden_states, a1_scale, w1, w2, bias1, bias2, topk_weight, topk_ids, expert_mask,
        num_local_tokens, output,
    )  # fmt: skip
    key = known_calls.call_key(given, operands)
    known = known_calls.find(key)
    if known is not None:
        return known.run(operands)
    options, order = _settings(hidden_states.dtype, *given)
    # packed weights were not looked at yet
    first, second = given_weight(w1, None, order, "w1"), given_weight(w2, None, None, "w2")
    experts = Experts(first, second, bias1, bias2, row_order(first.layout, order))
    return _run(operands, experts, options, key)


def _order(gate_mode: GateMode | str | None) -> GateMode | None:
    return None if gate_mode is None else checks.gate_order(gate_mode)


def _settings(  # noqa: PLR0913, PLR0917 - what fused_moe was given
    hidden_dtype: torch.dtype,
    quant_type: QuantType | int,
    gate_mode: GateMode | str | None,
    dtype: torch.dtype | None,
    activation: ActivationType | int,
    q_dtype_a: torch.dtype | None,
    doweight_stage1: bool,
    hidden_pad: int,
    intermediate_pad: int,
    block_m: int | None,
    ksplit: int,
    skip_inter_quant: bool | None,
    swiglu_limit: float | None,
    beta: float | None,
    linear_beta: float | None,
    target: Target | str | None,
) -> tuple[Options, GateMode | None]:
    """Check what is not a tensor, and return it."""
    checks.check_quant_type(quant_type)
    order = _order(gate_mode)
    options = Options(
        dtype=_output_dtype(hidden_dtype, dtype),
        activation=checks.activation_type(activation),
        q_dtype_a=q_dtype_a,
        doweight_stage1=bool(doweight_stage1),
        hidden_pad=hidden_pad,
        intermediate_pad=intermediate_pad,
        block_m=block_m if block_m and block_m > 0 else None,
        ksplit=ksplit or None,
        skip_inter_quant=skip_inter_quant,
        swiglu_limit=swiglu_limit,
        beta=beta,
        linear_beta=linear_beta,
        target=target,
    )
    return options, order


def _run(
    operands: Operands, experts: Experts, options: Options, key: known_calls.Key | None = None
) -> torch.Tensor:
    """Check all operands, lay weights out for the target where they are not yet, and run."""
    hidden, scale, output = operands.hidden, operands.a1_scale, operands.output
    routing = operands.routing()
    _check(hidden, scale, experts, routing, options)
    checks.check_output(output, (hidden.shape[0], experts.w2.rows), options.dtype)
    checks.check_overlap(output, hidden)
    given = options.target
    target = given if isinstance(given, Target) else running_target(given)
    laid_out = kernel_experts(experts, target)
    forward = plan_moe(hidden, scale, laid_out, routing, options, target)
    if key is not None:
        converts = laid_out.w1 is not experts.w1 or laid_out.w2 is not experts.w2
        known = KnownCall(forward, target, experts.gate_mode, converts, operands.plain)
        known_calls.remember(key, known)
    return forward.run(hidden, scale, laid_out, routing, output)


def _is_traced() -> bool:
    """Say whether somebody records or imitates what runs, so that it must be one operator."""
    return _is_compiling() or _dispatch_modes() > 0


def _output_dtype(hidden: torch.dtype, dtype: torch.dtype | None) -> torch.dtype:
    if dtype is None:
        dtype = hidden
        checks.check_hidden_dtype(dtype)
    if dtype not in (torch.bfloat16, torch.float16):
        raise DtypeError(f"output dtype {dtype}; pass dtype=torch.bfloat16 or torch.float16")
    return dtype


def _check(
    hidden: torch.Tensor,
    a1_scale: torch.Tensor | None,
    experts: Experts,
    routing: Routing,
    options: Options,
) -> None:
    w1, w2 = experts.w1, experts.w2
    checks.check_weights(w1, w2)
    checks.check_hidden(hidden, a1_scale, w1.cols)
    checks.check_routing(routing.weights, routing.ids, hidden.shape[0])
    checks.check_bias(experts.bias1, "bias1", w1.experts, w1.rows)
    checks.check_bias(experts.bias2, "bias2", w2.experts, w2.rows)
    checks.check_padding(options.hidden_pad, "hidden_pad", w1.cols)
    checks.check_padding(options.intermediate_pad, "intermediate_pad", w2.cols)
    checks.check_expert_mask(routing.expert_mask, w1.experts)
    checks.check_limit(options.swiglu_limit)
    checks.check_beta(options.beta, "beta")
    checks.check_beta(options.linear_beta, "linear_beta")


def _detached(tensor: torch.Tensor | None) -> torch.Tensor | None:
    return None if tensor is None else tensor.detach()


def _operator(  # noqa: PLR0913, PLR0917 - an operator takes flat arguments
    hidden: torch.Tensor,
    a1_scale: torch.Tensor | None,
    weights: tuple[FlatWeight, FlatWeight],
    gate_mode: GateMode,
    biases: tuple[torch.Tensor | None, torch.Tensor | None],
    routing: Routing,
    options: Options,
) -> torch.Tensor:
    """Call the operator; nothing here has a gradient, traced or not."""
    if isinstance(options.target, Target):
        raise ArgumentError(
            "an operator that is traced takes the target by its name, not as an object: pass "
            f"target={options.target.name!r}"
        )
    w1, w2 = weights
    result: torch.Tensor = _fused_moe_op(
        hidden.detach(), w1.codes, w1.scales, w2.codes, w2.scales, routing.weights.detach(),
        routing.ids, w1.layout.name, w2.layout.name, [w1.rows, w1.cols, w2.rows, w2.cols],
        gate_mode.value, int(options.activation), options.dtype, options.q_dtype_a,
        options.doweight_stage1, [options.hidden_pad, options.intermediate_pad],
        options.block_m, options.ksplit,
        options.skip_inter_quant, options.swiglu_limit, options.beta, options.linear_beta,
        routing.expert_mask, routing.num_local_tokens, a1_scale, *map(_detached, biases),
        options.target,
    )  # fmt: skip
    return result
