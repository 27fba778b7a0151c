# SPDX-License-Identifier: MIT
"""The steps between stage kernels as launches of GPU kernels: arguments, results, what they touch.

Sizes come from shapes; nothing reads a value of device memory, and nothing makes torch launch a
kernel. Who runs the launches is `aiter_moe.targets.hip_launcher`; grids are
`aiter_moe.codegen.gfx9.steps`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import torch

from aiter_moe.codegen.gfx9 import Launch
from aiter_moe.codegen.gfx9.steps import (
    quantise_launch,
    reduce_launch,
    scatter_launch,
    sort_launch,
)
from aiter_moe.errors import ArgumentError, DtypeError
from aiter_moe.formats import MX_BLOCK
from aiter_moe.layouts import S
from aiter_moe.targets.base import RoutedTokens, SortedTokens
from aiter_moe.targets.routed_pairs import (
    check_capacity,
    check_count,
    check_mask,
    check_pairs,
    used_slots_bound,
)
from aiter_moe.targets.step_arguments import QuantiseStepArgs, ReduceStepArgs, SortStepArgs

Empty: TypeAlias = Callable[[tuple[int, ...], torch.dtype, torch.device], torch.Tensor]
"""``Launcher.empty``."""
ELEMENTS = {torch.bfloat16: "bf16", torch.float16: "f16", torch.float32: "f32"}
_INT32_END = 1 << 31


@dataclass(slots=True)
class Step:
    """One launch: its arguments, and the tensors they point into.

    Attributes
    ----------
    args : ctypes.Structure
        Arguments of the kernel.
    tensors : list of torch.Tensor
        All memory it may touch.
    launch : Launch or None
        Kernel and grid, once the arguments are complete.
    """

    args: ctypes.Structure
    tensors: list[torch.Tensor] = field(default_factory=list)
    launch: Launch | None = None

    def point(self, name: str, tensor: torch.Tensor | None) -> None:
        """Let an argument point to the first element of `tensor`; None leaves it null."""
        if tensor is not None:
            setattr(self.args, name, tensor.data_ptr())
            self.tensors.append(tensor)


def positions_of(routed: SortedTokens) -> torch.Tensor:
    """Return the sorted slots of pairs, which every sort on a GPU gives."""
    assert routed.positions is not None, "the sort was not that of a GPU"
    return routed.positions


def admitted(routed: RoutedTokens) -> RoutedTokens:
    """Return the routing as kernels read it: dense, with a mask and a number of int32.

    Tensors that are so already, as those of aiter are, stay; torch converts others.

    Raises
    ------
    ArgumentError, DtypeError
        A tensor is unusable.
    """
    check_pairs(routed.ids, routed.weights, routed.experts)
    mask, count = routed.expert_mask, routed.local_tokens
    if mask is not None:
        check_mask(mask, routed.experts)
        mask = mask.contiguous() if mask.dtype == torch.int32 else (mask != 0).to(torch.int32)
    if count is not None:
        check_count(count)
        count = count if count.dtype == torch.int32 else count.to(torch.int32)
    return replace(
        routed, ids=routed.ids.contiguous(), weights=routed.weights.contiguous(),
        expert_mask=mask, local_tokens=count,
    )  # fmt: skip


def sort_step(
    routed: RoutedTokens, block: int, cleared: torch.Tensor | None, empty: Empty
) -> tuple[Step, SortedTokens]:
    """Return the sort of routed pairs by expert, padded per expert to `block`.

    Parameters
    ----------
    routed : RoutedTokens
        What is sorted.
    block : int
        Slots per block, a power of two.
    cleared : torch.Tensor or None
        [rows, columns] of 2 or 4 bytes an element, columns dense: to be filled with zeros.
    empty : callable
        Gives the memory of the results.

    Raises
    ------
    ArgumentError, DtypeError
        An input is unusable.
    LaunchError
        There are more experts than the kernel counts.
    """
    routed = admitted(routed)
    shape = routed.ids.shape
    capacity = used_slots_bound(shape.numel(), routed.experts, max(block, 1))
    check_capacity(shape, routed.experts, block, capacity)
    if block & (block - 1):
        raise ArgumentError(f"block_size={block}: the sort on a GPU pads to powers of two")
    device = routed.ids.device
    found = SortedTokens(
        ids=empty((capacity,), torch.int32, device),
        weights=empty((capacity,), torch.float32, device),
        expert_ids=empty((capacity // block,), torch.int32, device),
        num_valid=empty((2,), torch.int32, device),
        positions=empty(tuple(shape), torch.int32, device),
        whole=routed.expert_mask is None and routed.local_tokens is None,
    )
    step = Step(SortStepArgs())
    args = step.args
    step.point("topk_ids", routed.ids)
    step.point("topk_weights", routed.weights)
    step.point("expert_mask", routed.expert_mask)
    step.point("local_tokens", routed.local_tokens)
    step.point("sorted_ids", found.ids)
    step.point("sorted_weights", found.weights)
    step.point("sorted_expert_ids", found.expert_ids)
    step.point("num_valid", found.num_valid)
    step.point("positions", found.positions)
    args.tokens, args.topk = shape
    args.experts = routed.experts
    args.block_shift = block.bit_length() - 1
    args.capacity = capacity
    args.first_token = routed.first_token or 0
    _clear(step, cleared)
    step.launch = sort_launch(args)
    return step, found


def _clear(step: Step, cleared: torch.Tensor | None) -> None:
    if cleared is None or cleared.numel() == 0:
        return
    step.point("cleared", cleared)
    size, args = cleared.element_size(), step.args
    rows, columns = cleared.shape
    whole = cleared.is_contiguous() and cleared.numel() * size < _INT32_END
    args.cleared_rows = 1 if whole else rows
    args.cleared_bytes = (cleared.numel() if whole else columns) * size
    args.cleared_pitch = cleared.stride(0) * size


def quantise_step(
    x: torch.Tensor, routed: SortedTokens | None, empty: Empty
) -> tuple[Step, torch.Tensor, torch.Tensor]:
    """Return the quantisation of rows to MXFP4 by aiter's default rule.

    Parameters
    ----------
    x : torch.Tensor
        bfloat16, float16 or float32 [rows, K], K a multiple of 32, columns dense: by token, or
        by token and slot.
    routed : SortedTokens or None
        Which sorted rows take a row; None: scales stay by row.
    empty : callable
        Gives the memory of the results.

    Returns
    -------
    step : Step
        What makes the results.
    codes : torch.Tensor
        uint8 [rows, K/2].
    scales : torch.Tensor
        uint8: 32x8 tiles over sorted rows, or [rows, K/32].

    Raises
    ------
    ArgumentError, DtypeError
        `x` is unusable.
    """
    if x.dtype not in ELEMENTS:
        raise DtypeError(f"quantise: wanted bfloat16, float16 or float32, found {x.dtype}")
    if x.dim() != 2 or x.shape[1] % MX_BLOCK:
        raise ArgumentError(
            f"quantise: wanted [rows, K] with K a multiple of {MX_BLOCK}, found {list(x.shape)}"
        )
    if x.stride(1) != 1:
        x = x.contiguous()
    rows, columns = x.shape
    step = Step(QuantiseStepArgs())
    codes = empty((rows, columns // 2), torch.uint8, x.device)
    step.point("x", x)
    step.point("codes", codes)
    step.args.x_stride = x.stride(0)
    scales = _scales(step, rows, columns, routed, empty)
    step.launch = quantise_launch(step.args, ELEMENTS[x.dtype])
    return step, codes, scales


def scatter_step(
    given: torch.Tensor, routed: SortedTokens, empty: Empty
) -> tuple[Step, torch.Tensor]:
    """Return the layout of given e8m0 scales, uint8 [rows, columns], as tiles of sorted rows."""
    rows, columns = given.shape
    step = Step(QuantiseStepArgs())
    step.point("given", given)
    step.args.given_stride = given.stride(0)
    scales = _scales(step, rows, MX_BLOCK * columns, routed, empty)
    step.launch = scatter_launch(step.args)
    return step, scales


def _scales(
    step: Step, rows: int, columns: int, routed: SortedTokens | None, empty: Empty
) -> torch.Tensor:
    args, blocks = step.args, columns // MX_BLOCK
    args.rows, args.columns = rows, columns
    device = step.tensors[0].device
    if routed is None:
        scales = empty((rows, blocks), torch.uint8, device)
    else:
        scales = empty(S.physical_shape(routed.ids.shape[0], blocks), torch.uint8, device)
        positions = positions_of(routed)
        tokens, topk = positions.shape
        step.point("positions", positions)
        step.point("num_valid", None if routed.whole else routed.num_valid)
        args.rows_per_token = 1 if rows == tokens else topk
        args.fan = topk // args.rows_per_token
    step.point("scales", scales)
    args.scale_stride = scales.shape[1]
    return scales


def reduce_step(rows: torch.Tensor, routed: SortedTokens, out: torch.Tensor) -> Step:
    """Return the sum of f32 rows over the slots of a token, rounded once.

    Parameters
    ----------
    rows : torch.Tensor
        float32 [tokens * topk, n], contiguous.
    routed : SortedTokens
        Which of them were computed.
    out : torch.Tensor
        bfloat16, float16 or float32 [tokens, columns], columns dense; those past n become 0.

    Raises
    ------
    ArgumentError, DtypeError
        The tensors do not belong together.
    """
    if rows.dtype != torch.float32 or out.dtype not in ELEMENTS:
        raise DtypeError(
            f"reduce: wanted float32 rows into bfloat16, float16 or float32, found {rows.dtype} "
            f"into {out.dtype}"
        )
    positions = positions_of(routed)
    tokens, topk = positions.shape
    columns = rows.shape[1]
    fits = rows.shape[0] == tokens * topk and out.shape[0] == tokens and columns <= out.shape[1]
    if not fits or not rows.is_contiguous() or out.stride(1) != 1:
        raise ArgumentError(
            f"reduce: contiguous rows {list(rows.shape)} of {tokens} tokens with topk {topk} do "
            f"not sum to rows of {list(out.shape)} with strides {out.stride()}"
        )
    step = Step(ReduceStepArgs())
    step.point("rows", rows)
    # Where none is skipped the kernel need not wait to know.
    step.point("positions", None if routed.whole else positions)
    step.point("out", out)
    args = step.args
    args.out_stride = out.stride(0)
    args.tokens, args.topk = tokens, topk
    args.columns, args.out_columns = columns, out.shape[1]
    step.launch = reduce_launch(args, ELEMENTS[out.dtype])
    return step
