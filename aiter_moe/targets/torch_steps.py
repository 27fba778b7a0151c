# SPDX-License-Identifier: MIT
"""The steps between stage kernels as torch operations: sort, quantise, scale tiles, reduction.

Same bits as the CPU target's, on any device torch knows. Nothing waits for the device: sizes come
from shapes, counts stay in tensors. Values are checked only where reading them costs no wait.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from aiter_moe.enums import ScaleRounding
from aiter_moe.errors import ArgumentError, DtypeError
from aiter_moe.formats import MX_BLOCK, NAN_SCALE, quantise_1x32
from aiter_moe.layouts import S
from aiter_moe.targets.base import SortedTokens
from aiter_moe.targets.routed_pairs import (
    bad_count,
    bad_expert,
    bad_weight,
    check_capacity,
    check_count,
    check_mask,
    check_pairs,
    used_slots_bound,
)

_FLOATS = (torch.bfloat16, torch.float16, torch.float32)
_TOKEN_BITS = 24
_TOKEN_MASK = (1 << _TOKEN_BITS) - 1
_CODES_PER_SCALE = MX_BLOCK // 2


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Routed pairs in order of token, then slot, each [tokens * topk].

    Attributes
    ----------
    expert : torch.Tensor
        int64 global expert; of an id out of range the nearest expert.
    weight : torch.Tensor
        float32 routing weight; NaN where the id is out of range, so that it shows.
    wanted : torch.Tensor
        bool: a leading token whose expert is held here.
    held : torch.Tensor
        bool [experts].
    processed : torch.Tensor
        int64 [1]: leading tokens that are sorted.
    """

    expert: torch.Tensor
    weight: torch.Tensor
    wanted: torch.Tensor
    held: torch.Tensor
    processed: torch.Tensor


