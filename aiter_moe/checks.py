# SPDX-License-Identifier: MIT
"""Checks of what a caller hands to `fused_moe`: one clear error each, before anything runs.

Values inside the routing tensors (expert ids, NaN weights) are checked by the sort, which reads
them anyway.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from aiter_moe import dtypes
from aiter_moe.enums import ActivationType, GateMode, QuantType
from aiter_moe.errors import ArgumentError, DtypeError, UnsupportedProblemError
from aiter_moe.formats import MX_BLOCK
from aiter_moe.layouts import PackedWeight
from aiter_moe.targets.routed_pairs import bad_mask


def _shape(tensor: torch.Tensor) -> list[int]:
    return list(tensor.shape)


def check_hidden_dtype(dtype: torch.dtype) -> None:
    """Refuse activations of a type no kernel takes."""
    if dtype not in (torch.bfloat16, torch.float16, dtypes.fp4x2, torch.uint8):
        raise DtypeError(
            f"hidden_states are {dtype}; pass torch.bfloat16, torch.float16, or fp4x2 codes "
            "with a1_scale"
        )


def check_hidden(hidden: torch.Tensor, a1_scale: torch.Tensor | None, model_dim: int) -> None:
    """Refuse activations that are not [tokens, model_dim] bf16/fp16, or fp4 codes with scales."""
    if hidden.dim() != 2:
        raise ArgumentError(f"hidden_states must be [tokens, model_dim], got {_shape(hidden)}")
    check_hidden_dtype(hidden.dtype)
    if hidden.dtype in (dtypes.fp4x2, torch.uint8):
        _check_quantised(hidden, a1_scale, model_dim)
        return
    if a1_scale is not None:
        raise ArgumentError(
            f"a1_scale was given with {hidden.dtype} hidden_states; it belongs to fp4x2 codes only"
        )
    if hidden.shape[1] != model_dim:
        raise ArgumentError(
            f"hidden_states {_shape(hidden)} do not fit weights of model_dim {model_dim}; pass "
            f"[tokens, {model_dim}]"
        )


def _check_quantised(hidden: torch.Tensor, scale: torch.Tensor | None, model_dim: int) -> None:
    if scale is None:
        raise ArgumentError("hidden_states are fp4x2 codes; pass their e8m0 scales as a1_scale")
    want = [hidden.shape[0], model_dim // MX_BLOCK]
    if hidden.shape[1] * 2 != model_dim or _shape(scale) != want:
        raise ArgumentError(
            f"fp4x2 hidden_states {_shape(hidden)} with a1_scale {_shape(scale)} do not fit "
            f"model_dim {model_dim}: codes [tokens, {model_dim // 2}], scales {want}"
        )
    if scale.dtype not in (dtypes.fp8_e8m0, torch.uint8):
        raise DtypeError(f"a1_scale is {scale.dtype}; pass e8m0 bytes (float8_e8m0fnu or uint8)")


def check_weights(w1: PackedWeight, w2: PackedWeight) -> None:
    """Refuse two weights that are not the two halves of one MoE layer."""
    if w1.experts != w2.experts:
        raise ArgumentError(f"w1 holds {w1.experts} experts, w2 holds {w2.experts}")
    if w1.experts == 0:
        raise ArgumentError("w1 holds no experts; a rank without any has nothing to compute")
    if w1.cols != w2.rows:
        raise ArgumentError(
            f"w1 reduces over {w1.cols} elements but w2 produces {w2.rows}: both are model_dim; "
            "pass w1 [experts, 2 * inter_dim, model_dim], then w2 [experts, model_dim, inter_dim]"
        )
    if w1.rows == w2.cols:
        raise UnsupportedProblemError(
            f"w1 has {w1.rows} rows, as many as w2 has columns: a weight without up rows (g1u0); "
            "kernels compute gate and up (g1u1, w1 [E, 2 * inter_dim, model_dim / 2])"
        )
    if w1.rows != 2 * w2.cols:
        raise ArgumentError(
            f"w1 has {w1.rows} rows and w2 {w2.cols} columns; w1 needs twice inter_dim rows"
        )


def check_routing(topk_weight: torch.Tensor, topk_ids: torch.Tensor, tokens: int) -> None:
    """Refuse routing tensors of another shape or dtype than [tokens, topk] f32 and int32."""
    if topk_ids.dim() != 2 or topk_ids.shape[0] != tokens:
        raise ArgumentError(f"topk_ids {_shape(topk_ids)} must be [{tokens}, topk]")
    if topk_weight.shape != topk_ids.shape:
        raise ArgumentError(
            f"topk_weight {_shape(topk_weight)} and topk_ids {_shape(topk_ids)} differ in shape"
        )
    if topk_ids.dtype != torch.int32:
        raise DtypeError(f"topk_ids are {topk_ids.dtype}; pass torch.int32")
    if topk_weight.dtype != torch.float32:
        raise DtypeError(f"topk_weight is {topk_weight.dtype}; pass torch.float32")


def check_bias(bias: torch.Tensor | None, name: str, experts: int, rows: int) -> None:
    """Refuse a bias that is not contiguous float32 [experts, rows]."""
    if bias is None:
        return
    if bias.dtype != torch.float32:
        raise DtypeError(f"{name} is {bias.dtype}; pass torch.float32")
    if _shape(bias) != [experts, rows] or not bias.is_contiguous():
        raise ArgumentError(
            f"{name} {_shape(bias)} must be a contiguous [{experts}, {rows}] tensor"
        )


def check_padding(pad: int, name: str, size: int) -> None:
    """Refuse a padding that is negative or leaves nothing."""
    if not 0 <= pad < size:
        raise ArgumentError(f"{name}={pad} must lie in [0, {size})")


def check_limit(limit: float | None) -> None:
    """Refuse a clamp that is negative or not a number; 0 and None are no clamp of the caller's."""
    if limit is not None and not limit >= 0:
        raise ArgumentError(
            f"swiglu_limit={limit} must be positive; 0 or None takes the activation's own"
        )


