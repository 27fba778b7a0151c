# SPDX-License-Identifier: MIT
"""The MoE sort of the CPU target: checks, sizes and the call into the support library.

The public function with aiter's outputs is `aiter_moe.sorting`; the algorithm is in
csrc/cpu/runtime/sort.h.
"""

from __future__ import annotations

import ctypes
import struct
from dataclasses import dataclass

import torch

from aiter_moe.errors import ArgumentError, LaunchError
from aiter_moe.sizes import ceil_div
from aiter_moe.targets.base import SortedTokens
from aiter_moe.targets.cpu_arguments import LayerCall, SortArgs
from aiter_moe.targets.cpu_runtime import Runtime
from aiter_moe.targets.routed_pairs import (
    bad_expert,
    bad_mask,
    bad_weight,
    check_capacity,
    check_mask,
    check_pairs,
    dense_mask,
    routed_count,
    used_slots_bound,
)

_ANY_NUMBER = -1
SORTED, _BAD_EXPERT, _BAD_WEIGHT, _NO_ROOM, _NO_MEMORY, _BAD_MASK = range(6)


@dataclass(frozen=True, slots=True)
class RoutedPairs:
    """What is sorted: checked routing tensors on the CPU.

    Attributes
    ----------
    ids : torch.Tensor
        int32 [tokens, topk], contiguous.
    weights : torch.Tensor
        float32 [tokens, topk], contiguous.
    experts : int
        Experts that ids may name.
    mask : torch.Tensor or None
        int32 [experts], nonzero for experts held here.
    processed : int
        Leading tokens that are sorted.
    """

    ids: torch.Tensor
    weights: torch.Tensor
    experts: int
    mask: torch.Tensor | None
    processed: int

    def used_slots_bound(self, block: int) -> int:
        """Return a multiple of `block` no sort of these pairs exceeds."""
        return used_slots_bound(self.ids.numel(), self.experts, block)


@dataclass(frozen=True, slots=True)
class SortExtras:
    """Further outputs, each int32 and contiguous, or None.

    Attributes
    ----------
    local_topk_ids : torch.Tensor or None
        [tokens, topk]: index among the experts held here, -1 for others.
    m_indices : torch.Tensor or None
        [capacity]: token of each sorted slot, the number of tokens in pads.
    reverse_sorted : torch.Tensor or None
        [tokens, topk]: sorted slot of each pair, -1 where it has none.
    """

    local_topk_ids: torch.Tensor | None = None
    m_indices: torch.Tensor | None = None
    reverse_sorted: torch.Tensor | None = None


_NO_EXTRAS = SortExtras()


def routed_pairs(
    topk_ids: torch.Tensor,
    topk_weights: torch.Tensor,
    num_experts: int,
    expert_mask: torch.Tensor | None,
    num_local_tokens: torch.Tensor | int | None,
    first_token: int | None = None,
) -> RoutedPairs:
    """Check routing tensors and bring them into the form the sort reads.

    Raises
    ------
    ArgumentError
        A shape or size is unusable, or the tensors are not on the CPU.
    DtypeError
        A tensor has another dtype.
    """
    check_pairs(topk_ids, topk_weights, num_experts)
    if not (topk_ids.is_cpu and topk_weights.is_cpu):
        raise ArgumentError(
            f"the CPU target sorts tensors in host memory; topk_ids are on {topk_ids.device}, "
            f"topk_weights on {topk_weights.device}"
        )
    mask = None if expert_mask is None else _checked_mask(expert_mask, num_experts)
    tokens = topk_ids.shape[0]
    processed = routed_count(num_local_tokens, tokens, first_token)
    return RoutedPairs(
        topk_ids.contiguous(), topk_weights.contiguous(), num_experts, mask, processed
    )


def _checked_mask(mask: torch.Tensor, experts: int) -> torch.Tensor:
    check_mask(mask, experts)
    if not mask.is_cpu:
        raise ArgumentError(f"expert_mask is on {mask.device}; the CPU target reads host memory")
    return dense_mask(mask)


def sort_pairs(
    runtime: Runtime,
    threads: int,
    pairs: RoutedPairs,
    block: int,
    capacity: int,
    extras: SortExtras = _NO_EXTRAS,
) -> SortedTokens:
    """Sort `pairs` into blocks of `block` slots of one expert each.

    Parameters
    ----------
    runtime : Runtime
        The support library.
    threads : int
        Threads that may take part.
    pairs : RoutedPairs
        What to sort.
    block : int
        Slots per block.
    capacity : int
        Sorted slots to allocate.
    extras : SortExtras
        Further outputs to fill.

    Raises
    ------
    ArgumentError
        A size is unusable, an expert id is out of range, or a routing weight is not finite.
    """
    check_capacity(pairs.ids.shape, pairs.experts, block, capacity)
    blocks = ceil_div(capacity, block)
    ids = pairs.ids.new_empty(capacity)
    weights = pairs.weights.new_empty(capacity)
    expert_ids = pairs.ids.new_empty(blocks)
    num_valid = pairs.ids.new_empty(2)
    tokens, topk = pairs.ids.shape
    args = SortArgs(
        pairs.ids.data_ptr(), pairs.weights.data_ptr(), _address(pairs.mask), ids.data_ptr(),
        weights.data_ptr(), expert_ids.data_ptr(), num_valid.data_ptr(),
        _address(extras.local_topk_ids), _address(extras.m_indices),
        _address(extras.reverse_sorted), tokens, topk, pairs.experts, block, pairs.processed,
        capacity, blocks, held=_ANY_NUMBER,
    )  # fmt: skip
    verdict = runtime.sort(ctypes.addressof(args), threads)
    if verdict != SORTED:
        raise refused(verdict, args, pairs.experts)
    return SortedTokens(ids, weights, expert_ids, num_valid, extras.reverse_sorted)


def _address(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def refused(
    verdict: int, args: SortArgs | LayerCall, experts: int, held: int = _ANY_NUMBER
) -> Exception:
    """Return the error of a sort that came to another verdict than `SORTED`.

    Parameters
    ----------
    verdict : int
        What the sort returned.
    args : SortArgs or LayerCall
        What it was given, with the offender filled in.
    experts, held : int
        Experts that ids may name, and those the mask must mark.
    """
    token, slot = args.bad_token, args.bad_slot
    if verdict == _BAD_EXPERT:
        return bad_expert(token, slot, args.bad_bits, experts)
    if verdict == _BAD_WEIGHT:
        return bad_weight(token, slot, struct.unpack("f", struct.pack("i", args.bad_bits))[0])
    if verdict == _BAD_MASK:
        return bad_mask(args.bad_bits, held)
    assert verdict == _NO_MEMORY, "the sort needs more than its slots"
    return LaunchError(f"no memory to count pairs over {experts} experts")
