# SPDX-License-Identifier: MIT
"""The tensors of a case: random where a kernel must look, hostile where it must not.

What no kernel may use holds the worst there is: codes of 6 and scales of NaN in the padding of
weights and in whole experts without tokens, NaN in the padding of rows and biases, in rows nobody
asks for. Weights are `verify.matrices`; what should come out is `verify.expected`; memory that a
launcher allocates is `verify.hostile`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from aiter_moe.enums import Kind
from aiter_moe.formats import MX_BLOCK, NAN_SCALE, dequantise, quantise_1x32
from aiter_moe.layouts import Layout, PackedWeight
from aiter_moe.layouts.scales import COL_TILE
from aiter_moe.pipeline import Operand
from aiter_moe.runs import Routing
from aiter_moe.sizes import round_up
from aiter_moe.verify.matrices import (
    LOWER,
    SIX_SIX,
    UPPER,
    Matrix,
    Placing,
    WeightKey,
    blocks_of,
    generator_of,
    packed_weight,
    random_bytes,
)
from aiter_moe.verify.problems import Scales, Spread, StageCase
from aiter_moe.weights import kernel_layout

ROW_MARGIN = 64
"""Bytes between rows of activations that belong to nobody."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A case with its tensors.

    Attributes
    ----------
    weight : PackedWeight
        Of all local experts, as kernels read it.
    x : Operand
        Activations by token (stage 1) or by token and slot (stage 2), with gaps between rows.
    bias : torch.Tensor or None
        float32 [experts, physical rows].
    routing : Routing
        As the sort gets it.
    owners : torch.Tensor
        int64 [tokens, topk]: local expert of each slot, -1 where nothing is computed.
    values : torch.Tensor
        float64 [rows of x, reduction]: what the codes or bf16 numbers of `x` stand for.
    """

    case: StageCase
    key: WeightKey
    weight: PackedWeight
    x: Operand
    bias: torch.Tensor | None
    routing: Routing
    owners: torch.Tensor
    values: torch.Tensor


def prepare(case: StageCase, seed: int) -> Prepared:
    """Make the tensors of a case; `seed` is that of the weights, which cases share."""
    routing, owners = _routing(case)
    key = weight_key(case, seed)
    x, values = _activations(case, owners)
    columns = case.physical.hidden if case.instance.stage == 1 else case.physical.inter
    placing = Placing(_physical_columns(case), columns, layout_of(case))
    weight = packed_weight(key, placing, local_experts(case), held_experts(owners))
    return Prepared(case, key, weight, x, _bias(case, owners), routing, owners, values)


def weight_key(case: StageCase, seed: int) -> WeightKey:
    """Return the weights of a case: gate rows then up rows, or down rows, without padding."""
    rows = case.columns * (2 if case.instance.stage == 1 else 1)
    return WeightKey(case.instance.stage, rows, case.reduction, case.scales, seed)


def _routing(case: StageCase) -> tuple[Routing, torch.Tensor]:
    generator = generator_of(case.seed, 1)
    experts, topk, tokens = case.global_experts, case.topk, case.tokens
    order = torch.rand(tokens, experts, generator=generator)
    if case.spread is Spread.ONE:
        order = order[:1].expand(tokens, -1).clone()
    if case.spread is Spread.SPARSE:
        order[:, ::2] -= 1
    ids = order.argsort(dim=1, descending=True)[:, :topk]
    weights = 0.1 + torch.rand(tokens, topk, generator=generator)
    mask = local_tokens = None
    owners = ids.clone()
    if case.spread is Spread.MASKED:
        mask = torch.zeros(experts, dtype=torch.int32)
        mask[torch.randperm(experts, generator=generator)[: topk + 1]] = 1
        rank = torch.where(mask != 0, mask.cumsum(0) - 1, -1)
        owners = rank[ids]
    if case.spread is Spread.LOCAL:
        local_tokens = torch.tensor([case.local_tokens], dtype=torch.int32)
        owners[case.local_tokens :] = -1
        ids[case.local_tokens :] = 2**30
    return Routing(weights, ids.to(torch.int32), mask, local_tokens), owners


def local_experts(case: StageCase) -> int:
    """Return the experts whose weights are in the case's tensors."""
    return case.topk + 1 if case.spread is Spread.MASKED else case.global_experts


def _used_rows(case: StageCase, owners: torch.Tensor) -> torch.Tensor:
    """Return which rows of the activations some local expert reads, bool [rows]."""
    used = owners >= 0
    return used.any(dim=1) if case.instance.stage == 1 else used.flatten()