def check_beta(beta: float | None, name: str) -> None:
    """Refuse a constant of Situv2 that its ``tanh(x / beta)`` cannot divide by."""
    if beta is not None and (beta == 0 or not math.isfinite(beta)):
        raise ArgumentError(f"{name}={beta} must be finite and not 0; None takes 1.0")


def check_quant_type(quant_type: QuantType | int) -> None:
    """Refuse every quantisation but MXFP4; the default `No` leaves the choice to the weights."""
    if int(quant_type) not in map(int, (QuantType.per_1x32, QuantType.No)):
        raise UnsupportedProblemError(
            f"quant_type {quant_type}: MXFP4 weights are QuantType.per_1x32; use aiter for others"
        )


def activation_type(activation: ActivationType | int) -> ActivationType:
    """Return the activation of a member or of aiter's integer."""
    try:
        return ActivationType(int(activation))
    except (TypeError, ValueError):
        known = ", ".join(f"{int(a)} ({a.name})" for a in ActivationType)
        raise ArgumentError(f"activation={activation!r} is none of {known}") from None


def gate_order(gate_mode: GateMode | str) -> GateMode:
    """Return the order of w1's rows the caller names, one that kernels read."""
    try:
        order = GateMode(gate_mode)
    except ValueError:
        known = ", ".join(repr(m.value) for m in GateMode)
        raise ArgumentError(f"gate_mode={gate_mode!r} is none of {known}") from None
    if order not in (GateMode.SEPARATED, GateMode.INTERLEAVE):
        raise UnsupportedProblemError(
            f"gate_mode={order.value!r}: kernels compute gate and up rows, 'separated' or "
            "'interleave'; use aiter for w1 without up rows"
        )
    return order


def check_output(output: torch.Tensor | None, shape: tuple[int, int], dtype: torch.dtype) -> None:
    """Refuse a destination of another shape or dtype."""
    if output is None:
        return
    if tuple(output.shape) != shape or output.dtype != dtype or not output.is_contiguous():
        raise ArgumentError(
            f"output {_shape(output)} {output.dtype} must be a contiguous {list(shape)} {dtype}"
        )


def check_overlap(output: torch.Tensor | None, hidden: torch.Tensor) -> None:
    """Refuse a destination that overlaps the input."""
    if output is None:
        return
    begin = hidden.data_ptr()
    end = begin + (hidden.nbytes if hidden.is_contiguous() else _span(hidden))
    if output.data_ptr() < end and begin < output.data_ptr() + output.nbytes:
        raise ArgumentError("output overlaps hidden_states, which stage 1 still reads")


def _span(tensor: torch.Tensor) -> int:
    """Return the bytes from a tensor's first element to the end of its last in memory."""
    if not tensor.numel():
        return 0
    places = zip(tensor.shape, tensor.stride(), strict=True)
    return (1 + sum((size - 1) * step for size, step in places)) * tensor.element_size()


def check_expert_mask(mask: torch.Tensor | None, local: int) -> None:
    """Refuse an expert mask whose local experts are not those of the weights."""
    if mask is None:
        return
    if mask.dim() != 1 or mask.dtype not in (torch.int32, torch.bool, torch.int64):
        raise DtypeError(f"expert_mask must be int32 [experts], got {mask.dtype} {_shape(mask)}")
    if not mask.is_cpu:
        return  # counting would wait for the device
    held = int(np.count_nonzero(mask.detach().numpy()))
    if held != local:
        raise bad_mask(held, local)
