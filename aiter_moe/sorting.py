# SPDX-License-Identifier: MIT
"""aiter's sorting functions: `moe_sorting` for tokens, `moe_mxfp4_sort` for their scales.

Names, arguments and outputs are aiter's; the work is done by the CPU target's launcher. Kernels
of this package are fed by ``Launcher.sort``, which allocates less.
"""

from __future__ import annotations

import torch

from aiter_moe import dtypes
from aiter_moe.errors import ArgumentError, DtypeError, UnsupportedProblemError
from aiter_moe.formats import MX_BLOCK, scale_bytes
from aiter_moe.targets.cpu import cpu_launcher
from aiter_moe.targets.cpu_sort import RoutedPairs, SortExtras, routed_pairs


def moe_sorting(  # noqa: PLR0913, PLR0917 - aiter's signature
    topk_ids: torch.Tensor,
    topk_weights: torch.Tensor,
    num_experts: int,
    model_dim: int,
    moebuf_dtype: torch.dtype,
    block_size: int = 32,
    expert_mask: torch.Tensor | None = None,
    num_local_tokens: torch.Tensor | None = None,
    dispatch_policy: int = 0,
    return_local_topk_ids: bool = False,
    accumulate: bool = True,
    flat: bool = False,
    output_aux: bool = False,
    output: torch.Tensor | None = None,
) -> tuple[torch.Tensor, ...]:
    """Sort (token, slot) pairs by expert into blocks of one expert each.

    Inside an expert pairs are in order of token, then slot. An id is ``slot << 24 | token``;
    pads are ``topk << 24 | tokens`` with weight 0.

    Parameters
    ----------
    topk_ids, topk_weights : torch.Tensor
        int32 and float32 [tokens, topk].
    num_experts : int
        Experts that ids may name: of all ranks where `expert_mask` is given.
    model_dim : int
        Columns of `moe_buf`.
    moebuf_dtype : torch.dtype
        Type of `moe_buf`.
    block_size : int
        Slots per block.
    expert_mask : torch.Tensor or None
        int32 [num_experts], nonzero for experts held here; pairs of others are skipped.
    num_local_tokens : torch.Tensor or None
        int32 [1]; only so many leading tokens are sorted.
    dispatch_policy : int
        Accepted for aiter's signature; there is one algorithm.
    return_local_topk_ids : bool
        Append int32 [tokens, topk]: index among the experts held here, -1 for others.
    accumulate : bool
        Whether stage 2 adds into `moe_buf`, which then is allocated and zeroed here.
    flat : bool
        Refused: no kernel of this package takes unsorted pairs.
    output_aux : bool
        Append `m_indices` int32 [P] (token of each slot, tokens in pads) and `reverse_sorted`
        int32 [tokens * topk] (slot of each pair, -1 where it has none), and allocate P for the
        experts that can occur.
    output : torch.Tensor or None
        [tokens, model_dim] of `moebuf_dtype` to zero and return as `moe_buf`.

    Returns
    -------
    sorted_ids : torch.Tensor
        int32 [P], P = tokens * topk + num_experts * block_size - topk.
    sorted_weights : torch.Tensor
        float32 [P].
    sorted_expert_ids : torch.Tensor
        int32 [ceil(P / block_size)]: local expert of each block, -1 past the used ones.
    num_valid_ids : torch.Tensor
        int32 [2]: used slots, tokens processed.
    moe_buf : torch.Tensor
        Zeros [tokens, model_dim], or an empty [0, 0] where stage 2 owns its output.

    Raises
    ------
    ArgumentError, DtypeError
        An input is unusable; an expert id out of range or a routing weight that is not finite is
        named by token and slot.
    UnsupportedProblemError
        With `flat`.
    """
    if flat:
        raise UnsupportedProblemError(
            "flat=True asks for unsorted pairs, which only aiter's one-stage assembly kernels "
            "take; leave it False for the two-stage kernels"
        )
    if output_aux and return_local_topk_ids:
        raise ArgumentError("output_aux and return_local_topk_ids exclude each other; pass one")
    pairs = routed_pairs(topk_ids, topk_weights, num_experts, expert_mask, num_local_tokens)
    capacity = _capacity(pairs, block_size, output_aux)
    extras = _extras(pairs, capacity, return_local_topk_ids, output_aux)
    result = cpu_launcher().sort_into(pairs, block_size, capacity, extras)
    shape = (topk_ids.shape[0], model_dim)
    owned = accumulate or expert_mask is not None or output is not None
    moe_buf = _moe_buf(shape if owned else (0, 0), moebuf_dtype, output)
    outputs = (result.ids, result.weights, result.expert_ids, result.num_valid, moe_buf)
    if extras.m_indices is not None and extras.reverse_sorted is not None:
        return (*outputs, extras.m_indices, extras.reverse_sorted.view(-1))
    if extras.local_topk_ids is not None:
        return (*outputs, extras.local_topk_ids)
    return outputs