def _activations(case: StageCase, owners: torch.Tensor) -> tuple[Operand, torch.Tensor]:
    """Return the operand a stage reads and the values it stands for."""
    used = _used_rows(case, owners)
    physical = case.physical.hidden if case.instance.stage == 1 else case.physical.inter
    if case.instance.kind is Kind.A16W4:
        rows = _bf16_rows(case, len(used))
        wide = torch.full((len(used), physical + ROW_MARGIN // 2), torch.nan, dtype=rows.dtype)
        wide[used, : case.reduction] = rows[used]
        return Operand(wide[:, :physical]), rows.double()
    if case.raw is not None:
        return _raw_rows(case, used, physical)
    codes, scales = _fp4_rows(case, len(used))
    wide = torch.full((len(used), physical // 2 + ROW_MARGIN), SIX_SIX, dtype=torch.uint8)
    wide[used, : case.reduction // 2] = codes[used]
    blocks = physical // MX_BLOCK
    if case.instance.tile.direct and case.instance.stage == 2:
        blocks = round_up(blocks, COL_TILE)  # as a direct stage 1 leaves them
    wide_scales = torch.full((len(used), blocks), NAN_SCALE, dtype=torch.uint8)
    wide_scales[used, : case.reduction // MX_BLOCK] = scales[used]
    return Operand(wide[:, : physical // 2], wide_scales), dequantise(codes, scales)


def _raw_rows(case: StageCase, used: torch.Tensor, physical: int) -> tuple[Operand, torch.Tensor]:
    """Return rows that the kernel quantises, and what they stand for once it has."""
    assert case.raw is not None
    rows = _bf16_rows(case, len(used)).clamp(-6e4, 6e4).to(case.raw)
    wide = torch.full((len(used), physical + ROW_MARGIN // 2), torch.nan, dtype=case.raw)
    wide[used, : case.reduction] = rows[used]
    return Operand(wide[:, :physical]), dequantise(*quantise_1x32(rows))


def _bf16_rows(case: StageCase, rows: int) -> torch.Tensor:
    generator = generator_of(case.seed, 2)
    values = torch.randn(rows, case.reduction, generator=generator)
    if case.scales is Scales.EXTREME:
        blocks = values.view(rows, -1, MX_BLOCK)
        for block in blocks_of(case.reduction, UPPER).tolist():
            signs = blocks[:, block, block % MX_BLOCK].sign()
            blocks[:, block] = 0
            blocks[:, block, block % MX_BLOCK] = signs * 2.0**-125
    return values.to(torch.bfloat16)


def _fp4_rows(case: StageCase, rows: int) -> Matrix:
    generator = generator_of(case.seed, 3)
    codes = random_bytes((rows, case.reduction // 2), generator)
    scales = 124 + random_bytes((rows, case.reduction // MX_BLOCK), generator) % 3
    if case.scales is Scales.EXTREME:
        blocks = codes.view(rows, -1, MX_BLOCK // 2)
        for which, lowest in ((UPPER, 0), (LOWER, 252)):
            chosen = blocks_of(case.reduction, which)
            lone = (blocks[:, chosen, :1] & 0x80) | 0x10  # one odd element of 0.5 or -0.5
            blocks[:, chosen] = 0
            blocks[:, chosen, 3:4] = lone
            scales[:, chosen] = lowest + scales[:, chosen] % 2
    return Matrix(codes, scales)


def _bias(case: StageCase, owners: torch.Tensor) -> torch.Tensor | None:
    if not case.bias:
        return None
    generator = generator_of(case.seed, 4)
    physical, columns = _physical_columns(case), case.columns
    halves = 2 if case.instance.stage == 1 else 1
    bias = torch.full((local_experts(case), halves, physical), torch.nan)
    held = held_experts(owners)
    bias[held, :, :columns] = torch.randn(len(held), halves, columns, generator=generator)
    return bias.flatten(1)


def held_experts(owners: torch.Tensor) -> list[int]:
    """Return the local experts that get tokens, ascending."""
    return sorted(set(owners[owners >= 0].tolist()))


def _physical_columns(case: StageCase) -> int:
    """Return output columns of the weight tensor: per half in stage 1."""
    return case.physical.inter if case.instance.stage == 1 else case.physical.hidden


def layout_of(case: StageCase) -> Layout:
    """Return how the weight of a case lies."""
    return kernel_layout(case.instance.target, f"w{case.instance.stage}", case.gate_mode)