def sort(
    topk_ids: torch.Tensor,
    topk_weights: torch.Tensor,
    num_experts: int,
    block: int,
    expert_mask: torch.Tensor | None,
    num_local_tokens: torch.Tensor | None,
) -> SortedTokens:
    """Sort (token, slot) pairs by expert, padded per expert to `block`; see ``Launcher.sort``.

    On host memory an id out of range, a weight that is not finite and a wrong number of local
    tokens are refused by name. Elsewhere they are not looked at, since that would wait for the
    device: such a pair makes its token's result NaN, and the number is cut to the tokens.

    Raises
    ------
    ArgumentError, DtypeError
        An input is unusable.
    """
    check_pairs(topk_ids, topk_weights, num_experts)
    shape = topk_ids.shape
    count = shape.numel()
    capacity = used_slots_bound(count, num_experts, max(block, 1))
    check_capacity(shape, num_experts, block, capacity)
    pairs = _pairs(topk_ids, topk_weights, num_experts, expert_mask, num_local_tokens)
    tokens, topk = shape
    device = topk_ids.device

    # Pairs that are not sorted get a key past the last expert. A stable sort keeps token and slot
    # order inside an expert.
    key, order = torch.where(pairs.wanted, pairs.expert, num_experts).sort(stable=True)
    experts = torch.arange(num_experts, device=device)
    begin = torch.searchsorted(key, experts)
    pairs_of = torch.searchsorted(key, experts, right=True) - begin
    blocks_of = (pairs_of + block - 1) // block
    block_end = blocks_of.cumsum(0)

    # Each block looks up its expert, each slot of it its pair: gathers only, so no order of
    # writes can matter.
    number = torch.arange(capacity // block, device=device)
    owner = torch.searchsorted(block_end, number, right=True)
    used, owner = owner < num_experts, owner.clamp(max=num_experts - 1)
    first = (number - (block_end - blocks_of)[owner]) * block
    inside = first[:, None] + torch.arange(block, device=device)
    real = used[:, None] & (inside < pairs_of[owner][:, None])
    source = order[(begin[owner][:, None] + inside).clamp(max=count - 1)]
    words = source % topk << _TOKEN_BITS | source // topk
    local = pairs.held.cumsum(0) - 1
    return SortedTokens(
        ids=_int32(torch.where(real, words, topk << _TOKEN_BITS | tokens)).view(-1),
        weights=torch.where(real, pairs.weight[source], 0.0).view(-1),
        expert_ids=torch.where(used, local[owner], -1).to(torch.int32),
        num_valid=torch.cat((block_end[-1:] * block, pairs.processed)).to(torch.int32),
    )


def _pairs(
    topk_ids: torch.Tensor,
    topk_weights: torch.Tensor,
    experts: int,
    expert_mask: torch.Tensor | None,
    num_local_tokens: torch.Tensor | None,
) -> _Pairs:
    tokens, topk = topk_ids.shape
    device = topk_ids.device
    if expert_mask is None:
        held = torch.ones(experts, dtype=torch.bool, device=device)
    else:
        check_mask(expert_mask, experts)
        held = expert_mask != 0
    if num_local_tokens is None:
        processed = torch.full((1,), tokens, dtype=torch.int64, device=device)
    else:
        check_count(num_local_tokens)
        processed = num_local_tokens.view(1).to(torch.int64)
    ids = topk_ids.reshape(-1).to(torch.int64)
    expert = ids.clamp(0, experts - 1)
    leading = torch.arange(tokens * topk, device=device) // topk < processed
    weight = topk_weights.reshape(-1)
    if topk_ids.is_cpu:
        _check_values(topk_ids, topk_weights, leading & held[expert], leading, experts)
        _check_range(processed, tokens)
    return _Pairs(
        expert, torch.where(ids == expert, weight, torch.nan), leading & held[expert], held,
        processed.clamp(0, tokens),
    )  # fmt: skip


def _check_values(
    ids: torch.Tensor,
    weights: torch.Tensor,
    wanted: torch.Tensor,
    leading: torch.Tensor,
    experts: int,
) -> None:
    """Refuse the first pair, in order of token and slot, that cannot be sorted."""
    flat_ids, flat_weights = ids.reshape(-1), weights.reshape(-1)
    strange = leading & ((flat_ids < 0) | (flat_ids >= experts))
    bad = strange | (wanted & ~flat_weights.isfinite())
    if not bool(bad.any()):
        return
    at = int(bad.to(torch.uint8).argmax())
    token, slot = divmod(at, ids.shape[1])
    if strange[at]:
        raise bad_expert(token, slot, int(flat_ids[at]), experts)
    raise bad_weight(token, slot, float(flat_weights[at]))


def _check_range(processed: torch.Tensor, tokens: int) -> None:
    count = int(processed)
    if not 0 <= count <= tokens:
        raise bad_count(count, tokens)


def _int32(words: torch.Tensor) -> torch.Tensor:
    """Return the low 32 bits of non-negative int64 words as int32."""
    return (words - ((words >> 31) << 32)).to(torch.int32)


def quantise(x: torch.Tensor, rounding: ScaleRounding) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantise rows [R, K] to MXFP4; codes of blocks with an infinity or NaN are 0.

    Raises
    ------
    ArgumentError, DtypeError
        `x` has another shape or dtype.
    """
    if x.dim() != 2:
        raise ArgumentError(f"quantise: wanted [rows, K], found {list(x.shape)}")
    codes, scales = quantise_1x32(x, rounding)
    undefined = (scales == NAN_SCALE).repeat_interleave(_CODES_PER_SCALE, dim=1)
    return codes.masked_fill_(undefined, 0), scales


def sort_scales(
    scales: torch.Tensor, sorted_ids: torch.Tensor, used: torch.Tensor, tokens: int
) -> torch.Tensor:
    """Gather e8m0 rows into sorted order and the 32x8 tiles of `S` (aiter ``moe_mxfp4_sort``).

    Parameters
    ----------
    scales : torch.Tensor
        uint8 [tokens * slots, columns]; with one slot a row serves every slot of its token.
    sorted_ids : torch.Tensor
        int32 [sorted].
    used : torch.Tensor
        One integer: leading sorted slots that are used.
    tokens : int
        Ids with a token from here on are pads.

    Returns
    -------
    torch.Tensor
        uint8 [sorted rounded up to 32, columns rounded up to 8], 0 in pads.
    """
    count, columns = sorted_ids.shape[0], scales.shape[1]
    slots = scales.shape[0] // max(tokens, 1)
    token = (sorted_ids & _TOKEN_MASK).to(torch.int64)
    slot = (sorted_ids >> _TOKEN_BITS & 0xFF).to(torch.int64)
    if slots == 1:
        slot = torch.zeros_like(slot)
    place = torch.arange(count, device=scales.device)
    real = (place < used) & (token < tokens) & (slot < slots)
    rows, width = S.physical_shape(count, columns)
    out = scales.new_zeros((rows, width))
    if scales.shape[0]:
        row = torch.where(real, token * slots + slot, 0)
        out[:count, :columns] = scales[row].masked_fill_(~real[:, None], 0)
    return S.shuffle(out)


def reduce(rows: torch.Tensor, topk: int, out: torch.Tensor, valid: torch.Tensor | None) -> None:
    """Sum rows over the slots of a token, in slot order and float32, rounded once.

    Parameters
    ----------
    rows : torch.Tensor
        float32 [tokens * topk, H].
    topk : int
        Slots per token.
    out : torch.Tensor
        bfloat16, float16 or float32 [tokens, H].
    valid : torch.Tensor or None
        bool [tokens, topk]; rows of false slots may hold anything.

    Raises
    ------
    ArgumentError, DtypeError
        Shapes do not fit, or a tensor has another dtype.
    """
    if rows.dtype != torch.float32 or out.dtype not in _FLOATS:
        raise DtypeError(
            f"reduce: wanted float32 rows into bfloat16, float16 or float32, found {rows.dtype} "
            f"into {out.dtype}"
        )
    if valid is not None and valid.dtype != torch.bool:
        raise DtypeError(f"reduce: valid is {valid.dtype}; pass torch.bool")
    tokens, columns = out.shape
    if rows.shape != (tokens * topk, columns):
        raise ArgumentError(
            f"reduce: rows {list(rows.shape)} with topk {topk} do not sum to {list(out.shape)}"
        )
    if valid is not None and valid.shape != (tokens, topk):
        raise ArgumentError(f"reduce: valid {list(valid.shape)} must be [{tokens}, {topk}]")
    slots = rows.view(tokens, topk, columns)
    total = torch.zeros((tokens, columns), dtype=torch.float32, device=rows.device)
    for slot in range(topk):
        added = total + slots[:, slot]
        total = added if valid is None else torch.where(valid[:, slot, None], added, total)
    out.copy_(total)