def _capacity(pairs: RoutedPairs, block: int, aux: bool) -> int:
    if block < 1:
        raise ArgumentError(f"block_size={block} must be positive")
    if aux:
        return pairs.used_slots_bound(block)
    topk = pairs.ids.shape[1]
    # aiter's size, which is too small where a token may name one expert in several slots.
    return pairs.ids.numel() + max(pairs.experts * block - topk, pairs.experts * (block - 1))


def _extras(pairs: RoutedPairs, capacity: int, local_ids: bool, aux: bool) -> SortExtras:
    if local_ids:
        return SortExtras(local_topk_ids=torch.empty_like(pairs.ids))
    if aux:
        return SortExtras(
            m_indices=pairs.ids.new_empty(capacity),
            reverse_sorted=torch.empty_like(pairs.ids),
        )
    return SortExtras()


def _moe_buf(
    shape: tuple[int, int], dtype: torch.dtype, output: torch.Tensor | None
) -> torch.Tensor:
    if output is None:
        return torch.zeros(shape, dtype=dtype)
    if tuple(output.shape) != shape or output.dtype != dtype:
        raise ArgumentError(
            f"output {list(output.shape)} {output.dtype} must be {list(shape)} {dtype}"
        )
    return output.zero_()


def moe_mxfp4_sort(
    scale: torch.Tensor,
    sorted_ids: torch.Tensor,
    num_valid_ids: torch.Tensor,
    token_num: int,
    block_size: int = 32,
) -> torch.Tensor:
    """Gather activation scales into sorted order and the 32x8 tiles kernels read.

    Parameters
    ----------
    scale : torch.Tensor
        e8m0 or uint8: [tokens, C] by token (stage 1) or [tokens, topk, C] (stage 2).
    sorted_ids : torch.Tensor
        int32 [P] of `moe_sorting`.
    num_valid_ids : torch.Tensor
        int32; the first entry counts the used slots.
    token_num : int
        Tokens; ids with a larger token are pads.
    block_size : int
        Accepted for aiter's signature; the result does not depend on it.

    Returns
    -------
    torch.Tensor
        [P rounded up to 32, C rounded up to 8] of scale's dtype; pads are 0.

    Raises
    ------
    ArgumentError, DtypeError
        Shapes do not belong together, or a tensor has another dtype.
    """
    if block_size < 1:
        raise ArgumentError(f"block_size={block_size} must be positive")
    rows = scale.unsqueeze(1) if scale.dim() == 2 else scale
    return _sort_scales(rows, sorted_ids, num_valid_ids, token_num)


def mxfp4_moe_sort_fwd(
    scale: torch.Tensor,
    sorted_ids: torch.Tensor,
    num_valid_ids: torch.Tensor,
    token_num: int,
    cols: int,
) -> torch.Tensor:
    """Do as `moe_mxfp4_sort`, with scales [tokens, C] or [tokens * topk, C] and C = cols / 32.

    Parameters
    ----------
    scale : torch.Tensor
        e8m0 or uint8, any shape of tokens * cols / 32 or tokens * topk * cols / 32 bytes.
    sorted_ids, num_valid_ids : torch.Tensor
        Outputs of `moe_sorting`.
    token_num : int
        Tokens.
    cols : int
        Elements per row of the quantised activations.

    Returns
    -------
    torch.Tensor
        As of `moe_mxfp4_sort`.

    Raises
    ------
    ArgumentError, DtypeError
        Shapes do not belong together, or a tensor has another dtype.
    """
    columns = cols // MX_BLOCK
    per_slot = token_num * columns
    if cols % MX_BLOCK or per_slot <= 0 or scale.numel() % per_slot:
        raise ArgumentError(
            f"scale {list(scale.shape)} does not hold rows of {cols} / {MX_BLOCK} bytes for "
            f"{token_num} tokens"
        )
    rows = scale.reshape(token_num, scale.numel() // per_slot, columns)
    return _sort_scales(rows, sorted_ids, num_valid_ids, token_num)


def _sort_scales(
    scale: torch.Tensor, sorted_ids: torch.Tensor, num_valid_ids: torch.Tensor, token_num: int
) -> torch.Tensor:
    codes = scale_bytes(scale, "scale").contiguous()
    if sorted_ids.dtype != torch.int32 or sorted_ids.dim() != 1:
        raise DtypeError(
            f"sorted_ids must be int32 [P], found {sorted_ids.dtype} {list(sorted_ids.shape)}"
        )
    if codes.dim() != 3 or codes.shape[0] < token_num or not codes.is_cpu:
        raise ArgumentError(
            f"scale {list(scale.shape)} on {scale.device} has no row for each of {token_num} "
            "tokens in host memory"
        )
    used = int(num_valid_ids.view(-1)[0].item())
    if not 0 <= used <= sorted_ids.shape[0]:
        raise ArgumentError(
            f"num_valid_ids says {used} of {sorted_ids.shape[0]} sorted slots are used; pass both "
            "from one moe_sorting"
        )
    out = cpu_launcher().sort_scales(codes, sorted_ids.contiguous(), used, token_num)
    return out.view(dtypes.fp8_e8m0) if scale.dtype != torch.uint8 else out
