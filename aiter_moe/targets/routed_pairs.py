# SPDX-License-Identifier: MIT
"""What every sort checks of its routing tensors, and how many sorted slots they can need.

The sorts themselves are `aiter_moe.targets.cpu_sort` and `aiter_moe.targets.device_steps`.
"""

from __future__ import annotations

import numpy as np
import torch

from aiter_moe.errors import ArgumentError, DtypeError
from aiter_moe.sizes import round_up
from aiter_moe.targets.base import RoutedTokens

MAX_TOKENS = 1 << 24
MAX_TOPK = 1 << 8
_INT32_END = 1 << 31


def check_pairs(topk_ids: torch.Tensor, topk_weights: torch.Tensor, num_experts: int) -> None:
    """Refuse routed ids and weights that are not int32 and float32 [tokens, topk].

    Raises
    ------
    ArgumentError
        A shape or size is unusable.
    DtypeError
        A tensor has another dtype.
    """
    if topk_ids.dim() != 2 or topk_ids.shape != topk_weights.shape:
        raise ArgumentError(
            f"topk_ids {list(topk_ids.shape)} and topk_weights {list(topk_weights.shape)} must "
            "both be [tokens, topk]"
        )
    if topk_ids.dtype != torch.int32:
        raise DtypeError(f"topk_ids are {topk_ids.dtype}; pass torch.int32")
    if topk_weights.dtype != torch.float32:
        raise DtypeError(f"topk_weights are {topk_weights.dtype}; pass torch.float32")
    tokens, topk = topk_ids.shape
    if tokens >= MAX_TOKENS or not 0 < topk < MAX_TOPK:
        raise ArgumentError(
            f"{tokens} tokens with topk {topk}: a sorted id holds a token below 2^24 and a slot "
            "below 256; split the batch"
        )
    if num_experts < 1:
        raise ArgumentError(f"num_experts={num_experts} must be positive")


def check_mask(mask: torch.Tensor, experts: int) -> None:
    """Refuse an expert mask that is not integers or bool [experts]."""
    if mask.dim() != 1 or mask.shape[0] != experts:
        raise ArgumentError(
            f"expert_mask {list(mask.shape)} must be [{experts}], one entry per expert of all ranks"
        )
    if mask.dtype not in (torch.int32, torch.bool, torch.uint8, torch.int64):
        raise DtypeError(
            f"expert_mask is {mask.dtype}; pass torch.int32, nonzero for local experts"
        )


def check_count(num_local_tokens: torch.Tensor) -> None:
    """Refuse a number of leading tokens that is not one integer."""
    if num_local_tokens.numel() != 1 or num_local_tokens.dtype.is_floating_point:
        raise ArgumentError(
            f"num_local_tokens {list(num_local_tokens.shape)} {num_local_tokens.dtype} must "
            "hold one integer"
        )


def routed_count(
    num_local_tokens: torch.Tensor | int | None, tokens: int, first_token: int | None = None
) -> int:
    """Return how many leading tokens of a run count.

    Parameters
    ----------
    num_local_tokens : torch.Tensor, int or None
        Leading tokens of the whole call that do, in host memory; None: all.
    tokens : int
        Tokens of the run.
    first_token : int or None
        Tokens of the call before this run; None: it is the whole call.

    Raises
    ------
    ArgumentError
        It is not one integer, or a whole call has not so many tokens.
    """
    if num_local_tokens is None:
        return tokens
    if isinstance(num_local_tokens, torch.Tensor):
        check_count(num_local_tokens)
        num_local_tokens = int(num_local_tokens.item())
    if first_token is not None:
        return min(max(num_local_tokens - first_token, 0), tokens)
    if not 0 <= num_local_tokens <= tokens:
        raise bad_count(num_local_tokens, tokens)
    return num_local_tokens


def dense_mask(mask: torch.Tensor) -> torch.Tensor:
    """Return an expert mask as sorts read it: contiguous int32."""
    return (mask if mask.dtype == torch.int32 else (mask != 0).to(torch.int32)).contiguous()


def check_values(routed: RoutedTokens) -> None:
    """Refuse pairs in host memory that cannot be sorted, the first in order of token and slot.

    Raises
    ------
    ArgumentError
        An id names no expert, a routing weight of an expert held here is not finite, or there
        are fewer tokens than local ones.
    """
    ids, weights = routed.ids.detach().numpy(), routed.weights.detach().numpy()
    tokens, topk = ids.shape
    count = tokens
    if routed.local_tokens is not None:
        check_count(routed.local_tokens)
        count = int(routed.local_tokens.numpy().flat[0]) - (routed.first_token or 0)
        if routed.first_token is None and not 0 <= count <= tokens:
            raise bad_count(count, tokens)
    ids, weights = ids[: max(count, 0)], weights[: max(count, 0)]
    strange = (ids < 0) | (ids >= routed.experts)
    wanted = ~strange
    if routed.expert_mask is not None:
        check_mask(routed.expert_mask, routed.experts)
        wanted &= routed.expert_mask.numpy()[np.where(strange, 0, ids)] != 0
    bad = strange | (wanted & ~np.isfinite(weights))
    if not bad.any():
        return
    token, slot = divmod(int(bad.argmax()), topk)
    if strange[token, slot]:
        raise bad_expert(token, slot, int(ids[token, slot]), routed.experts)
    raise bad_weight(token, slot, float(weights[token, slot]))


def bad_count(count: int, tokens: int) -> ArgumentError:
    """Return the error for more local tokens than there are, or fewer than none."""
    return ArgumentError(f"num_local_tokens={count}, but topk_ids have {tokens} rows")


def used_slots_bound(pairs: int, experts: int, block: int) -> int:
    """Return a multiple of `block` no sort of so many pairs over so many experts exceeds."""
    return round_up(pairs + min(experts, pairs) * (block - 1), block)


def check_capacity(shape: tuple[int, ...], experts: int, block: int, capacity: int) -> None:
    """Refuse blocks of no slots, and more sorted slots than int32 counts."""
    if block < 1:
        raise ArgumentError(f"block_size={block} must be positive")
    if capacity >= _INT32_END:
        raise ArgumentError(
            f"{list(shape)} ids over {experts} experts in blocks of {block} need "
            f"{capacity} sorted slots, more than int32 counts; split the batch"
        )


def bad_expert(token: int, slot: int, expert: int, experts: int) -> ArgumentError:
    """Return the error for an id that names no expert."""
    return ArgumentError(
        f"topk_ids [token {token}, slot {slot}] is {expert}, but there are {experts} experts; ids "
        f"run from 0 to {experts - 1}"
    )


def bad_weight(token: int, slot: int, weight: float) -> ArgumentError:
    """Return the error for a routing weight that is infinite or NaN."""
    return ArgumentError(
        f"topk_weights [token {token}, slot {slot}] is {weight}; routing weights must be finite: "
        "look for NaN or overflow in the router's logits"
    )


def bad_mask(marked: int, held: int) -> ArgumentError:
    """Return the error for a mask of another number of experts than there are weights."""
    return ArgumentError(f"expert_mask marks {marked} experts as local, the weights hold {held}")
